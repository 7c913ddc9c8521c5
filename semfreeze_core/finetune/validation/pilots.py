"""Short real finetunes of a few freeze depths that decide which is best; successive halving inside a budget."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from semfreeze_core.cost import parts_at_depth
from semfreeze_core.errors import InputError
from semfreeze_core.finetune.arm.flop import cache_flop
from semfreeze_core.finetune.arm.job import ModelSource
from semfreeze_core.finetune.validation.pilot_schedule import (
    MAX_EVAL,
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
from semfreeze_core.records.defaults import MANY_EPOCHS, MARGIN, PILOT_BUDGET
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
from semfreeze_core.sources.data.fields import FieldMapping
from semfreeze_core.storage import write_atomically
from semfreeze_core.wording.numbers import flops, percent, percent_as_given

_LENGTHS_FROM = 1024  # examples whose lengths stand for the training set's
_UNKNOWN = IntervalEntry(estimate=None, low=None, high=None)


@dataclass(frozen=True)
class MeasureRequest:
    """What the pilots are to decide.

    Attributes:
        plan: of the model; its own depth does not matter.
        setup: the finetune that is planned: steps, batch, examples, precision, checkpointing; the data says lengths.
        train, evaluation, mapping, max_length, add_eos, model, rates: as in ValidationRequest.
        depths: candidates.
        proposed, proposed_by: the one among them that stays until another is better for sure, and who says so, or None.
        aim: best loss at equal compute or at equal steps, or the deepest depth within `margin` of full finetuning.
        budget: share of one full finetune's FLOP that all pilots may take.
        n_eval: eval items; None takes as many as `affordable_eval_examples` says.
        margin: share of full finetuning's improvement that "cheapest" may lose.
        prefix_cache: compute frozen layers once, shared by all pilots.
    """

    plan: FreezePlan
    setup: TrainingSetup
    train: str
    evaluation: str
    depths: tuple[int, ...]
    proposed: int | None = None
    proposed_by: ProposedBy | None = None
    mapping: FieldMapping = field(default_factory=FieldMapping)
    max_length: int = 2048
    add_eos: bool = True
    aim: Aim = "compute"
    budget: float = PILOT_BUDGET
    n_eval: int | None = None
    margin: float = MARGIN
    rates: dict[str, float] | None = None
    prefix_cache: bool = True
    model: ModelSource | None = None


def measure(
    request: MeasureRequest, folder: Path, *, overwrite: bool = False, progress: Progress = silent
) -> Measurement:
    """Run the pilots and decide.

    Args:
        request: what to decide.
        folder: where every round is kept, as a validation each; what is there already is used.
        overwrite: begin anew where other pilots stand.
        progress: told the price before anything starts.

    Raises:
        InputError: as `prepare` and `plan_pilots`; a setup pilots cannot stand for; or no pilot gave a result.
    """
    _refuse_setup(request.setup, request.aim, request.depths)
    depths = sorted(set(request.depths))
    looked = prepare(_validation(request, depths, {}, _LENGTHS_FROM), progress)
    costs = _costs(request, looked)
    if request.n_eval is None:
        n_eval = affordable_eval_examples(costs, depths, request.budget, costs.n_eval)
        request = replace(request, n_eval=n_eval)
        costs = _costs(request, prepare(_validation(request, depths, {}, _LENGTHS_FROM), progress))
    pilots = plan_pilots(costs, depths, request.budget)
    progress(ProgressEvent("Pilots", message=estimate_note(costs, pilots, depths, request.budget)))
    before, losses, rounds, spent = None, dict[int, Floats](), list[PilotRound](), 0
    for number, share in enumerate(pilots.shares, 1):
        steps = {depth: costs.pilot_steps(depth, share) for depth in depths}
        asked = _validation(request, depths, steps, pilots.n_train)
        prepared = prepare(asked, progress)
        report = validate(asked, folder / f"round-{number}", overwrite=overwrite, progress=progress)
        before = np.array(report.baseline.item_losses)
        spent += costs.evaluation_flop(0)
        spent += costs.states_flop(max(depths), len(prepared.data.train.tokenized)) if number == 1 else 0
        losses, found = _read(report, prepared, costs)
        spent += sum(pilot.flop for pilot in found)
        following = pilots.sizes[number] if number < len(pilots.sizes) else 1
        depths = remaining_depths(before, losses, request.aim, request.margin, following, request.proposed)
        rounds.append(PilotRound(share=share, pilots=found, kept=depths))
    assert before is not None
    chosen = choose(before, losses, request.aim, request.margin, request.proposed)
    gained = improvement(before, losses[chosen][None], draw(1, len(before)))
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
        improvement=IntervalEntry.of(gained),
        full_flop=costs.full_flop,
        budget_flop=int(request.budget * costs.full_flop),
        promised_flop=pilots.flop,
        spent_flop=spent,
        rounds=rounds,
        freeze_depth=chosen if gained.low > 0 else None,
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
    """What the pilots will take, in words, before they start."""
    rounds = " then ".join(str(size) for size in pilots.sizes)
    return (
        f"Pilots of depths {', '.join(map(str, depths))} ({rounds}) on {pilots.n_train} examples, read on "
        f"{costs.n_eval} eval items, take at most {percent(pilots.flop / costs.full_flop, 1)} of one "
        f"full finetune ({costs.setup.steps} steps of "
        f"{costs.setup.batch_size}, {flops(costs.full_flop)}); {percent_as_given(budget)} is allowed."
    )


def epochs_notes(costs: PilotCosts, depth: int) -> list[str]:
    """That the rest of this depth's finetune repeats its examples more than pilots can stand for; none elsewhere."""
    if costs.aim != "compute" or costs.passes(depth) <= MANY_EPOCHS:
        return []
    return [
        f"For full finetuning's compute {depth} passes {costs.passes(depth):.1f} times over the "
        f"{costs.setup.train_examples:,} training examples, full finetuning {costs.passes(0):.1f} times. Pilots show "
        "nothing of so many passes, in which a model may overfit: validate it, ask for --aim steps, or "
        "train with --keep-best."
    ]


