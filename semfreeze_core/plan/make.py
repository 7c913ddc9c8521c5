"""Making a plan from a run: curve, rule, price, document."""

from dataclasses import dataclass, replace

from semfreeze_core.cost import depth_cost, full_cost, parts_at_depth
from semfreeze_core.errors import PlanError
from semfreeze_core.gains import gain_curve
from semfreeze_core.plan.document import (
    UNKNOWN_ACTIVATIONS,
    CostEntry,
    EvidenceEntry,
    FreezePlan,
    IntervalEntry,
    PlanCost,
    null_if_nan,
    trainable_regex,
)
from semfreeze_core.plan.rules import (
    DEFAULT_TAU,
    DEFAULT_WEIGHT,
    Decision,
    RuleName,
    decide_by_coverage,
    decide_by_hand,
    decide_by_paper,
)
from semfreeze_core.records.gain import GainCurve, Interval
from semfreeze_core.records.provenance import provenance_now
from semfreeze_core.records.run import Run
from semfreeze_core.records.training import TrainingSetup


@dataclass(frozen=True)
class TrainFlags:
    """The user's wishes about the parts around the layers; None leaves the default of each depth."""

    embeddings: bool | None = None
    final_norm: bool | None = None
    head: bool | None = None


def curve_of(run: Run, metric: str) -> GainCurve:
    """The gain curve of a run in one metric, always from the run's own seed.

    Raises:
        PlanError: the run has no such metric, or it may not decide alone.
    """
    if metric not in ("semantic", "logit_z"):
        raise PlanError(f"--metric {metric}: expected semantic or logit_z (lens_loss is shown, but never decides).")
    if metric not in run.traces:
        raise PlanError(f"The run holds no {metric}, only {', '.join(run.traces)}. Analyse again.")
    return gain_curve(run.traces[metric], run.pairs[metric], tied=run.shape.tied, seed=run.manifest.settings.seed)


def default_setup(run: Run) -> TrainingSetup:
    """Three epochs over the run's own data, batches of 8 examples of 512 tokens (or the model's limit)."""
    data = run.manifest.data
    setup = TrainingSetup(
        sequence_length=min(512, run.shape.max_positions or 512),
        supervised_fraction=data.n_supervised_tokens / data.n_tokens,
        train_examples=data.n_usable,
    )
    return replace(setup, steps=3 * setup.steps_per_epoch)


def make_plan(
    run: Run,
    *,
    rule: RuleName = "coverage",
    metric: str = "semantic",
    depth: int | None = None,
    tau: float = DEFAULT_TAU,
    weight: float = DEFAULT_WEIGHT,
    setup: TrainingSetup | None = None,
    train: TrainFlags | None = None,
    allow_new_tokens: bool = False,
    run_name: str | None = None,
) -> FreezePlan:
    """Decide on a freeze depth and write down what it trains, why, and what it costs.

    Args:
        run: a finished reading.
        rule: "coverage" (default), "paper", or "manual" with `depth`.
        metric: deviation the gains come from, "semantic" or "logit_z".
        depth: the user's own freeze depth, 0..L; only with the rule "manual".
        tau: what the coverage score must reach, in (0, 1].
        weight: weight of the coverage against exchangeable layers, in [0, 1).
        setup: finetune the price is for; default `default_setup(run)`.
        train: wishes about embeddings, final norm and head.
        allow_new_tokens: freeze although the data uses tokens whose embeddings look untrained.
        run_name: written into the plan.

    Raises:
        PlanError: depth out of range, rule and depth contradict, or flags contradict the model.
    """
    flags = train or TrainFlags()
    curve = curve_of(run, metric)
    decision = _decide(curve, rule, depth, tau, weight)
    decision = _respect_new_tokens(run, decision, allow_new_tokens)
    setup = setup or default_setup(run)
    parts = None
    if decision.freeze_depth is not None:
        parts = parts_at_depth(run.shape, decision.freeze_depth, flags.embeddings, flags.final_norm, flags.head)
    planned = None if parts is None else CostEntry.of(depth_cost(run.shape, setup, parts))
    full = full_cost(run.shape, setup)
    candidate = decision.candidate_depth
    coverage = Interval(*[float("nan")] * 3) if candidate is None else curve.coverage.at(candidate)
    manifest, evidence = run.manifest, curve.evidence
    return FreezePlan(
        model=manifest.model.identity,
        n_layers=run.shape.n_layers,
        freeze_depth=decision.freeze_depth,
        candidate_depth=candidate,
        recommendation=decision.recommendation,
        rule=decision.rule,
        rule_parameters=decision.parameters,
        metric=metric,
        reasons=list(decision.reasons),
        warnings=list(manifest.warnings),
        gain_coverage=IntervalEntry.of(coverage),
        trainable=parts,
        trainable_regex=None if parts is None else trainable_regex(manifest.model.names, parts),
        cost=PlanCost(
            setup=setup,
            reason=UNKNOWN_ACTIVATIONS if full.bytes.activations is None else None,
            planned=planned,
            full=CostEntry.of(full),
        ),
        evidence=EvidenceEntry(
            verdict=evidence.verdict,
            reasons=list(evidence.reasons),
            advantage=IntervalEntry.of(evidence.advantage),
            task_null=IntervalEntry.of(evidence.task_null),
            n_examples=curve.n_examples,
            n_pairs=evidence.n_pairs,
            isotonic_r_squared=null_if_nan(curve.isotonic_r_squared),
            pick_interval=decision.pick_interval,
        ),
        run=run_name,
        data_digest=manifest.data.tokens_digest,
        provenance=provenance_now(manifest.settings.seed),
    )


def _decide(curve: GainCurve, rule: RuleName, depth: int | None, tau: float, weight: float) -> Decision:
    problems = []
    if not 0 < tau <= 1:
        problems.append(f"tau must be in (0, 1], found {tau:g}")
    if not 0 <= weight < 1:
        problems.append(f"weight must be in [0, 1), found {weight:g}")
    if rule != "coverage" and (tau, weight) != (DEFAULT_TAU, DEFAULT_WEIGHT):
        problems.append(f"--tau and the weight belong to the rule coverage, not to {rule}")
    if depth is not None and rule != "manual":
        problems.append(f"--depth means the rule manual, but --rule {rule} was given")
    if depth is None and rule == "manual":
        problems.append("--rule manual needs --depth")
    if depth is not None and not 0 <= depth <= curve.n_layers:
        problems.append(f"--depth must be in 0..{curve.n_layers} for this model, found {depth}")
    if problems:
        raise PlanError("; ".join(problems) + ".")
    if depth is not None:
        return decide_by_hand(curve, depth)
    return decide_by_paper(curve) if rule == "paper" else decide_by_coverage(curve, tau=tau, weight=weight)


def _respect_new_tokens(run: Run, decision: Decision, allowed: bool) -> Decision:
    """Freezing layers freezes the embeddings; tokens that were just added would then never be learned."""
    used = run.manifest.model.new_tokens_used
    if allowed or not used or not decision.freeze_depth:
        return decision
    reason = (
        f"The data uses {used} tokens whose embeddings look new or untrained; any freeze depth above 0 freezes them as "
        "they are. Train them first, or go on with --allow-new-tokens."
    )
    if decision.rule == "manual":
        raise PlanError(reason)
    return replace(decision, freeze_depth=None, reasons=(reason, *decision.reasons))
