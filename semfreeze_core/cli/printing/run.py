"""A run and its plan, printed for the terminal: the conclusion first, then what it rests on, then the cost."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from semfreeze_core.cli.printing.tables import print_table
from semfreeze_core.cli.printing.validation import print_measured
from semfreeze_core.cost import Saving
from semfreeze_core.gains.bootstrap import mean_interval, resampling_weights
from semfreeze_core.gains.calibration import corrected
from semfreeze_core.plan.depth_spread import depth_spread
from semfreeze_core.plan.document import FreezePlan
from semfreeze_core.plan.slices import Slice
from semfreeze_core.records.gain import GainCurve
from semfreeze_core.records.prediction_error import Calibration
from semfreeze_core.records.run import Run
from semfreeze_core.records.trace import TransitionTrace
from semfreeze_core.records.validation import ValidationReport
from semfreeze_core.wording.calibration import corrected_sentence
from semfreeze_core.wording.costs import (
    MEMORY_NOTE,
    plan_cost_table,
    saving_sentence,
    setup_line,
    transformers_5_sentence,
)
from semfreeze_core.wording.layers import set_of
from semfreeze_core.wording.plan import plan_details, plan_summary
from semfreeze_core.wording.rules import depth_counts_sentence, depth_spread_sentence, left_out_groups, slices_table
from semfreeze_core.wording.runs import (
    BASELINE,
    LAYER_SOURCES,
    coverage_bars,
    evidence_check,
    first_and_later_sentence,
    layer_table,
    layer_table_caption,
    model_sentence,
    parts_to_come_sentence,
    sample_sentence,
    scaling_law_sentence,
    score_lines,
    timing_sentence,
)
from semfreeze_core.wording.tables import Column
from semfreeze_core.wording.tables import table as text_table

_FROZEN, _TRAINED = "░", "█"


def print_run(run: Run, curve: GainCurve, folder: Path, out: Console) -> None:
    """What was analyzed, the evidence check, and each hidden state's numbers."""
    manifest = run.manifest
    out.print(f"[bold]{escape(model_sentence(manifest))}[/]")
    out.print(escape(sample_sentence(manifest)))
    out.print(escape(timing_sentence(manifest)))
    for note in manifest.notes:
        out.print(f"  note: {escape(note)}")
    for warning in manifest.warnings:
        out.print(f"  [yellow]warning:[/] {escape(warning)}")
    out.print()
    out.print(f"[bold]{evidence_check(curve.evidence.verdict)}[/]")
    for reason in curve.evidence.reasons:
        out.print(f"  {escape(reason)}")
    out.print()
    out.print(escape(layer_table_caption(curve)))
    out.print(LAYER_SOURCES)
    layers = layer_table(curve).without(BASELINE)  # the lift is measured from it; a terminal has no room for both
    bars = [(*row, bar) for row, bar in zip(layers.rows, coverage_bars(curve), strict=True)]
    print_table(text_table([*layers.columns, Column("", text=True)], bars), out)
    out.print(_first_and_later(run.traces[curve.metric], manifest.settings.seed))
    out.print(scaling_law_sentence(curve))
    spread = depth_spread(run, curve.metric)
    out.print(depth_spread_sentence(spread))
    if spread is not None:
        out.print(depth_counts_sentence(spread))
    for line in score_lines(run.scores):
        out.print(escape(line))
    if line := parts_to_come_sentence(manifest.parts_to_come, manifest, folder):
        out.print(escape(line), soft_wrap=True)  # its command is to be copied
    out.print(f"Run: {escape(str(folder))}", soft_wrap=True)


def _first_and_later(trace: TransitionTrace, seed: int) -> str:
    weights = resampling_weights(len(trace.deviation), seed)
    first = mean_interval(trace.first_null[:, -1] - trace.first_deviation[:, -1], weights)
    later = mean_interval(trace.later_null[:, -1] - trace.later_deviation[:, -1], weights)
    return first_and_later_sentence(first, later)


def print_plan(
    plan: FreezePlan, reports: Mapping[str, ValidationReport], out: Console, *, saving: Saving | None = None
) -> None:
    """The recommendation, its cost, what finetunes measured of it, why this depth, and the cost by component.

    Args:
        plan: what is recommended.
        reports: the run's validations, by name.
        out: where to print.
        saving: the change of the plan's setup that saves most memory, or None.
    """
    out.print()
    first, *cost = plan_summary(plan)
    out.print(f"[bold]{escape(first)}[/]")
    for line in cost:
        out.print(escape(line))
    print_measured(reports, plan.freeze_depth, plan.n_layers, out, layers=set_of(plan.trainable), switch=plan.switch)
    if plan.trainable is not None:
        stack = "".join(_TRAINED if trained else _FROZEN for trained in plan.trainable.layers)
        later = "" if plan.switch is None else f" after step {plan.switch.step}"
        out.print(f"  input {stack} output   ({_FROZEN} frozen, {_TRAINED} trained{later})")
    for line in plan_details(plan):
        out.print(f"  {escape(line)}")
    for warning in plan.warnings:
        out.print(f"  [yellow]warning:[/] {escape(warning)}")
    out.print()
    out.print(f"Estimated cost (memory {plan.cost.status}): {setup_line(plan.cost.setup)}")
    print_table(plan_cost_table(plan), out)
    out.print(MEMORY_NOTE)
    if plan.cost.transformers_5 is not None:
        out.print(transformers_5_sentence(plan.cost.transformers_5))
    planned = plan.cost.planned
    if saving is not None and planned is not None and planned.bytes.total is not None:
        out.print(saving_sentence(saving, planned.bytes.total))


def print_correction(coverage: float | None, calibration: Calibration | None, out: Console) -> None:
    """What a plan's coverage becomes by what finetunes showed; nothing while they are too few."""
    if coverage is None or calibration is None:
        return
    better = corrected(coverage, calibration)
    if better is not None:
        out.print(escape(corrected_sentence(coverage, calibration, better)))


def print_slices(groups: Sequence[Slice], left_out: int, by: str, out: Console) -> None:
    """Each group of examples on its own: the depth that the coverage rule's formula selects for it."""
    if not groups:
        out.print(f"No group by {escape(by)} has enough examples to be analyzed on its own.")
        return
    print_table(slices_table(groups, by), out)
    if note := left_out_groups(left_out):
        out.print(note)
