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
    """Show runs side by side: of other models, checkpoints of one training, or data; the first is compared with."""
    from rich.markup import escape

    from semfreeze_core.cli.printing.compare_sentences import depths_words, difference_words
    from semfreeze_core.cli.printing.console import print_json
    from semfreeze_core.cli.printing.documents import side_by_side_document
    from semfreeze_core.cli.printing.run import console
    from semfreeze_core.errors import PlanError
    from semfreeze_core.plan.compare import side_by_side
    from semfreeze_core.runs.folder import read_run
    from semfreeze_core.runs.reports import list_validations
    from semfreeze_core.runs.store import find_run

    places = {name: find_run(name) for name in runs}
    if len({place.resolve() for place in places.values()}) < len(runs):
        raise PlanError("The same run is named twice: a run does not differ from itself.")
    short = {name: Path(name).name for name in runs}
    told = short if len(set(short.values())) == len(runs) else {name: name for name in runs}
    folders = {told[name]: place for name, place in places.items()}
    found = side_by_side({name: read_run(folder) for name, folder in folders.items()}, metric)
    proofs = {name: list_validations(folder) for name, folder in folders.items()}
    if as_json:
        print_json(side_by_side_document(found, folders, proofs))
        return
    from semfreeze_core.cli.printing.compare import runs_table

    out = console()
    out.print(f"[bold]{escape(depths_words(found))}[/]")
    for warning in found.warnings:
        out.print(f"[yellow]{escape(warning)}[/]")
    out.print()
    out.print(runs_table(found, proofs))
    first = found.columns[0].name
    for name, quantities in found.differences.items():
        for quantity, held in quantities.items():
            out.print(escape(difference_words(name, first, quantity, held)))
    out.print("Bands hold at all depths at once (95 %, bootstrap over examples). Prices are for three epochs over each")
    out.print("run's own data, of full finetuning's.")
