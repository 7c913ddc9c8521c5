"""A validation as a report for the terminal: the verdict first, then the arms, then what was predicted beside it."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from semfreeze_core.records.interval import IntervalEntry
from semfreeze_core.records.validation import ArmSummary, ValidationReport
from semfreeze_core.wording.numbers import flop, gib, percent

_STYLES = {"holds": "green", "fails": "red", "undecided": "yellow"}


def print_verdict(name: str, report: ValidationReport, out: Console) -> None:
    """A validation in one sentence."""
    depth = "abstained" if report.freeze_depth is None else f"freeze {report.freeze_depth}"
    done = "" if report.finished else ", not finished"
    out.print(
        f"Validation [bold]{escape(name)}[/] ({depth}{done}): [bold {_STYLES[report.verdict]}]"
        f"{report.verdict}[/] at equal {report.settings.budget}: {escape(report.reason)}."
    )


def print_validation(report: ValidationReport, out: Console) -> None:
    """The verdict with its reason, both readings of every arm, and memory and FLOP beside their predictions."""
    settings = report.settings
    depth = "abstained" if report.freeze_depth is None else f"freeze {report.freeze_depth} of {report.n_layers}"
    for budget, verdict in report.verdicts.items():
        decides = "" if budget != settings.budget or len(report.verdicts) == 1 else " (decides)"
        out.print(
            f"[bold {_STYLES[verdict]}]{verdict.capitalize()}[/] at equal {budget}{decides}: "
            f"{escape(report.reasons[budget])}."
        )
    if not report.finished:
        out.print("[yellow]Not finished:[/] the same command goes on where it ended.")
    for warning in report.warnings:
        out.print(f"  [yellow]warning:[/] {escape(warning)}")
    out.print()
    out.print(
        f"Plan: {depth}. {settings.model}, {settings.n_train} training examples of {escape(settings.train)}, "
        f"{settings.n_eval} eval items of {escape(settings.eval)}; {settings.steps} steps of {settings.batch_size}, "
        f"{len(settings.seeds)} seed{'s' if len(settings.seeds) > 1 else ''}, {settings.precision}, head at "
        f"{'every position' if settings.all_logits else 'supervised positions'}"
    )
    out.print(_quality(report))
    if len(report.verdicts) > 1:
        out.print(
            "Equal compute: an arm goes on until it has cost the FLOP of full finetuning's steps, cache included."
        )
    if stopped := _stopped(report):
        out.print(f"Each stopped where its loss was lowest, by other items than are read: {stopped}.")
    out.print(_price(report))
    out.print(f"Memory predicted is the sum of its parts; measured: {_peak_kind(report)}.")
    if any(arm.peak_bytes.kind.startswith("process") for arm in report.arms.values()):
        out.print("A process holds more than its parts: what its allocator keeps, and the checkpoint's pages.")
    for name, arm in report.arms.items():
        for seed in arm.failed_seeds:
            out.print(f"  [red]failed:[/] {name}, seed {seed}: {escape(arm.reason)}")
        for note in arm.notes:
            out.print(f"  note: {name}: {escape(note)}")


def _quality(report: ValidationReport) -> Table:
    table = Table(box=None, header_style="dim", padding=(0, 1))
    both = len(report.verdicts) > 1
    table.add_column("arm")
    base = report.baseline
    answered = ["accuracy"] if base.n_accuracy_items else []
    columns = ["frozen", "rate", "loss", "kept", *answered]
    columns += ["steps", "loss", "kept", *answered] if both else []
    for column in columns:
        table.add_column(column, justify="right")
    before = ["before", "", "", f"{base.loss:.3f}", "", *([_percent(base.accuracy)] if answered else [])]
    table.add_row(*before, *[""] * (len(columns) + 1 - len(before)), style="dim")
    for name, arm in report.arms.items():
        row = [
            f"{arm.freeze_depth}",
            f"{arm.learning_rate:g}",
            _number(arm.eval_loss_after),
            _share(arm.improvement_kept),
            *([_percent(arm.eval_accuracy_after)] if answered else []),
        ]
        if both:
            row += [
                f"{arm.steps_compute or '—'}",
                _number(arm.eval_loss_after_compute),
                _share(arm.improvement_kept_compute),
                *([_percent(arm.eval_accuracy_after_compute)] if answered else []),
            ]
        table.add_row(name, *row)
    table.title = (
        f"Eval loss (nats a token, mean over {base.n_items} items), share of full's improvement kept [95 %]"
        + (f", accuracy on {base.n_accuracy_items} items" if answered else "")
        + f"; at {report.settings.steps} steps"
        + (", then at equal compute" if both else "")
    )
    table.title_justify, table.title_style = "left", "bold"
    return table


def _stopped(report: ValidationReport) -> str:
    """Shares kept where every run, full finetuning's too, is stopped at its lowest reading; "" where there are none."""
    shares = {n: arm.improvement_kept_stopped for n, arm in report.arms.items() if n != "full"}
    return ", ".join(f"{name} kept {_share(kept)}" for name, kept in shares.items() if kept.estimate is not None)


def _price(report: ValidationReport) -> Table:
    table = Table(box=None, header_style="dim", padding=(0, 1))
    table.add_column("arm")
    for column in ("trained", "step", "cache", "FLOP of full", "run FLOP", "predicted", "peak", "predicted"):
        table.add_column(column, justify="right")
    for name, arm in report.arms.items():
        table.add_row(name, *_price_row(arm))
    return table


def _price_row(arm: ArmSummary) -> list[str]:
    predicted = arm.peak_bytes.predicted
    return [
        f"{arm.trainable_parameters / 1e6:.1f} M",
        f"{arm.median_step_seconds:.2f} s",
        f"{arm.cache_seconds:.1f} s" if arm.cache_seconds else "—",
        percent(arm.relative_flop),
        flop(arm.flop.counted),
        flop(arm.flop.predicted),
        gib(arm.peak_bytes.measured),
        "unknown" if predicted is None else gib(predicted),
    ]


def _peak_kind(report: ValidationReport) -> str:
    return ", ".join(dict.fromkeys(arm.peak_bytes.kind for arm in report.arms.values()))


def _number(value: float | None) -> str:
    return "—" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "—" if value is None else percent(value)


def _share(entry: IntervalEntry) -> str:
    if entry.estimate is None or entry.low is None or entry.high is None:
        return "—"
    return f"{100 * entry.estimate:.0f} % [{100 * entry.low:.0f}, {100 * entry.high:.0f}]"
