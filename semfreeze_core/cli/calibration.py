"""`semfreeze calibration`: how far predictions were off, over all finetunes that were kept."""

from pathlib import Path
from typing import Annotated

import typer

from semfreeze_core.cli import app
from semfreeze_core.cli.options.common import JsonOption


@app.command()
def calibration(
    runs: Annotated[Path | None, typer.Option("--runs", help="Folder of runs (default: the named runs).")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show predicted against measured over every validation and sweep that was kept."""
    from rich.markup import escape
    from rich.table import Table

    from semfreeze_core.cli.printing.console import print_json
    from semfreeze_core.cli.printing.run import console
    from semfreeze_core.runs.calibration import read_calibration
    from semfreeze_core.storage import user_path
    from semfreeze_core.wording.numbers import calibration_words

    report = read_calibration(None if runs is None else user_path(str(runs)))
    if as_json:
        print_json(report.model_dump(mode="json"))
        return
    out = console()
    for problem in report.problems:
        out.print(f"[yellow]left out:[/] {escape(problem)}")
    if not report.calibrations:
        out.print("No finished validation or sweep is kept yet: `semfreeze validate RUN` and `semfreeze sweep RUN` do.")
        return
    for found in report.calibrations:
        out.print(escape(calibration_words(found)))
    table = Table(box=None, header_style="dim", padding=(0, 1))
    for heading in ("finetune", "arm", "quantity"):
        table.add_column(heading, overflow="fold")
    for heading in ("predicted", "measured"):
        table.add_column(heading, justify="right")
    for pair in report.pairs:
        shown = ("{:.3g}".format, "{:.2f}".format)[pair.quantity.startswith(("coverage", "seconds"))]
        cells = (pair.finetune, pair.arm, pair.quantity, shown(pair.predicted), shown(pair.measured))
        table.add_row(*map(escape, cells))
    out.print()
    out.print(table)
    out.print("Coverage is a share; memory bytes; seconds and what is predicted of them are over full finetuning's.")
