"""The dashboard's own commands; found by the command line through the entry point group `semfreeze.commands`."""

from pathlib import Path
from typing import Annotated

import typer

from semfreeze_core.cli import app
from semfreeze_core.cli.options import MetricOption, RunArgument


@app.command()
def report(
    run: RunArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="HTML file to write.")] = Path("report.html"),
    metric: MetricOption = "semantic",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file when it is there.")] = False,
) -> None:
    """Write a run as one HTML file: curves, nulls, scores, prices, plan. It opens without network."""
    from semfreeze_core.errors import RunError
    from semfreeze_core.runs.folder import read_run
    from semfreeze_core.runs.store import find_run
    from semfreeze_core.storage import user_path, write_atomically

    from .report import report_html

    place = user_path(str(out))
    if place.exists() and not overwrite:
        raise RunError(f"{place} already exists. Choose another --out, or replace it with --overwrite.")
    folder = find_run(run)
    write_atomically(place, report_html(read_run(folder), metric=metric, name=folder.absolute().name))
    typer.echo(f"Report: {place}")
