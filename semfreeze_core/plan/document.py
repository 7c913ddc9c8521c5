"""The freeze plan: a document of what to train, why, and at what cost; checked against its model when used."""

import json
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from semfreeze_core.cost.document import CostEntry
from semfreeze_core.errors import PlanError
from semfreeze_core.plan.consistency import require_consistent
from semfreeze_core.plan.rules import RuleName
from semfreeze_core.records.cost import BytesStatus, FlopStatus, Trainer
from semfreeze_core.records.interval import IntervalEntry
from semfreeze_core.records.model import ModelIdentity, ParameterNames
from semfreeze_core.records.pilots import Measurement
from semfreeze_core.records.provenance import Document, Provenance
from semfreeze_core.records.race import Race
from semfreeze_core.records.training import DepthSwitch, TrainableParts, TrainingSetup, without_unset
from semfreeze_core.storage import digest, source_beside, source_from

PLAN_SCHEMA_VERSION = 3
Badge = Literal["estimated", "checked", "measured"]
PLAN = "plan.json"  # its name beside a model's weights


class AlternativeCost(Document):
    """Cost of the same plan in the other kind of trainer, and of full finetuning there."""

    trainer: Trainer
    setup: TrainingSetup
    planned: CostEntry
    full: CostEntry


class PhaseCost(Document):
    """Cost of the steps of a finetune that train the same parts, relative to full finetuning of all its steps."""

    steps: int = Field(ge=1)
    cost: CostEntry


class LookEntry(Document):
    """FLOPs of deciding by short trainings when to freeze deeper: what one adds, and all where none allows it."""

    lost: int = Field(ge=0)
    never: int = Field(ge=0)


class PlanCost(Document):
    """Cost of the plan and of full finetuning; `planned` is null without a recommendation.

    `status` is where the bytes come from, `flop_status` whether the FLOPs are exact, `reason` why activation bytes,
    and so totals, are null. `transformers_5` is the plan in a stock trainer (logits of every token, no prefix cache)
    under checkpointing as transformers 5 turns it on by itself; null without checkpointing. `alternative` is the plan
    in a stock trainer, or in `semfreeze train` where `setup` is a stock trainer's; null without a recommendation and in
    plans of 0.1.0. `phases` are those of a plan that freezes deeper at a step, in order, and `planned` is both: FLOPs
    of all steps, of the first step, and the memory of the phase that needs most. Such a plan has no cost elsewhere.
    Where short trainings decide when, these are the costs if the first ones allow it, and `looks` what deciding adds.
    """

    setup: TrainingSetup
    status: BytesStatus = "projected"
    flop_status: FlopStatus = "exact"
    reason: str | None
    planned: CostEntry | None
    full: CostEntry
    transformers_5: CostEntry | None = None
    alternative: AlternativeCost | None = None
    phases: list[PhaseCost] | None = None
    looks: LookEntry | None = None


class EvidenceEntry(Document):
    """What the plan rests on: the analysis, and with the rules "measured" and "auto" the finetunes that decided.

    `badge` is "estimated" where no finetune was made, "checked" where short finetunes of variants decided, and
    "measured" where the finetune itself was compared with full finetuning; null in plans from before it was written.
    """

    verdict: Literal["evidence", "no evidence"]
    reasons: list[str]
    advantage: IntervalEntry
    task_null: IntervalEntry
    n_examples: int = Field(ge=0)
    n_pairs: int = Field(ge=0)
    isotonic_r_squared: float | None
    pick_interval: tuple[int, int] | None
    measurement: Measurement | None = None
    badge: Badge | None = None
    race: Race | None = None


