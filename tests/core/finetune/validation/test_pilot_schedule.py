"""Pilots stay inside their budget: their price by the cost model, the longest that fit, the least that is told."""

from dataclasses import replace

import pytest

from semfreeze_core.cost import parts_at_depth, run_flop
from semfreeze_core.errors import InputError
from semfreeze_core.finetune.validation.pilot_schedule import (
    PilotCosts,
    affordable_eval_examples,
    candidate_depths,
    plan_pilots,
    round_sizes,
)
from semfreeze_core.finetune.validation.pilots import epochs_notes
from semfreeze_core.records.defaults import PILOT_STEPS
from semfreeze_core.records.training import TrainingSetup
from semfreeze_core.runs.folder import read_run
from semfreeze_core.runs.store import example_run

SETUP = TrainingSetup(
    batch_size=8, sequence_length=100, supervised_fraction=0.3, train_examples=4000, steps=1500, loss="supervised-only"
)


@pytest.fixture(scope="module")
def shape():
    return read_run(example_run()).shape


def costs(shape, **changed):
    how = {"setup": SETUP, "aim": "compute", "n_eval": 64, "eval_length": 100} | changed
    return PilotCosts(shape, **how)


def test_steps_of_equal_compute_cost_what_full_finetuning_costs(shape):
    made = costs(shape)
    for depth in (7, 15, 22):
        steps = made.whole_steps(depth)
        setup = replace(SETUP, steps=steps, prefix_cache=True)
        flop = run_flop(shape, setup, parts_at_depth(shape, depth))
        assert flop <= made.full_flop < run_flop(shape, replace(setup, steps=steps + 1), parts_at_depth(shape, depth))
    assert made.whole_steps(0) == SETUP.steps
    assert costs(shape, aim="steps").whole_steps(22) == SETUP.steps


def test_epochs_by_hand(shape):
    made = costs(shape)
    assert made.epochs(0) == 1500 * 8 / 4000
    assert made.epochs(22) == made.whole_steps(22) * 8 / 4000 > 4
    assert costs(shape, aim="steps").epochs(22) == 3


def test_many_epochs_at_the_same_compute_are_reported_where_pilots_cannot_show_them(shape):
    (note,) = epochs_notes(costs(shape), 22)
    assert f"depth 22 trains {costs(shape).epochs(22):.1f} epochs on the 4,000 training examples" in note
    assert "full finetuning 3.0." in note
    assert epochs_notes(costs(shape, aim="steps"), 22) == []
    assert epochs_notes(costs(shape, setup=replace(SETUP, steps=500)), 22) == []


def test_a_pilots_steps_and_states_are_the_run_it_begins(shape):
    """A pass over n examples with a cache costs its cached steps and its boundary states, as the cost model says."""
    made, steps = costs(shape), 100
    setup = replace(SETUP, steps=steps, prefix_cache=True)
    for depth in (7, 22):
        states = made.states_flop(depth, steps * SETUP.batch_size) - made.states_flop(depth, 0)
        assert states + made.training_flop(depth, steps) == run_flop(shape, setup, parts_at_depth(shape, depth))


def test_without_a_cache_every_step_is_whole_and_nothing_is_kept(shape):
    made = costs(shape, prefix_cache=False)
    setup = replace(SETUP, steps=10)
    assert made.training_flop(15, 10) == run_flop(shape, setup, parts_at_depth(shape, 15))
    assert made.states_flop(15, 80) == 0
    assert made.evaluation_flop(15) == made.evaluation_flop(0)


def test_an_evaluation_from_a_boundary_and_its_states_make_a_whole_one(shape):
    made = costs(shape)
    assert made.evaluation_flop(15) + made.states_flop(15, 0) == made.evaluation_flop(0)


