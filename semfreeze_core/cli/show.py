"""`semfreeze show`: what a run says."""

from semfreeze_core.cli import app
from semfreeze_core.cli.options import JsonOption, MetricOption, RunArgument


@app.command()
def show(run: RunArgument, metric: MetricOption = "semantic", as_json: JsonOption = False) -> None:
    """Show a run: evidence, deviations, gains and gain coverage by layer."""
    from semfreeze_core.cli.console import print_json
    from semfreeze_core.cli.documents import show_document
    from semfreeze_core.cli.report import console, print_run
    from semfreeze_core.plan.make import curve_of
    from semfreeze_core.runs.folder import read_run
    from semfreeze_core.runs.store import find_run

    folder = find_run(run)
    reading = read_run(folder)
    if as_json:
        print_json(show_document(reading, folder, metric))
    else:
        print_run(reading, curve_of(reading, metric), folder, console())
