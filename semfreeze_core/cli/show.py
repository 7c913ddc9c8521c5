"""`semfreeze show`: what a run says."""

from semfreeze_core.cli import app
from semfreeze_core.cli.options import JsonOption, MetricOption, RunArgument


@app.command()
def show(run: RunArgument, metric: MetricOption = "semantic", as_json: JsonOption = False) -> None:
    """Show a run: evidence, deviations, gains and gain coverage by layer."""
    from semfreeze_core.cli.console import print_json
    from semfreeze_core.cli.documents import show_document
    from semfreeze_core.cli.report import console, print_run
    from semfreeze_core.cli.validation_report import print_verdict
    from semfreeze_core.plan.make import curve_of
    from semfreeze_core.runs.folder import read_run
    from semfreeze_core.runs.store import find_run
    from semfreeze_core.runs.validations import list_validations

    folder = find_run(run)
    reading, validations = read_run(folder), list_validations(folder)
    if as_json:
        print_json(show_document(reading, folder, metric))
        return
    print_run(reading, curve_of(reading, metric), folder, console())
    for name, report in validations.items():
        print_verdict(name, report, console())
