"""What a race of variants costs, before it starts, and what the finetunes cost that it chooses from."""

from dataclasses import dataclass, replace

from semfreeze_core.cost import depth_cost, parts_at_depth, progressive_flop, run_flop, step_flop, trial_flop
from semfreeze_core.finetune.arm.flop import evaluation_flop
from semfreeze_core.finetune.validation.race_request import RaceRequest
from semfreeze_core.finetune.validation.request import Prepared
from semfreeze_core.gains.race_price import RacePrice, race_price
from semfreeze_core.plan.auto import trial_after_race
from semfreeze_core.records.cost import DepthCost
from semfreeze_core.records.training import DepthSwitch, TrainingSetup


@dataclass(frozen=True)
class RaceEstimate:
    """What a race and the finetunes it chooses from cost, before it starts.

    Attributes:
        costs: of each variant's whole finetune, by name, at the data's own lengths.
        price: what the race adds.
        baseline_flop: of the evaluation before training.
        full_flop: of the whole finetune with every layer trained.
        n_eval: eval examples.
        trial: the finetune that a trial tries where the deepest variant does not win, or None.
        deeper_flop: of that whole finetune, or None.
    """

    costs: dict[str, DepthCost]
    price: RacePrice
    baseline_flop: int
    full_flop: int
    n_eval: int
    trial: DepthSwitch | None
    deeper_flop: int | None


def estimate_race(request: RaceRequest, prepared: Prepared) -> RaceEstimate:
    """The cost of a race, and of the finetunes it chooses from.

    Args:
        request: of the race.
        prepared: its validation.
    """
    costs = {arm.name: _whole_cost(request, prepared, arm.name) for arm in prepared.arms}
    baseline = _baseline_flop(prepared)
    readings = baseline + sum(last_evaluation_flop(prepared, name) for name in costs)
    whole, steps = _whole_setup(request, prepared), [_step_flop(prepared, arm.name) for arm in prepared.arms]
    trial = trial_after_race(request.variants.values(), request.objective, request.raced_steps, request.setup.steps)
    tried = 0 if trial is None else trial_flop(prepared.shape, whole, trial, deeper=True)
    return RaceEstimate(
        costs=costs,
        price=race_price(steps, readings, request.raced_steps, tried),
        baseline_flop=baseline,
        full_flop=run_flop(prepared.shape, replace(whole, prefix_cache=False), parts_at_depth(prepared.shape, 0)),
        n_eval=len(prepared.data.evaluation.tokenized),
        trial=trial,
        deeper_flop=None if trial is None else progressive_flop(prepared.shape, whole, trial),
    )


def _whole_setup(request: RaceRequest, prepared: Prepared) -> TrainingSetup:
    """The whole finetune at the data's own mean length."""
    lengths = next(iter(prepared.setups.values()))
    return replace(
        lengths,
        steps=request.setup.steps,
        train_examples=min(request.n_rows, request.n_train),
        prefix_cache=request.setup.prefix_cache,
    )


def _whole_cost(request: RaceRequest, prepared: Prepared, name: str) -> DepthCost:
    return depth_cost(
        prepared.shape, _whole_setup(request, prepared), parts_at_depth(prepared.shape, request.variants[name])
    )


def _step_flop(prepared: Prepared, name: str) -> int:
    setup = prepared.setups[name]
    arm = next(arm for arm in prepared.arms if arm.name == name)
    return step_flop(prepared.shape, setup, arm.parts, cached=setup.prefix_cache and arm.freeze_depth > 0).total


def last_evaluation_flop(prepared: Prepared, name: str) -> int:
    """FLOPs of a variant's evaluation after its last step in the race."""
    arm = next(arm for arm in prepared.arms if arm.name == name)
    return evaluation_flop(prepared.shape, prepared.setups[name], arm.parts, prepared.data.evaluation.tokenized)


def _baseline_flop(prepared: Prepared) -> int:
    setup = next(iter(prepared.setups.values()))
    full = parts_at_depth(prepared.shape, 0)
    uncached = replace(setup, prefix_cache=False)
    return evaluation_flop(prepared.shape, uncached, full, prepared.data.evaluation.tokenized)
