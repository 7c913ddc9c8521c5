"""Short real finetunes of a few freeze depths that decide which is best: successive halving within a budget."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from semfreeze_core.cost import parts_at_depth
from semfreeze_core.errors import InputError
from semfreeze_core.finetune.arm.flop import cache_flop
from semfreeze_core.finetune.arm.job import ModelSource
from semfreeze_core.finetune.runner.runner import Runner, open_runner
from semfreeze_core.finetune.validation.pilot_schedule import (
    PilotCosts,
    PilotPlan,
    affordable_eval_examples,
    plan_pilots,
)
from semfreeze_core.finetune.validation.request import Prepared, ValidationRequest, prepare
from semfreeze_core.finetune.validation.validate import validate
from semfreeze_core.gains.noninferiority import Floats, draw, improvement
from semfreeze_core.gains.pilots import choose, decision_reasons, paired_difference, remaining_depths
from semfreeze_core.plan.document import FreezePlan
from semfreeze_core.progress import Progress, ProgressEvent, silent
from semfreeze_core.records.defaults import MANY_EPOCHS, MARGIN, MAX_LENGTH, PILOT_BUDGET, PILOT_EVAL_ROWS
from semfreeze_core.records.fields import FieldMapping
from semfreeze_core.records.interval import IntervalEntry
from semfreeze_core.records.pilots import (
    MEASUREMENT,
    Aim,
    Measurement,
    Pilot,
    PilotRound,
    ProposedBy,
)
from semfreeze_core.records.provenance import provenance_now
from semfreeze_core.records.training import TrainingSetup
from semfreeze_core.records.validation import ArmRun, ValidationReport
from semfreeze_core.storage import write_atomically
from semfreeze_core.wording.numbers import flops, percent, percent_as_given

_LENGTHS_FROM = 1024  # examples whose lengths stand for the training set's
_UNKNOWN = IntervalEntry(estimate=None, low=None, high=None)


@dataclass(frozen=True)
class MeasureRequest:
    """What the pilots are to decide.

    Attributes:
        plan: of the model; its own depth does not matter.
        setup: the planned finetune: steps, batch, examples, precision, checkpointing; lengths come from the data.
        train, evaluation, mapping, max_length, add_eos, model, rates: as in ValidationRequest.
        depths: candidates.
        proposed, proposed_by: the one among them that is selected unless another is significantly better, and who
            proposed it, or None.
        aim: best loss at the same compute or the same steps, or the deepest depth within `margin` of full finetuning.
        budget: share of one full finetune's FLOPs that all pilots may take.
        n_eval: eval examples; None takes `affordable_eval_examples`.
        margin: share of full finetuning's loss reduction that "cheapest" may lose.
        prefix_cache: compute frozen layers once, shared by all pilots.
        runner: who trains the pilots, as `open_runner` takes it.
    """

    plan: FreezePlan
    setup: TrainingSetup
    train: str
    evaluation: str
    depths: tuple[int, ...]
    proposed: int | None = None
    proposed_by: ProposedBy | None = None
    mapping: FieldMapping = field(default_factory=FieldMapping)
    max_length: int = MAX_LENGTH
    add_eos: bool = True
    aim: Aim = "compute"
    budget: float = PILOT_BUDGET
    n_eval: int | None = None
    margin: float = MARGIN
    rates: dict[str, float] | None = None
    prefix_cache: bool = True
    model: ModelSource | None = None
    runner: Runner | str | None = None


def measure(
    request: MeasureRequest, folder: Path, *, overwrite: bool = False, progress: Progress = silent
) -> Measurement:
    """Run the pilots and decide.

    Args:
        request: what to decide.
        folder: of the rounds, each a validation; results that are there are used.
        overwrite: replace other pilots.
        progress: receives the estimated cost before anything starts, then steps and stages.

    Raises:
        InputError: as `prepare` and `plan_pilots`; a setup pilots cannot stand for; or no pilot gave a result.
    """
    _refuse_setup(request.setup, request.aim, request.depths)
    depths = sorted(set(request.depths))
    prepared = prepare(_validation(request, depths, {}, _LENGTHS_FROM), progress)
    costs = _costs(request, prepared)
    if request.n_eval is None:
        n_eval = affordable_eval_examples(costs, depths, request.budget, costs.n_eval)
        request = replace(request, n_eval=n_eval)
        costs = _costs(request, prepare(_validation(request, depths, {}, _LENGTHS_FROM), progress))
    pilots = plan_pilots(costs, depths, request.budget)
    progress(ProgressEvent("Pilots", message=estimate_note(costs, pilots, depths, request.budget)))
    before, losses, rounds, spent_flop = None, dict[int, Floats](), list[PilotRound](), 0
    with open_runner(request.runner, prepared.source.device) as runner:
        for number, share in enumerate(pilots.shares, 1):
            steps = {depth: costs.pilot_steps(depth, share) for depth in depths}
            round_request = _validation(request, depths, steps, pilots.n_train)
            prepared = prepare(round_request, progress)
            report = validate(
                round_request,
                folder / f"round-{number}",
                overwrite=overwrite,
                progress=progress,
                runner=runner,
            )
            before = np.array(report.baseline.item_losses)
            spent_flop += costs.evaluation_flop(0)
            spent_flop += costs.states_flop(max(depths), len(prepared.data.train.tokenized)) if number == 1 else 0
            losses, round_pilots = _pilots(report, prepared, costs)
            spent_flop += sum(pilot.flop for pilot in round_pilots)
            following = pilots.sizes[number] if number < len(pilots.sizes) else 1
            depths = remaining_depths(before, losses, request.aim, request.margin, following, request.proposed)
            rounds.append(PilotRound(share=share, pilots=round_pilots, kept=depths))
    assert before is not None
    chosen = choose(before, losses, request.aim, request.margin, request.proposed)
    reduction = improvement(before, losses[chosen][None], draw(1, len(before)))
    measurement = Measurement(
        aim=request.aim,
        proposed=request.proposed,
        proposed_by=request.proposed_by,
        margin=request.margin,
        train=request.train,
        eval=request.evaluation,
        n_train=pilots.n_train,
        n_eval=len(before),
        steps=request.setup.steps,
        batch_size=request.setup.batch_size,
        n_layers=request.plan.n_layers,
        loss_before=float(before.mean()),
        improvement=IntervalEntry.of(reduction),
        full_flop=costs.full_flop,
        budget_flop=int(request.budget * costs.full_flop),
        promised_flop=pilots.flop,
        spent_flop=spent_flop,
        rounds=rounds,
        freeze_depth=chosen if reduction.low > 0 else None,
        candidate_depth=chosen,
        reasons=[
            *decision_reasons(
                before, losses, request.aim, request.margin, chosen, request.proposed, request.proposed_by
            ),
            *epochs_notes(costs, chosen),
        ],
        provenance=provenance_now(0),
    )
    write_atomically(folder / MEASUREMENT, measurement.model_dump_json(indent=1) + "\n")
    return measurement


def estimate_note(costs: PilotCosts, pilots: PilotPlan, depths: Sequence[int], budget: float) -> str:
    """A sentence on what the pilots will cost, before they start."""
    rounds = " then ".join(str(size) for size in pilots.sizes)
    return (
        f"Pilots of depths {', '.join(map(str, depths))} ({rounds}) on {pilots.n_train} examples, evaluated on "
        f"{costs.n_eval} eval examples, take at most {percent(pilots.flop / costs.full_flop, 1)} of the compute of one "
        f"full finetune ({costs.setup.steps} steps of {costs.setup.batch_size}, {flops(costs.full_flop)}). The budget "
        f"is {percent_as_given(budget)}."
    )


def epochs_notes(costs: PilotCosts, depth: int) -> list[str]:
    """A sentence where this depth's finetune repeats its examples more often than pilots can show; else none."""
    if costs.aim != "compute" or costs.epochs(depth) <= MANY_EPOCHS:
        return []
    return [
        f"At full finetuning's compute, depth {depth} trains {costs.epochs(depth):.1f} epochs on the "
        f"{costs.setup.train_examples:,} training examples, full finetuning {costs.epochs(0):.1f}. Pilots do not show "
        "the effect of so many epochs, in which a model may overfit: validate the depth, choose --aim steps, or "
        "train with --keep-best."
    ]