class FreezePlan(Document):
    """Which parts of one model to train on one kind of data.

    `freeze_depth`, `trainable`, `trainable_regex` and `cost.planned` are null when the recommendation is to abstain;
    the candidate stays in `candidate_depth`. `gain_coverage` is a prediction until a finetune has measured it. With a
    `switch` fewer layers are frozen in the first steps; `freeze_depth`, `trainable` and `trainable_regex` are what
    trains after them. `parameter_names` is where the model's parts are, frozen ones too; null in plans from before it
    was written. `model_path` is the path from the plan's folder to the model, where both may be moved together; null
    once the plan is read, as its model is then the one that is there.
    """

    schema_version: int = Field(default=PLAN_SCHEMA_VERSION, ge=1)
    kind: Literal["semfreeze plan"] = "semfreeze plan"
    model: ModelIdentity
    n_layers: int = Field(ge=1)
    freeze_depth: int | None = Field(ge=0)
    candidate_depth: int | None = Field(ge=0)
    recommendation: Literal["freeze", "abstain"]
    rule: RuleName
    rule_parameters: dict[str, Any]
    metric: str
    reasons: list[str]
    warnings: list[str]
    gain_coverage: IntervalEntry
    gain_coverage_status: Literal["predicted, unvalidated"] = "predicted, unvalidated"
    trainable: TrainableParts | None
    trainable_regex: str | None = Field(description="matched with re.match against model.named_parameters()")
    switch: DepthSwitch | None = None
    parameter_names: ParameterNames | None = None
    cost: PlanCost
    evidence: EvidenceEntry
    run: str | None
    data_digest: str
    provenance: Provenance
    model_path: str | None = None


def plan_text(plan: FreezePlan, folder: Path) -> str:
    """A plan as the JSON of a file in `folder`: where that is moved or copied with the model in it, the model is found.

    Args:
        plan: its model by the path from where this process stands.
        folder: of the file.
    """
    written = plan.model_copy(update={"model_path": source_from(plan.model.source, folder)})
    return written.model_dump_json(indent=1) + "\n"


def located_plan(plan: FreezePlan, folder: Path) -> FreezePlan:
    """A plan from a file in `folder`, with its model where that is now."""
    model = replace(plan.model, source=source_beside(plan.model.source, plan.model_path, folder))
    return plan.model_copy(update={"model": model, "model_path": None})


def parse_plan(text: str, *, where: str = "the plan") -> FreezePlan:
    """Read a plan's JSON.

    Raises:
        PlanError: not JSON, not a plan, of a schema that this version does not read, or its fields contradict each
            other.
    """
    try:
        plan = FreezePlan.model_validate_json(text, strict=True)  # else true is a depth, and 1 a layer that trains
        version = plan.schema_version
    except ValidationError as error:
        written = re.search(r'"schema_version":\s*(\d{1,9})\b', text)
        version = int(written[1]) if written else PLAN_SCHEMA_VERSION
        if version <= PLAN_SCHEMA_VERSION:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"]) or "its JSON"
            raise PlanError(f"{where} is not a semfreeze plan: {field}: {first['msg']}.") from error
    if version > PLAN_SCHEMA_VERSION:
        # Even one that happens to fit: what its fields mean may have changed.
        raise PlanError(
            f"{where} has schema version {version}, but this semfreeze reads up to {PLAN_SCHEMA_VERSION}. "
            "Update semfreeze."
        )
    _refuse_ambiguous(text, where)
    require_consistent(plan, where=where)
    return plan


