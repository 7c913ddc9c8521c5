"""From counts to problems, on two layers written down by hand."""

from dataclasses import replace

import pytest

from semfreeze_core.finetune.audit.gradient_path import GradientPath
from semfreeze_core.finetune.audit.problems import Finding, find_problems


def by_hand(**changes):
    """Two layers of parameters 1 and 2, between an embedding 0 and a head 3; layer 1 is trained and learns."""
    path = GradientPath(False, (False, True), frozenset({0}), frozenset({2}))
    names = {0: "embedding", 1: "layers.0", 2: "layers.1", 3: "head"}
    layers = (frozenset({1}), frozenset({2}))
    whole = Finding(names, layers, frozenset({2}), None, None, path, (1.0, 1.0), None)
    return replace(whole, **changes)


@pytest.mark.parametrize(
    ("realised", "said"),
    [
        ((1.0, 1.0), []),
        ((None, None), []),
        ((0.995, 1.2), []),
        ((0.5, 1.0), ["Only 50% of the possible compute saving"]),
        ((1.0, 0.0), ["Only 0% of the possible activation saving"]),
        ((0.4, 0.25), ["Only 40% of the possible compute saving", "Only 25% of the possible activation saving"]),
    ],
)
def test_find_problems_tells_a_loss_that_nothing_else_explains(realised, said):
    problems = find_problems(by_hand(realised=realised))
    assert [problem.cause.split(" is realized")[0] for problem in problems] == said
    assert {problem.kind for problem in problems} <= {"saving lost"}


def test_find_problems_tells_a_loss_once_when_its_cause_is_known():
    path = GradientPath(True, (True, True), frozenset({0}), frozenset({2}))
    (problem,) = find_problems(by_hand(path=path, realised=(0.5, 0.5)))
    assert problem.kind == "gradient through frozen layers"