def _refuse_setup(setup: TrainingSetup, aim: Aim, depths: Sequence[int]) -> None:
    problems = []
    if setup.lora is not None:
        problems.append("pilots train whole layers: omit --lora")
    if setup.optimizer != "adamw":
        problems.append(f"pilots train with adamw, not {setup.optimizer}")
    if setup.frozen_bits is not None:
        problems.append("pilots do not quantize frozen layers: omit --frozen-bits")
    if setup.checkpointing == "transformers-5":
        problems.append("pilots support --checkpointing non-reentrant or reentrant")
    if aim == "cheapest" and 0 not in depths:
        problems.append("--aim cheapest compares with full finetuning: include depth 0 in --depths")
    if problems:
        raise InputError("; ".join(problems) + ".")


def _validation(
    request: MeasureRequest, depths: Sequence[int], steps: dict[int, int], n_train: int
) -> ValidationRequest:
    names = {depth: f"depth:{depth}" if depth else "full" for depth in depths}
    setup = request.setup
    return ValidationRequest(
        plan=request.plan,
        train=request.train,
        evaluation=request.evaluation,
        setup=replace(
            setup,
            sequence_length=request.max_length,
            train_examples=min(n_train, setup.train_examples),
            steps=min((steps[depth] for depth in depths if depth in steps), default=1),
            prefix_cache=request.prefix_cache,
        ),
        mapping=request.mapping,
        add_eos=request.add_eos,
        arms=tuple(names.values()),
        arm_steps={names[depth]: steps[depth] for depth in depths if depth in steps},
        match="steps",
        rates=request.rates,
        search_rates=False,
        n_eval=PILOT_EVAL_ROWS[1] if request.n_eval is None else request.n_eval,
        n_accuracy=0,
        share_caches=request.prefix_cache,
        n_between=0,
        model=request.model,
    )