def _refuse_ambiguous(text: str, where: str) -> None:
    """Refuse JSON that readers take differently: a key given twice, NaN and Infinity.

    Raises:
        PlanError: naming the first.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        entries = dict(pairs)
        if len(entries) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise PlanError(f"{where} is not a semfreeze plan: {twice} is given twice. Leave one of them.")
        return entries

    def refuse(constant: str) -> None:
        raise PlanError(f"{where} is not a semfreeze plan: it contains {constant}, which is no JSON number.")

    json.loads(text, object_pairs_hook=once, parse_constant=refuse)


def require_recommendation(plan: FreezePlan, *, or_else: str = "") -> TrainableParts:
    """What a plan trains; every use of a plan that needs it refuses an abstaining one here, in the same words.

    Args:
        plan: to be trained, exported, applied or validated.
        or_else: what else helps, as the end of the sentence that says how to name a depth.

    Raises:
        PlanError: it makes no recommendation; with its reasons and the command that takes a depth.
    """
    if plan.trainable is None:
        raise PlanError(
            f"The plan makes no recommendation, so there is nothing to train: {' '.join(plan.reasons)} To train a "
            f"depth that you choose, make a plan with semfreeze plan {plan.run or 'RUN'} --depth K --out plan.json"
            f"{f', {or_else}' if or_else else ''}."
        )
    return plan.trainable


def require_one_phase(plan: FreezePlan, user: str) -> None:
    """Refuse a plan that freezes deeper at a step, where only one set of parts can be trained.

    Args:
        plan: to be exported, applied or audited.
        user: what cannot do it, as the beginning of a sentence.

    Raises:
        PlanError: with the ways to train it.
    """
    switch = plan.switch
    if switch is None:
        return
    run = plan.run or "RUN"
    raise PlanError(
        f"{user} trains the same layers in every step, but this plan freezes deeper after step {switch.step}: train it "
        f"with semfreeze train. To train both phases elsewhere, make one plan for each (semfreeze plan {run} --depth "
        f"{switch.wide_depth}, and --depth {switch.deep_depth} for the model that the first {switch.step} steps give); "
        "the optimizer then starts anew."
    )


def plan_digests(plan: FreezePlan) -> tuple[str, ...]:
    """What results keep of their plan: its digest, then the one that 0.1.0 kept.

    The first leaves out where the model was and what its run is called, so that a moved model or a renamed run makes
    no other plan.
    """
    whole = plan.model_dump(mode="json", exclude={"provenance"})
    content = plan.model_dump(mode="json", exclude={"provenance": True, "run": True, "model": {"source", "revision"}})
    if whole["cost"]["alternative"] is None:
        del whole["cost"]["alternative"]  # came since
    for document in (whole, content):  # came since; the badge follows from the others, the names from the structure
        if document["switch"] is None:
            del document["switch"], document["cost"]["phases"], document["cost"]["looks"]
        elif document["switch"]["trials"] is None:
            del document["switch"]["trials"]
        del document["parameter_names"], document["model_path"]
        del document["evidence"]["badge"]
        if document["evidence"]["race"] is None:
            del document["evidence"]["race"]
        for cost in (document["cost"], document["cost"].get("alternative") or {}):
            if "setup" in cost:
                cost["setup"] = without_unset(cost["setup"])
    return digest(content), digest(whole)


def trainable_names(plan: FreezePlan, identity: ModelIdentity, parameters: Iterable[str]) -> list[str]:
    """Names among `parameters` that the plan trains, after checking that the model is the plan's.

    Raises:
        PlanError: the plan abstains, contradicts itself, is another model's, or matches nothing.
    """
    require_model(plan, identity)
    require_consistent(plan)
    require_recommendation(plan)
    trained = [name for name in parameters if re.match(str(plan.trainable_regex), name)]
    if not trained and (lora := plan.cost.setup.lora):
        raise PlanError(
            f"The plan trains adapters (LoRA, rank {lora.rank}, targets {', '.join(lora.targets)}) on layers "
            f"{plan.freeze_depth} and above, and this model has none. Add them first, for example with PEFT."
        )
    if not trained:
        raise PlanError("The plan trains none of this model's parameters.")
    return trained


def require_model(plan: FreezePlan, identity: ModelIdentity) -> None:
    """Refuse a plan made for another model.

    Raises:
        PlanError: structure or weights differ, naming both models.
    """
    require_identity(plan.model, identity)


def require_identity(ours: ModelIdentity, theirs: ModelIdentity) -> None:
    """Refuse a model that is not the one a plan was made for.

    Raises:
        PlanError: structure or weights differ, naming both models.
    """
    if ours.structure_digest != theirs.structure_digest:
        difference = "its layers or parameters differ"
    elif ours.weights_digest != theirs.weights_digest:
        difference = "its weights differ, so its layers need their own analysis"
    else:
        return
    raise PlanError(
        f"The plan was made for {ours.source} ({ours.architecture}, weights fingerprint {ours.weights_digest[:12]}), "
        f"not for {theirs.source} ({theirs.architecture}, {theirs.weights_digest[:12]}): {difference}. Analyze this "
        "model and make its own plan."
    )
