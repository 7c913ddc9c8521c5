"""Making a plan from a run: curve, rule, cost, document."""

from dataclasses import dataclass, replace

from semfreeze_core.cost import (
    cost_table,
    depth_cost,
    flop_status,
    full_cost,
    names_depths,
    parts_at_depth,
    parts_of_layers,
    progressive_cost,
    read_layers,
    read_switch,
    refused_with_switch,
    stock_setup,
)
from semfreeze_core.cost.document import UNKNOWN_ACTIVATIONS, CostEntry
from semfreeze_core.cost.setup import alternative_setup, setup_from_options, stock_trainer
from semfreeze_core.errors import PlanError
from semfreeze_core.gains import coverage_of_layers, gain_curve
from semfreeze_core.plan.auto import AutoBasis, switch_of
from semfreeze_core.plan.badge import evidence_badge
from semfreeze_core.plan.decide import decide
from semfreeze_core.plan.document import (
    AlternativeCost,
    EvidenceEntry,
    FreezePlan,
    LookEntry,
    PhaseCost,
    PlanCost,
)
from semfreeze_core.plan.parameter_names import trainable_regex
from semfreeze_core.plan.rules import Decision, RuleName, decide_by_coverage
from semfreeze_core.plan.rules_by_cost import Budget
from semfreeze_core.records.cost import DepthCost
from semfreeze_core.records.defaults import COVERAGE_WEIGHT, FEW_EXAMPLES, RULE, TAU
from semfreeze_core.records.gain import GainCurve
from semfreeze_core.records.interval import Interval, IntervalEntry, null_if_nan
from semfreeze_core.records.manifest import RunManifest
from semfreeze_core.records.model import ModelShape
from semfreeze_core.records.options import EstimateOptions
from semfreeze_core.records.pilots import Measurement
from semfreeze_core.records.provenance import provenance_now
from semfreeze_core.records.race import Race
from semfreeze_core.records.run import Run
from semfreeze_core.records.task_checks import TaskChecks
from semfreeze_core.records.trace import SwappedPairs, TransitionTrace
from semfreeze_core.records.training import DepthSwitch, TrainableParts, TrainingSetup


@dataclass(frozen=True)
class TrainFlags:
    """Whether the parts around the layers are trained; None leaves the default of each depth."""

    embeddings: bool | None = None
    final_norm: bool | None = None
    head: bool | None = None


def curve_of(run: Run, metric: str) -> GainCurve:
    """The gain curve of a run in one metric, always from the run's own seed.

    Raises:
        PlanError: the run has no such metric, or it may not decide alone.
    """
    if metric not in ("semantic", "logit_z"):
        raise PlanError(f"--metric {metric}: expected semantic or logit_z (lens_loss is shown but chooses no depth).")
    if metric not in run.traces:
        raise PlanError(f"The run has no {metric}, only {', '.join(run.traces)}. Run semfreeze analyze again.")
    return _curve(run.manifest, run.traces[metric], run.pairs[metric])


def _curve(manifest: RunManifest, trace: TransitionTrace, pairs: SwappedPairs) -> GainCurve:
    return gain_curve(trace, pairs, tied=manifest.model.shape.tied, seed=manifest.settings.seed)


def recommended_depth(manifest: RunManifest, trace: TransitionTrace, pairs: SwappedPairs) -> int | None:
    """The freeze depth of the plan that `make_plan` makes without options; None where it recommends none.

    Args:
        manifest: of a run.
        trace, pairs: of the run, in the metric semantic.
    """
    depth = decide_by_coverage(_curve(manifest, trace, pairs)).freeze_depth
    return None if depth and new_tokens_reason(manifest) else depth


def default_setup(run: Run, train: TrainFlags | None = None, budget: Budget | None = None) -> TrainingSetup:
    """What `semfreeze train` does with a run's data: EPOCHS over its usable rows, at most SEQUENCE_LENGTH tokens each.

    Embeddings trained below a frozen prefix leave nothing to cache; a budget's GPU decides the precision.
    """
    embeddings, card = bool(train and train.embeddings), None if budget is None else budget.card
    return setup_from_options(run.shape, run, EstimateOptions(), trains_embeddings=embeddings, gpu=card)