@pytest.mark.quick_cases(3)
@pytest.mark.parametrize("budget", [0.1, 0.15, 0.5])
def test_pilots_fill_their_budget_and_stay_inside(shape, budget):
    made = costs(shape)
    pilots = plan_pilots(made, (7, 15, 19, 22), budget)
    assert 0.93 * budget * made.full_flop < pilots.flop <= 0.97 * budget * made.full_flop
    assert pilots.sizes == (4, 2)
    assert pilots.shares[1] == pytest.approx(2 * pilots.shares[0])
    # whoever stays, it is within what was promised
    for stayed in ((7, 15), (7, 22), (19, 22)):
        spent = 2 * made.evaluation_flop(0) + made.states_flop(22, pilots.n_train)
        for depths, share in zip(((7, 15, 19, 22), stayed), pilots.shares, strict=True):
            spent += sum(made.pilot_flop(depth, share) for depth in depths)
        assert spent <= pilots.flop


@pytest.mark.parametrize(("steps", "least", "most"), [(60, 64, 64), (1500, 65, 500), (200_000, 1024, 1024)])
def test_a_longer_finetune_is_decided_on_more_items(shape, steps, least, most):
    made = costs(shape, setup=replace(SETUP, steps=steps))
    n_examples = affordable_eval_examples(made, (7, 15, 19, 22), 0.15, 5000)
    assert least <= n_examples <= most
    assert affordable_eval_examples(made, (7, 15, 19, 22), 0.15, 40) == 40


def test_evaluations_take_a_quarter_of_the_budget(shape):
    made, depths = costs(shape), (7, 15, 19, 22)
    made = replace(made, n_eval=affordable_eval_examples(made, depths, 0.15, 5000))
    with_evaluations = plan_pilots(made, depths, 0.15)
    evaluations = 2 * made.evaluation_flop(0) + made.states_flop(22, 0) + 6 * made.evaluation_flop(7)
    assert 0.24 < evaluations / (0.15 * made.full_flop) <= 0.25
    assert with_evaluations.flop <= 0.97 * 0.15 * made.full_flop


def test_a_pilot_is_never_longer_than_its_finetune(shape):
    assert plan_pilots(costs(shape), (15, 22), 1.0).shares <= (1.0,)


def test_a_budget_too_small_says_the_least_that_is_enough(shape):
    made = costs(shape)
    with pytest.raises(
        InputError, match=rf"at least {PILOT_STEPS} steps, with their evaluations, take (\d+)% of"
    ) as error:
        plan_pilots(made, (7, 15, 19, 22), 0.001)
    least = int(str(error.value).split("% of")[0].split()[-1]) / 100
    assert plan_pilots(made, (7, 15, 19, 22), least).shares[0] >= PILOT_STEPS / SETUP.steps
    with pytest.raises(InputError):
        plan_pilots(made, (7, 15, 19, 22), least - 0.01)


def test_a_finetune_shorter_than_a_pilot_is_refused(shape):
    with pytest.raises(InputError, match="take more than this finetune of 5 steps of 8"):
        plan_pilots(costs(shape, setup=replace(SETUP, steps=5)), (15, 22), 0.15)


@pytest.mark.parametrize(("budget", "depths", "message"), [(0, (1, 2), "in \\(0, 1\\]"), (0.1, (3, 3), "at least two")])
def test_nonsense_is_refused(shape, budget, depths, message):
    with pytest.raises(InputError, match=message):
        plan_pilots(costs(shape), depths, budget)


def test_the_worse_half_is_dropped_each_round():
    assert [round_sizes(n) for n in (2, 3, 4, 5, 8)] == [(2,), (3, 2), (4, 2), (5, 3, 2), (8, 4, 2)]


@pytest.mark.parametrize(
    ("proposals", "aim", "expected"),
    [
        ([19, 20], "compute", (7, 15, 19, 22)),
        ([17, None], "compute", (7, 17, 20)),
        ([16, 22], "compute", (7, 16, 22)),
        ([None, None], "compute", (7, 15, 20)),
        ([22, 15], "steps", (0, 7, 15, 22)),
        ([16], "steps", (0, 7, 16, 20)),
        ([5, 9], "cheapest", (0, 5, 9, 20)),
    ],
)
def test_candidates_hold_the_picks_and_a_spread_apart_from_each_other(proposals, aim, expected):
    assert candidate_depths(30, proposals, aim) == expected
