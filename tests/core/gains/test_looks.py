"""Whether a finetune freezes deeper: paired, in both weightings, and within the margin of the whole loss reduction."""

import numpy as np
import pytest

from semfreeze_core.gains.looks import decide_look

N = 64
RNG = np.random.default_rng(0)
BEFORE, NOISE, TOKENS = 2 + RNG.random(N), 0.01 * RNG.standard_normal(N), 1 + RNG.integers(0, 20, N)


@pytest.mark.parametrize(
    ("more", "deeper"),
    [
        (-0.01, True),  # better than what trains now
        (0.02, True),  # 2% of the loss reduction of 1 nat
        (0.04, True),
        (0.06, False),
        (1.5, False),  # above where it began
    ],
)
def test_it_freezes_deeper_where_that_loses_less_than_the_margin(more, deeper):
    wide = BEFORE - 1
    look = decide_look(20, BEFORE.tolist(), wide.tolist(), (wide + more + NOISE).tolist(), TOKENS.tolist())
    assert look.deeper is deeper
    assert (look.step, look.wide_loss) == (20, pytest.approx(wide.mean()))
    assert look.deep_loss == pytest.approx((wide + more + NOISE).mean())


def test_where_examples_differ_too_much_to_tell_it_does_not():
    wide = BEFORE - 1
    unsure = wide + 0.03 + 0.5 * RNG.standard_normal(N)
    look = decide_look(20, BEFORE.tolist(), wide.tolist(), unsure.tolist(), TOKENS.tolist())
    assert "within" not in (look.items_standing, look.tokens_standing)
    assert not look.deeper


def test_a_loss_of_long_completions_alone_keeps_it_from_freezing_deeper():
    wide, long = BEFORE - 1, TOKENS > 15
    look = decide_look(20, BEFORE.tolist(), wide.tolist(), (wide + 0.15 * long - 0.02).tolist(), TOKENS.tolist())
    assert look.items_standing == "within"
    assert look.tokens_standing != "within"
    assert not look.deeper