def make_plan(
    run: Run,
    *,
    rule: RuleName = RULE,
    metric: str = "semantic",
    depth: int | None = None,
    layers: str | None = None,
    progressive: str | None = None,
    tau: float = TAU,
    weight: float = COVERAGE_WEIGHT,
    budget: Budget | None = None,
    measurement: Measurement | None = None,
    race: Race | None = None,
    checks: TaskChecks | None = None,
    setup: TrainingSetup | None = None,
    train: TrainFlags | None = None,
    allow_new_tokens: bool = False,
    run_name: str | None = None,
) -> FreezePlan:
    """Decide on a freeze depth and write down what it trains, why, and what it costs.

    Args:
        run: a finished analysis.
        rule: "auto" (default), "coverage", "paper", "compute", "turning", "measured" with `measurement`, "budget" with
            `budget`, or "manual" with `depth` or `layers`.
        metric: deviation the gains come from, "semantic" or "logit_z".
        depth: the user's own freeze depth, 0..L; only with the rule "manual".
        layers: the user's own trained layers as ranges, "0-3,26-29", in place of a depth.
        progressive: freeze fewer layers in the first steps, as "W-K@N": W layers for N steps, then K. Without "W-K" a
            quarter of the layers, then what the rule chooses; with it the rule is "manual". Without "@N" WIDE_STEPS, at
            most half of all; with "@auto" short trainings decide when.
        tau: what the coverage score must reach, in (0, 1].
        weight: weight of the coverage against exchangeable layers, in [0, 1).
        budget: what the finetune may cost; only with the rule "budget".
        measurement: result of pilots of this model; only with the rule "measured".
        race: result of a race of variants; only with the rule "auto". Where it leaves a deeper variant to a trial, the
            plan freezes deeper after the race's steps if that loses nothing.
        checks: free checks of the finetune's own examples, for the rule "auto"; default those of the analysis.
        setup: the finetune whose cost is estimated; default `default_setup(run, train, budget)`.
        train: whether embeddings, final norm and head are trained.
        allow_new_tokens: freeze although the data uses tokens whose embeddings look untrained.
        run_name: written into the plan.

    Raises:
        PlanError: options out of range or of another rule, flags that contradict the model, or no depth in the budget.
    """
    flags = train or TrainFlags()
    curve = curve_of(run, metric)
    setup = setup or default_setup(run, flags, budget)
    if progressive is not None:
        _refuse_progressive(progressive, rule, depth, layers, flags, setup)
        if names_depths(progressive):
            depth = _switch(progressive, run.shape, None, setup).deep_depth
    around = (flags.embeddings, flags.final_norm, flags.head)

    def costs() -> tuple[DepthCost, ...]:
        return cost_table(run.shape, setup, *around)

    chosen = None if layers is None else read_layers(layers, run.shape.n_layers)
    auto = None
    if rule == "auto":
        pick = decide_by_coverage(curve).freeze_depth
        auto = AutoBasis(checks or run.manifest.data.checks, setup.steps, pick, race)
    decision = decide(
        curve,
        rule,
        costs,
        depth=depth,
        layers=chosen,
        tau=tau,
        weight=weight,
        budget=budget,
        measurement=measurement,
        auto=auto,
    )
    decision = _respect_new_tokens(run, decision, allow_new_tokens)
    parts = None
    if chosen is not None:
        parts = parts_of_layers(run.shape, chosen, *around, lora=setup.lora is not None)
    elif decision.freeze_depth is not None:
        parts = parts_at_depth(run.shape, decision.freeze_depth, *around, lora=setup.lora is not None)
    switch = None
    if progressive is not None:  # also of a plan without a recommendation, so that a wrong one is refused
        switch = _switch(progressive, run.shape, decision.candidate_depth, setup)
        switch = None if parts is None else switch
    elif race is not None and parts is not None:
        switch = switch_of(race)
    candidate = decision.candidate_depth
    coverage = Interval(*[float("nan")] * 3) if candidate is None else curve.coverage.at(candidate)
    if chosen is not None:
        coverage = coverage_of_layers(curve, chosen)
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
        warnings=warnings_of(run, frozen=parts is not None and not all(parts.layers)),
        gain_coverage=IntervalEntry.of(coverage),
        trainable=parts,
        trainable_regex=None
        if parts is None
        else trainable_regex(manifest.model.names, parts, lora=setup.lora is not None),
        switch=switch,
        parameter_names=manifest.model.names,
        cost=plan_cost(run.shape, setup, parts, switch),
        evidence=EvidenceEntry(
            verdict=evidence.verdict,
            reasons=list(evidence.reasons),
            advantage=IntervalEntry.of(evidence.advantage),
            task_null=IntervalEntry.of(evidence.task_null),
            n_examples=curve.n_examples,
            n_pairs=evidence.n_pairs,
            isotonic_r_squared=null_if_nan(curve.isotonic_r_squared),
            pick_interval=decision.pick_interval,
            measurement=measurement,
            badge=evidence_badge({}, None, checked=measurement is not None or race is not None),
            race=race,
        ),
        run=run_name,
        data_digest=manifest.data.tokens_digest,
        provenance=provenance_now(manifest.settings.seed),
    )


