"""`semfreeze compare`: several runs side by side."""

from pathlib import Path
from typing import Annotated

import typer

from semfreeze_core.cli import app
from semfreeze_core.cli.options.common import JsonOption, MetricOption


@app.command()
def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Two to six runs: folders, names, or 'example'.")],
    metric: MetricOption = "semantic",
    as_json: JsonOption = False,
) -> None:
    """Compare runs of several models, checkpoints or datasets; differences are from the first run."""
    from semfreeze_core.cli.printing.compare import print_runs_compared
    from semfreeze_core.cli.printing.console import print_json
    from semfreeze_core.cli.printing.documents import side_by_side_document
    from semfreeze_core.cli.printing.tables import console
    from semfreeze_core.errors import PlanError
    from semfreeze_core.plan.compare import side_by_side
    from semfreeze_core.runs.folder import read_run
    from semfreeze_core.runs.reports import list_validations
    from semfreeze_core.runs.store import find_run

    folders_by_name = {name: find_run(name) for name in runs}
    if len({folder.resolve() for folder in folders_by_name.values()}) < len(runs):
        raise PlanError("The same run is named twice: a run does not differ from itself.")
    short = {name: Path(name).name for name in runs}
    shown = short if len(set(short.values())) == len(runs) else {name: name for name in runs}
    folders = {shown[name]: folder for name, folder in folders_by_name.items()}
    compared = side_by_side({name: read_run(folder) for name, folder in folders.items()}, metric)
    validations = {name: list_validations(folder) for name, folder in folders.items()}
    if as_json:
        print_json(side_by_side_document(compared, folders, validations))
        return
    print_runs_compared(compared, validations, console())