def _costs(request: MeasureRequest, prepared: Prepared) -> PilotCosts:
    """Costs of the planned finetune at the data's own lengths."""
    lengths = next(iter(prepared.setups.values()))
    setup = replace(
        lengths,
        steps=request.setup.steps,
        train_examples=request.setup.train_examples,
        batch_size=request.setup.batch_size,
        prefix_cache=False,
    )
    evaluation = prepared.data.evaluation.tokenized
    mean = round(sum(len(e.input_ids) for e in evaluation) / len(evaluation))
    return PilotCosts(prepared.shape, setup, request.aim, len(evaluation), max(2, mean), request.prefix_cache)


def _pilots(report: ValidationReport, prepared: Prepared, costs: PilotCosts) -> tuple[dict[int, Floats], list[Pilot]]:
    """Each depth's losses by example, and every pilot's record, compared with the shallowest."""
    depths = {arm.name: arm.freeze_depth for arm in prepared.arms}
    losses = {
        depths[run.arm]: np.array(run.points[-1].item_losses)
        for run in report.runs
        if run.status == "done" and run.points[-1].item_losses is not None
    }
    if not losses:
        raise InputError("No pilot gave a result: " + " ".join(run.reason for run in report.runs))
    reference = losses[min(losses)]
    pilots = []
    for run in report.runs:
        depth = depths[run.arm]
        depth_losses = losses.get(depth)
        pilots.append(
            Pilot(
                freeze_depth=depth,
                steps=run.steps,
                loss=None if depth_losses is None else float(depth_losses.mean()),
                ahead=_UNKNOWN
                if depth_losses is None
                else IntervalEntry.of(paired_difference(reference, depth_losses)),
                flop=_pilot_flop(run, prepared, costs, depth),
                seconds=run.points[-1].seconds if run.points else 0.0,
                reason=run.reason,
            )
        )
    return losses, pilots


def _pilot_flop(run: ArmRun, prepared: Prepared, costs: PilotCosts, depth: int) -> int:
    """FLOPs of a pilot's checks, steps and evaluation; boundary states are counted once for all pilots."""
    if not run.points:
        return 0
    train = prepared.data.train.tokenized
    states = cache_flop(prepared.shape, prepared.setups[run.arm], parts_at_depth(prepared.shape, depth), train)
    return (
        run.points[-1].flop
        - (states if run.prefix_cache else 0)
        + costs.checks_flop(depth)
        + costs.evaluation_flop(depth)
    )