def plan_cost(
    shape: ModelShape, setup: TrainingSetup, parts: TrainableParts | None, switch: DepthSwitch | None = None
) -> PlanCost:
    """What a plan costs, as it is written down.

    Args:
        shape: the counted model.
        setup: the finetune.
        parts: what the plan trains, with a switch after it; None without a recommendation.
        switch: where it freezes deeper, or None. No other trainer does that, so its cost elsewhere is not given.

    Raises:
        PlanError: the parts contradict the setup.
    """
    full = full_cost(shape, setup)
    cost = PlanCost(
        setup=setup,
        flop_status=flop_status(shape, setup),
        reason=UNKNOWN_ACTIVATIONS if full.bytes.activations is None else None,
        planned=None,
        full=CostEntry.of(full),
    )
    if parts is None:
        return cost
    if switch is not None:
        both = progressive_cost(shape, setup, switch)
        phases = zip(both.steps, both.phases, strict=True)
        written = [PhaseCost(steps=steps, cost=CostEntry.of(phase)) for steps, phase in phases]
        looks = None if both.looks is None else LookEntry(lost=both.looks.lost, never=both.looks.never)
        return cost.model_copy(update={"planned": CostEntry.of(both.whole), "phases": written, "looks": looks})
    stock = None
    if setup.checkpointing != "none":
        stock = CostEntry.of(depth_cost(shape, stock_setup(stock_trainer(setup)), parts))
    planned, elsewhere = CostEntry.of(depth_cost(shape, setup, parts)), _alternative(shape, setup, parts)
    return cost.model_copy(update={"planned": planned, "transformers_5": stock, "alternative": elsewhere})


def _refuse_progressive(
    text: str, rule: str, depth: int | None, layers: str | None, flags: TrainFlags, setup: TrainingSetup
) -> None:
    """Refuse what contradicts a plan that freezes deeper at a step.

    Raises:
        PlanError: all of it in one message.
    """
    problems = []
    if names_depths(text) and rule != "manual":
        problems.append(f"it names its depths, which selects the rule manual, but --rule {rule} was given")
    if names_depths(text) and depth is not None:
        problems.append("it and --depth both say how many layers are frozen: give one of them")
    if layers is not None:
        problems.append("it freezes a number of layers, and --layers names which: give one of them")
    problems += refused_with_switch(setup, (flags.embeddings, flags.final_norm, flags.head))
    if problems:
        raise PlanError(f"--progressive {text}: {'; '.join(problems)}.")


def _switch(text: str, shape: ModelShape, depth: int | None, setup: TrainingSetup) -> DepthSwitch:
    try:
        return read_switch(text, shape, depth, setup.steps)
    except PlanError as error:
        raise PlanError(f"--progressive {text}: {error}.") from error


def _alternative(shape: ModelShape, setup: TrainingSetup, parts: TrainableParts) -> AlternativeCost:
    trainer, other = alternative_setup(setup, parts)
    planned, full = depth_cost(shape, other, parts), full_cost(shape, other)
    return AlternativeCost(trainer=trainer, setup=other, planned=CostEntry.of(planned), full=CostEntry.of(full))


def warnings_of(run: Run, *, frozen: bool) -> list[str]:
    """What to know before layers are frozen: the analysis's own warnings, and that examples are few.

    Args:
        run: the analysis.
        frozen: whether any layer is.
    """
    n = run.manifest.data.n_usable
    if not frozen or n >= FEW_EXAMPLES:
        return list(run.manifest.warnings)
    return [
        *run.manifest.warnings,
        f"Only {n} examples: finetuning repeats each one many times. On one dataset this small, the recommended depth "
        "lost a third or more of the best depth's loss reduction. Run `semfreeze sweep` first, and train with "
        "`--keep-best`.",
    ]


def new_tokens_reason(manifest: RunManifest) -> str | None:
    """Why nothing may be frozen: freezing layers freezes the embeddings, and tokens just added would never be learned.

    None when the data uses no such tokens.
    """
    used = manifest.model.new_tokens_used
    if not used:
        return None
    return (
        f"The data uses {used} tokens whose embeddings look new or untrained, and any freeze depth above 0 freezes "
        "the embeddings. Train these tokens first, or continue with --allow-new-tokens."
    )


def _respect_new_tokens(run: Run, decision: Decision, allowed: bool) -> Decision:
    reason = new_tokens_reason(run.manifest)
    freezes = bool(decision.freeze_depth) or "layers" in decision.parameters
    if allowed or reason is None or not freezes:
        return decision
    if decision.rule == "manual":
        raise PlanError(reason)
    return replace(decision, freeze_depth=None, reasons=(reason, *decision.reasons))