def _refuse_setup(setup: TrainingSetup, aim: Aim, depths: Sequence[int]) -> None:
    problems = []
    if setup.lora is not None:
        problems.append("pilots train whole layers: leave --lora out")
    if setup.optimizer != "adamw":
        problems.append(f"pilots train with adamw, not {setup.optimizer}")
    if setup.frozen_bits is not None:
        problems.append("pilots keep frozen layers as they are: leave --frozen-bits out")
    if setup.checkpointing == "transformers-5":
        problems.append("pilots checkpoint as non-reentrant or reentrant")
    if aim == "cheapest" and 0 not in depths:
        problems.append("the aim cheapest is held against full finetuning: give depth 0 among --depths")
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
        n_eval=MAX_EVAL if request.n_eval is None else request.n_eval,
        n_accuracy=0,
        share_caches=request.prefix_cache,
        n_between=0,
        model=request.model,
    )


def _costs(request: MeasureRequest, looked: Prepared) -> PilotCosts:
    """Costs of the planned finetune at the data's own lengths."""
    lengths = next(iter(looked.setups.values()))
    setup = replace(
        lengths,
        steps=request.setup.steps,
        train_examples=request.setup.train_examples,
        batch_size=request.setup.batch_size,
        prefix_cache=False,
    )
    evaluation = looked.data.evaluation.tokenized
    mean = round(sum(len(e.input_ids) for e in evaluation) / len(evaluation))
    return PilotCosts(looked.shape, setup, request.aim, len(evaluation), max(2, mean), request.prefix_cache)


def _read(report: ValidationReport, prepared: Prepared, costs: PilotCosts) -> tuple[dict[int, Floats], list[Pilot]]:
    """Each depth's item losses, and every pilot written down; paired with the shallowest."""
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
        own = losses.get(depth)
        pilots.append(
            Pilot(
                freeze_depth=depth,
                steps=run.steps,
                loss=None if own is None else float(own.mean()),
                ahead=_UNKNOWN if own is None else IntervalEntry.of(paired_difference(reference, own)),
                flop=_spent(run, prepared, costs, depth),
                seconds=run.points[-1].seconds if run.points else 0.0,
                reason=run.reason,
            )
        )
    return losses, pilots


def _spent(run: ArmRun, prepared: Prepared, costs: PilotCosts, depth: int) -> int:
    """FLOP of a pilot's checks, steps and reading; boundary states are counted once for all."""
    if not run.points:
        return 0
    own = prepared.data.train.tokenized
    states = cache_flop(prepared.shape, prepared.setups[run.arm], parts_at_depth(prepared.shape, depth), own)
    return (
        run.points[-1].flop
        - (states if run.prefix_cache else 0)
        + costs.checks_flop(depth)
        + costs.evaluation_flop(depth)
    )
