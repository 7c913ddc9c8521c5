"""`semfreeze calibration`: how far estimates were off, over all saved finetunes."""

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
    """Compare estimates with measurements over all validations and sweeps."""
    from rich.markup import escape

    from semfreeze_core.cli.printing.console import print_json
    from semfreeze_core.cli.printing.tables import console, print_table
    from semfreeze_core.runs.calibration import bundled_calibration, read_calibration
    from semfreeze_core.storage import user_path
    from semfreeze_core.wording.calibration import (
        BUNDLED_CALIBRATION,
        CALIBRATION_CAPTION,
        calibration_sentence,
        calibration_table,
    )

    report = read_calibration(None if runs is None else user_path(str(runs)))
    if as_json:
        print_json(report.model_dump(mode="json"))
        return
    out = console()
    for problem in report.problems:
        out.print(f"[yellow]left out:[/] {escape(problem)}")
    if not report.calibrations:
        out.print("No finished validations or sweeps. Run `semfreeze validate RUN` or `semfreeze sweep RUN`.")
        out.print(f"\n{BUNDLED_CALIBRATION}")
        report = bundled_calibration()
    for quantity in report.calibrations:
        out.print(escape(calibration_sentence(quantity)))
    out.print()
    print_table(calibration_table(report.pairs), out)
    out.print(CALIBRATION_CAPTION)
