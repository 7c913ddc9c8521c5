"""The race while it runs: one line a trial, the leader in color, what was stopped faint."""

import math

import pytest

from semfreeze_core.records.race import RacingVariant
from semfreeze_core.records.rates import RateTrial
from semfreeze_dashboard.charts.racing import draw_racing
from semfreeze_dashboard.charts.theme import TRAINED


def trial(rate, train_losses, end="read"):
    return RateTrial(
        rate=rate, end=end, steps=len(train_losses), half_losses=None, losses=[1.0] if end == "read" else None,
        train_losses=train_losses, flop=1, seconds=1.0,
    )  # fmt: skip


def drawn(figure):
    return {trace.name: trace for trace in figure.data if trace.mode == "lines"}


def test_draw_racing_has_the_running_mean_of_every_trial():
    racing = [RacingVariant("full", (trial(1e-4, [6.0, 5.0, 4.0, 3.0, 2.0, 1.0]),))]
    (line,) = drawn(draw_racing(racing)).values()
    assert list(line.x) == [5, 6]
    assert list(line.y) == pytest.approx([4.0, 3.0])


def test_draw_racing_leads_with_the_lowest_loss_and_fades_what_was_stopped():
    losses = [3.0] * 6
    racing = [
        RacingVariant("full", (trial(1e-4, losses), trial(3e-4, losses, "behind")), True, 1.5, 1e-4),
        RacingVariant("depth:19", (trial(3e-4, losses), trial(1e-4, losses)), True, 1.2, 3e-4),
    ]
    lines = drawn(draw_racing(racing))
    leading = [name for name, line in lines.items() if line.line.color == TRAINED]
    faint = [name for name, line in lines.items() if line.line.color.endswith(",0.25)")]
    assert leading == ["freeze 19, rate 3e-4"]
    assert faint == ["train all layers, rate 3e-4, stopped", "freeze 19, rate 1e-4, stopped"]


def test_draw_racing_ends_a_line_where_the_loss_is_no_number():
    (line,) = drawn(draw_racing([RacingVariant("full", (trial(1.0, [2.0, 1.0, math.nan, 1.0], "diverged"),))])).values()
    assert list(line.x) == [2]


def test_draw_racing_before_the_first_step_draws_nothing():
    assert draw_racing([RacingVariant("full", ())]) is None
