"""The whole way from random data to a decision: on labels that follow from nothing, the product must abstain."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from semfreeze_core.gains import gain_curve
from semfreeze_core.plan.rules import Decision, decide_by_coverage, decide_by_paper
from semfreeze_core.records.examples import TokenizedExample
from semfreeze_core.records.gain import GainCurve
from semfreeze_core.semantics.analysis import prepare_labels, read_traces
from semfreeze_core.semantics.positions import choose_positions
from semfreeze_core.semantics.task_null import read_task_null
from semfreeze_core.sources.models.decoder import Decoder, find_decoder
from tests.core.semantics.tiny_examples import make_example, random_examples
from tests.core.tiny_models import build_tiny

SEEDS = range(20)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def _curve(decoder: Decoder, examples: list[TokenizedExample], seed: int) -> GainCurve:
    positions = choose_positions(examples, 64, seed)
    labels = prepare_labels(decoder, examples, positions, real_rows=97)
    traces, _ = read_traces(decoder, examples, positions, labels)
    pairs, _ = read_task_null(decoder, examples, labels, position_limit=64, seed=seed)
    return gain_curve(traces["semantic"], pairs["semantic"], tied=decoder.tied, seed=seed)


@pytest.fixture(scope="module")
def unrelated() -> list[GainCurve]:
    """Curves of a random model each on 64 completions that are independent of their prompts."""
    torch.set_num_threads(1)
    curves = []
    for seed in SEEDS:
        decoder = find_decoder(build_tiny("llama", n_layers=6, tied=seed % 2 == 0, seed=seed))
        examples = random_examples(64, seed, prompt=(4, 8), completion=(2, 4))
        curves.append(_curve(decoder, examples, seed))
    return curves


@pytest.mark.quick_cases(2)
@pytest.mark.parametrize("decide", [decide_by_coverage, decide_by_paper])
def test_decide_abstains_on_independently_random_labels(
    unrelated: list[GainCurve], decide: Callable[[GainCurve], Decision]
) -> None:
    decisions = [decide(curve) for curve in unrelated]
    assert sum(decision.recommendation == "abstain" for decision in decisions) >= 18
    assert all(decision.candidate_depth is not None for decision in decisions)
    # Nearly always already because there is no evidence, not because the curve happens to look odd.
    assert sum(curve.evidence.verdict == "no evidence" for curve in unrelated) >= 18


def test_judge_evidence_controls_err_about_as_often_as_a_fair_interval(unrelated: list[GainCurve]) -> None:
    # Each one-sided bound of a 95 % interval errs once in 40: of 20 more than 4 would be no accident (1 in 5000).
    for errors in (
        sum(curve.evidence.advantage.low > 0 for curve in unrelated),
        sum(curve.evidence.task_null.low > 0 for curve in unrelated),
    ):
        assert errors <= 4
    # And the intervals have not simply grown: they are narrow beside the deviation's range of 2.
    assert max(curve.evidence.task_null.high - curve.evidence.task_null.low for curve in unrelated) < 0.5


@pytest.mark.parametrize("seed", range(3))
def test_decide_by_coverage_recommends_where_layers_do_the_task(seed: int) -> None:
    """A model whose last layers add the label's own direction to a state: the prompt's last token tells the label."""
    decoder = find_decoder(build_tiny("llama", n_layers=8, seed=seed))
    rng = np.random.default_rng(seed)
    label_of = {token: 60 + token % 8 for token in range(20, 60)}
    examples = []
    for row in range(64):
        cue = int(rng.integers(20, 60))
        examples.append(make_example([*rng.integers(3, 20, 5).tolist(), cue], [label_of[cue]], row=row))
    bases = torch.linalg.pinv(decoder.head.weight.detach()).T
    bases = bases / bases.norm(dim=1, keepdim=True)
    directions = torch.zeros(97, 32)
    for token, label in label_of.items():
        directions[token] = bases[label]
    tokens: list[torch.Tensor] = []
    decoder.base.register_forward_pre_hook(lambda _, __, kwargs: tokens.append(kwargs["input_ids"]), with_kwargs=True)
    for layer in (5, 6, 7):
        decoder.layers[layer].register_forward_hook(
            lambda _, __, output: output + 0.05 * directions[tokens[-1]] * 32**0.5
        )
    curve = _curve(decoder, examples, seed)
    assert curve.evidence.verdict == "evidence", curve.evidence.reasons
    decision = decide_by_coverage(curve)
    assert decision.recommendation == "freeze", decision.reasons
    assert decision.freeze_depth == 5  # layers 0 to 4 do nothing for the label: R(5) is near 1
    assert curve.coverage.mean[5] > 0.9
