"""The freeze plan: a document of what to train, why, and at what cost; checked against its model when used."""

import re
from collections.abc import Iterable
from typing import Any, Literal

from pydantic import Field, ValidationError

from semfreeze_core.cost.document import CostEntry
from semfreeze_core.errors import PlanError
from semfreeze_core.plan.rules import RuleName
from semfreeze_core.records.cost import BytesStatus, FlopStatus, Trainer
from semfreeze_core.records.interval import IntervalEntry
from semfreeze_core.records.model import ModelIdentity, ParameterNames
from semfreeze_core.records.pilots import Measurement
from semfreeze_core.records.provenance import Document, Provenance
from semfreeze_core.records.training import TrainableParts, TrainingSetup

PLAN_SCHEMA_VERSION = 3
PLAN = "plan.json"  # its name beside a model's weights


class AlternativeCost(Document):
    """Cost of the same plan in the other kind of trainer, and of full finetuning there."""

    trainer: Trainer
    setup: TrainingSetup
    planned: CostEntry
    full: CostEntry


class PlanCost(Document):
    """Cost of the plan and of full finetuning; `planned` is null without a recommendation.

    `status` is where the bytes come from, `flop_status` whether the FLOPs are exact, `reason` why activation bytes,
    and so totals, are null. `transformers_5` is the plan in a stock trainer (logits of every token, no prefix cache)
    under checkpointing as transformers 5 turns it on by itself; null without checkpointing. `alternative` is the plan
    in a stock trainer, or in `semfreeze train` where `setup` is a stock trainer's; null without a recommendation and in
    plans of 0.1.0.
    """

    setup: TrainingSetup
    status: BytesStatus = "projected"
    flop_status: FlopStatus = "exact"
    reason: str | None
    planned: CostEntry | None
    full: CostEntry
    transformers_5: CostEntry | None = None
    alternative: AlternativeCost | None = None


class EvidenceEntry(Document):
    """What the plan rests on: the analysis, and with the rule "measured" the pilots that decided."""

    verdict: Literal["evidence", "no evidence"]
    reasons: list[str]
    advantage: IntervalEntry
    task_null: IntervalEntry
    n_examples: int
    n_pairs: int
    isotonic_r_squared: float | None
    pick_interval: tuple[int, int] | None
    measurement: Measurement | None = None


class FreezePlan(Document):
    """Which parts of one model to train on one kind of data.

    `freeze_depth`, `trainable`, `trainable_regex` and `cost.planned` are null when the recommendation is to abstain;
    the candidate stays in `candidate_depth`. `gain_coverage` is a prediction until a finetune has measured it.
    """

    schema_version: int = PLAN_SCHEMA_VERSION
    kind: Literal["semfreeze plan"] = "semfreeze plan"
    model: ModelIdentity
    n_layers: int
    freeze_depth: int | None
    candidate_depth: int | None
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
    cost: PlanCost
    evidence: EvidenceEntry
    run: str | None
    data_digest: str
    provenance: Provenance


# What PEFT puts before a model's own names when it wraps the model.
_PEFT_PREFIX = r"(?:base_model\.model\.)?"


def trainable_regex(names: ParameterNames, parts: TrainableParts, *, lora: bool = False) -> str:
    """A regular expression that matches, from the start, exactly the names of the parameters to be trained.

    With `lora` they are the adapters' own on the trained layers, as PEFT names them, wrapped or injected.
    """
    alternatives = []
    before, behind = (_PEFT_PREFIX, r".*\.lora_[AB]\.") if lora else ("", "")
    trained = [str(i) for i, flag in enumerate(parts.layers) if flag]
    if trained:
        alternatives.append(rf"{before}{re.escape(names.layer_prefix)}(?:{'|'.join(trained)})\.{behind}")
    chosen = ((parts.embeddings, names.embeddings), (parts.final_norm, names.final_norm), (parts.head, names.head))
    for wanted, full_names in chosen:
        if wanted:
            alternatives += [f"{before}{re.escape(name)}$" for name in full_names]
    return "|".join(alternatives) or r"(?!)"


def parse_plan(text: str, *, where: str = "the plan") -> FreezePlan:
    """Read a plan's JSON.

    Raises:
        PlanError: not JSON, not a plan, or of a newer schema.
    """
    try:
        plan = FreezePlan.model_validate_json(text)
        version = plan.schema_version
    except ValidationError as error:
        newer = re.search(r'"schema_version":\s*(\d+)', text)
        version = int(newer[1]) if newer else PLAN_SCHEMA_VERSION
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
    return plan


def trainable_names(plan: FreezePlan, identity: ModelIdentity, parameters: Iterable[str]) -> list[str]:
    """Names among `parameters` that the plan trains, after checking that the model is the plan's.

    Raises:
        PlanError: the plan abstains, is another model's, or matches nothing.
    """
    require_model(plan, identity)
    if plan.trainable_regex is None:
        raise PlanError("The plan makes no recommendation, so there is nothing to apply: " + " ".join(plan.reasons))
    trained = [name for name in parameters if re.match(plan.trainable_regex, name)]
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
