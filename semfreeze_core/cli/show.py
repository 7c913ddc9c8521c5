"""`semfreeze show`: a run's results."""

from typing import Annotated

import typer

from semfreeze_core.cli import app
from semfreeze_core.cli.options.common import JsonOption, MetricOption, RunArgument


@app.command()
def show(
    run: RunArgument,
    metric: MetricOption = "semantic",
    groups: Annotated[bool, typer.Option("--slices", help="Also analyze each label's examples on their own.")] = False,
    by: Annotated[
        str | None,
        typer.Option(help="Group by this instead of the label: a column, prompt length or completion length."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show a run: evidence check, distance to target, layer contributions and coverage."""
    from semfreeze_core.cli.printing.console import print_json
    from semfreeze_core.cli.printing.documents import show_document, slices_document
    from semfreeze_core.cli.printing.run import print_run, print_slices
    from semfreeze_core.cli.printing.tables import console
    from semfreeze_core.cli.printing.validation import print_verdicts
    from semfreeze_core.plan.make import curve_of
    from semfreeze_core.plan.slices import LABEL, slices
    from semfreeze_core.runs.folder import read_run
    from semfreeze_core.runs.reports import list_validations
    from semfreeze_core.runs.store import find_run

    folder = find_run(run)
    saved, validations = read_run(folder), list_validations(folder)
    sliced = slices(saved, metric, by or LABEL) if groups or by else None
    if as_json:
        document = show_document(saved, folder, metric)
        print_json(document | ({"slices": slices_document(*sliced, by or LABEL)} if sliced else {}))
        return
    print_run(saved, curve_of(saved, metric), folder, console())
    if sliced:
        print_slices(*sliced, by or LABEL, console())
    for name, report in validations.items():
        print_verdicts(name, report, console())
