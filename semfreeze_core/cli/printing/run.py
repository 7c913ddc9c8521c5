"""A run and its plan as a report for the terminal: the conclusion first, then what it rests on, then the price."""

import math
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from semfreeze_core.gains import fit_scaling_law
from semfreeze_core.gains.bootstrap import mean_interval, resampling_weights
from semfreeze_core.plan.document import FreezePlan
from semfreeze_core.plan.slices import Slice
from semfreeze_core.records.gain import GainCurve, Interval
from semfreeze_core.records.run import Run
from semfreeze_core.records.trace import TransitionTrace
from semfreeze_core.wording.numbers import flop, gib, interval, percent, setup_words

_FROZEN, _TRAINED = "░", "█"
_TABLE_WIDTH = 116


def console() -> Console:
    """Console of reports: never narrower than the layer table, whose cells would break otherwise."""
    return Console(highlight=False, width=max(Console().width, _TABLE_WIDTH))


def print_run(run: Run, curve: GainCurve, folder: Path, out: Console) -> None:
    """What was read, the evidence, and each latent space's numbers."""
    manifest = run.manifest
    model, data, took = manifest.model, manifest.data, manifest.extraction
    out.print(f"[bold]{escape(model.identity.source)}[/] ({model.identity.architecture}, {run.shape.n_layers} layers, "
              f"{run.shape.total_parameters / 1e6:.0f} M parameters) on [bold]{escape(data.source)}[/]")  # fmt: skip
    out.print(
        f"{data.n_examples:,} of {data.n_usable:,} examples (seed {manifest.settings.seed}), {data.n_tokens:,} tokens, "
        f"{data.n_positions_read:,} of {data.n_supervised_tokens:,} supervised positions read, {model.dtype} on "
        f"{model.device}"
    )
    out.print(
        f"Read in {took.seconds:.1f} s ({took.tokens_per_second:,.0f} tokens/s), task null {took.task_null_seconds:.1f}"
        f" s more, peak {gib(took.peak_bytes)} ({took.peak_kind})"
    )
    for note in manifest.notes:
        out.print(f"  note: {escape(note)}")
    for warning in manifest.warnings:
        out.print(f"  [yellow]warning:[/] {escape(warning)}")
    out.print()
    out.print(f"[bold]Evidence: {curve.evidence.verdict}[/]")
    for reason in curve.evidence.reasons:
        out.print(f"  {escape(reason)}")
    out.print()
    out.print(
        f"Latent spaces, {curve.metric} deviation (1 - cosine): means over {curve.n_examples} examples with 95 % "
        "bootstrap intervals"
    )
    out.print("Deviation and rule `paper` are the paper's; nulls, advantage, gain and coverage are our derivation.")
    out.print(_layer_table(curve))
    out.print(_first_and_later(run.traces[curve.metric], manifest.settings.seed))
    law = fit_scaling_law(curve.deviation)
    out.print(
        f"Scaling law A s^-alpha + E through the deviations: alpha {law.exponent:.2f}, E {law.floor:.3f}, R^2 "
        f"{law.r_squared:.2f}; drawn, never extrapolated."
    )
    for line in _score_lines(run):
        out.print(escape(line))
    out.print(f"Run: {escape(str(folder))}", soft_wrap=True)


def _score_lines(run: Run) -> list[str]:
    """Which other scores there are, and why the others are not."""
    measured = [name for name, score in run.scores.items() if not score.reason]
    lines = [f"Other layer scores: {', '.join(measured)}; `semfreeze plan --compare` shows what they say."]
    return lines + [f"  {name} is not measured: {score.reason}." for name, score in run.scores.items() if score.reason]


def _first_and_later(trace: TransitionTrace, seed: int) -> str:
    """The last space's advantage at the first supervised token and at the later ones, apart."""
    weights = resampling_weights(len(trace.deviation), seed)
    first = mean_interval(trace.first_null[:, -1] - trace.first_deviation[:, -1], weights)
    later = mean_interval(trace.later_null[:, -1] - trace.later_deviation[:, -1], weights)
    return f"Advantage at the last space: first tokens {interval(first)}, later tokens {interval(later)}."


def _layer_table(curve: GainCurve) -> Table:
    table = Table(box=None, padding=(0, 1))
    for name in ("space", "deviation", "label null", "advantage", "gain of next layer", "gain coverage R(k)", ""):
        table.add_column(name, justify="left" if name == "" else "right", no_wrap=True)
    for s in range(curve.n_layers + 1):
        coverage = curve.coverage.mean[s]
        table.add_row(
            str(s),
            f"{curve.deviation.mean[s]:.3f}",
            f"{curve.null.mean[s]:.3f}",
            interval(curve.advantage.at(s)),
            "" if s == curve.n_layers else interval(curve.gain.at(s), 4),
            interval(curve.coverage.at(s), 2),
            "▇" * round(10 * coverage) if math.isfinite(coverage) else "",
        )
    return table


