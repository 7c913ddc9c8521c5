"""A plan's headline says what to do, its cost says at which steps, and coverage stays in the details."""

from types import SimpleNamespace

import pytest

from semfreeze_core.cost.setup import stock_trainer
from semfreeze_core.plan.make import make_plan
from semfreeze_core.wording import plan as wording
from semfreeze_core.wording.costs import cost_sentence, gpu_fit_sentence, plan_cost_table, setup_line


@pytest.fixture(scope="module")
def plan(run):
    return make_plan(run)


def test_summary_pairs_the_depth_with_its_cost_at_the_same_steps(plan):
    assert wording.plan_summary(plan) == [
        "Freeze the first 19 of 30 layers and train the last 11.",
        "Estimated cost at the same steps: 47% of full finetuning's compute, 49% of its memory.",
        "In a stock trainer (full logits, no prefix cache): 59% of full finetuning's compute, 57% of its memory.",
    ]


def test_details_have_the_coverage_and_what_it_is_not(run):
    first, *_, last = wording.plan_details(make_plan(run, rule="coverage"))
    assert first == ("Coverage R(19): 0.95 (95% CI 0.94–0.95). Used to choose the depth; it does not forecast loss.")
    assert last == "Maximum automatic depth: 22 (the last quarter of the layers always trains)."


def test_a_depth_chosen_by_hand_was_not_chosen_by_coverage(run):
    manual = make_plan(run, rule="manual", depth=25)
    assert wording.plan_details(manual)[0].endswith("). It does not forecast loss.")
    assert not any("Maximum automatic depth" in line for line in wording.plan_details(manual))


@pytest.mark.parametrize(
    ("depth", "headline"),
    [
        (0, "Train all 4 layers and freeze none."),
        (1, "Freeze the first layer of 4 layers and train the last 3."),
        (3, "Freeze the first 3 of 4 layers and train the last layer."),
        (4, "Freeze all 4 layers."),
    ],
)
def test_depth_headline_at_the_ends(depth, headline):
    assert wording.depth_headline(depth, 4) == headline


def test_no_recommendation_names_the_formulas_depth(plan):
    none = plan.model_copy(update={"recommendation": "abstain", "freeze_depth": None})
    assert wording.plan_summary(none) == ["No recommendation from the auto rule. Its formula alone selects depth 19."]


def test_coverage_that_was_not_measured_says_so():
    unknown = SimpleNamespace(estimate=None, low=None, high=None)
    assert wording.coverage_sentence(3, unknown) == "Coverage R(3) was not measured."


def test_cost_without_a_memory_total_says_that_it_is_unknown():
    cost = SimpleNamespace(relative_flop=0.5, relative_bytes=None)
    assert cost_sentence(cost).endswith("50% of full finetuning's compute, its memory is unknown.")


def test_plan_cost_table_has_the_plan_beside_full_finetuning(plan):
    table = plan_cost_table(plan)
    assert [column.title for column in table.columns] == ["estimated cost", "freeze 19", "full finetuning"]
    cells = {row[0].strip(): row[1:] for row in table.rows}
    assert cells["compute, all steps"] == ("427 TFLOPs", "918 TFLOPs")
    assert cells["memory"] == ("4.4 GiB", "9.0 GiB")


def test_setup_line_names_the_logits_that_are_kept(plan):
    assert setup_line(plan.cost.setup).endswith("adamw, float32, target-token logits, prefix cache")
    assert setup_line(stock_trainer(plan.cost.setup)).endswith("adamw, float32, full logits, no prefix cache")


@pytest.mark.parametrize(
    ("least", "fits"),
    [(None, "fits at no freeze depth."), (0, "including full finetuning."), (7, "fits from freeze depth 7 on.")],
)
def test_gpu_fit_sentence_names_the_least_depth(least, fits):
    known = [SimpleNamespace(bytes=SimpleNamespace(total=1))]
    assert gpu_fit_sentence("T4", 16 * 10**9, known, least).endswith(fits)
    if least == 0:
        assert gpu_fit_sentence("T4", 16 * 10**9, known, 0, adapters=True).endswith("including adapters on all layers.")
    unknown = [SimpleNamespace(bytes=SimpleNamespace(total=None))]
    assert "whether it fits is unknown" in gpu_fit_sentence("T4", 16 * 10**9, unknown, None)