def print_plan(plan: FreezePlan, out: Console) -> None:
    """The recommendation in one sentence, why, and what it costs and saves."""
    out.print()
    out.print(f"[bold]{escape(conclusion(plan))}[/]")
    if plan.freeze_depth is not None:
        stack = _FROZEN * plan.freeze_depth + _TRAINED * (plan.n_layers - plan.freeze_depth)
        out.print(f"  input {stack} output   ({_FROZEN} frozen, {_TRAINED} trained)")
    for reason in plan.reasons:
        out.print(f"  {escape(reason)}")
    for warning in plan.warnings:
        out.print(f"  [yellow]warning:[/] {escape(warning)}")
    if "reachable_depth" in plan.rule_parameters:
        out.print(
            f"  The rule reaches depth {plan.rule_parameters['reachable_depth']:.1f} when all gain lies in the last "
            f"layer; its cap is {plan.rule_parameters['cap']}."
        )
    out.print()
    out.print(f"{plan.cost.status.capitalize()} price: {setup_words(plan.cost.setup)}")
    out.print(_price_table(plan))
    if plan.cost.transformers_5 is not None:
        stock = plan.cost.transformers_5
        out.print(
            f"Stock transformers 5 would take {percent(stock.relative_flop)} of the FLOP and "
            f"{percent(stock.relative_bytes)} of the memory at that depth: gradient_checkpointing_enable() makes the "
            "embedding's output require a gradient, so frozen layers are computed again and carry gradients."
        )


def conclusion(plan: FreezePlan) -> str:
    """The plan in one sentence."""
    coverage = plan.gain_coverage
    if plan.recommendation == "abstain":
        seen = f"; the rule's formula alone would give {plan.candidate_depth}" if plan.candidate_depth else ""
        return f"No recommendation from the {plan.rule} rule{seen}."
    planned = plan.cost.planned
    if not plan.freeze_depth or planned is None:
        return f"Freeze nothing: finetune all {plan.n_layers} layers ({plan.rule} rule)."
    kept = "of which no share of the gain is known"
    if coverage.estimate is not None and coverage.low is not None and coverage.high is not None:
        kept = (
            f"predicted, not yet measured, to hold "
            f"{interval(Interval(coverage.estimate, coverage.low, coverage.high), 2)} of the gain"
        )
    memory = planned.relative_bytes
    price = f"{percent(planned.relative_flop)} of the FLOP" + (
        f" and {percent(memory)} of the memory" if memory is not None else ""
    )
    return (
        f"Freeze {plan.freeze_depth} of {plan.n_layers} layers ({plan.rule} rule): {price} of full finetuning; the "
        f"{plan.n_layers - plan.freeze_depth} trained layers are {kept}."
    )


def _price_table(plan: FreezePlan) -> Table:
    planned, full = plan.cost.planned, plan.cost.full
    columns = [planned, full] if planned else [full]
    table = Table(box=None, padding=(0, 1))
    table.add_column("")
    for entry in columns:
        table.add_column("full finetuning" if entry is full else f"freeze {entry.freeze_depth}", justify="right")
    step, whole = full.step_flop.total, full.flop
    table.add_row("first step", *[flop(e.step_flop.total, step) for e in columns])
    again = ("recompute",) if full.step_flop.recompute else ()
    for part in ("forward", "activation_gradient", "weight_gradient", *again):
        table.add_row(f"  {part.replace('_', ' ')}", *[flop(getattr(e.step_flop, part), step) for e in columns])
    table.add_row("whole run", *[flop(e.flop, whole) for e in columns])
    table.add_row("memory, sum of parts", *[gib(e.bytes.total) for e in columns])
    for part in ("weights", "gradients", "optimizer", "activations", "logits"):
        table.add_row(f"  {part}", *[gib(getattr(e.bytes, part)) for e in columns])
    return table


def print_slices(groups: Sequence[Slice], left_out: int, by: str, out: Console) -> None:
    """Each group of examples by itself: the depth of the coverage rule's formula, and where it lies over replicates."""
    if not groups:
        out.print(f"No group by {escape(by)} has enough examples to be read by itself.")
        return
    table = Table(box=None, padding=(0, 1), header_style="dim")
    for heading in (by, "examples", "formula's depth", "over replicates"):
        table.add_column(escape(heading), justify="left" if heading == by else "right")
    for group in groups:
        low, high = group.pick
        depth = "none" if group.decision.candidate_depth is None else str(group.decision.candidate_depth)
        table.add_row(escape(group.name), str(group.curve.n_examples), depth, f"{low} to {high}")
    out.print(table)
    if left_out:
        out.print(f"{left_out} more groups are too small or too many to read.")
