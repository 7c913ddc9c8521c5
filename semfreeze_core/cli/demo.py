"""`semfreeze demo`: the whole way on the embedded model and a sample task."""

from pathlib import Path
from typing import Annotated

import typer

from semfreeze_core.cli import app
from semfreeze_core.cli.options.common import QuietOption

DEMO_RUN = "demo"


@app.command()
def demo(
    data: Annotated[str, typer.Option(help="Sample task.")] = "sample:sentence_to_json_train",
    examples: Annotated[int, typer.Option(help="Examples to draw.")] = 256,
    quiet: QuietOption = False,
) -> None:
    """Analyze the bundled model on a sample task and print the plan; a finished analysis is reused."""
    from semfreeze_core.cli.printing.console import progress_on_stderr
    from semfreeze_core.cli.printing.run import print_plan, print_run
    from semfreeze_core.cli.printing.tables import console
    from semfreeze_core.plan.make import curve_of, make_plan
    from semfreeze_core.runs.folder import read_run, write_run
    from semfreeze_core.runs.reports import list_validations
    from semfreeze_core.runs.store import is_done, run_path
    from semfreeze_core.storage import write_atomically

    place = run_path(DEMO_RUN)
    if is_done(place, model="embedded", data=data, examples=examples):
        if not quiet:
            typer.echo("Already analyzed; opening the run. (To start over: semfreeze runs rm demo)", err=True)
        run = read_run(place)
    else:
        _require_own(place)

        from semfreeze_core.workflow import AnalysisRequest, analyze

        with progress_on_stderr(quiet) as progress:
            run = analyze(AnalysisRequest("embedded", data, examples=examples), progress)
            write_run(run, place, overwrite=place.exists())
    out = console()
    print_run(run, curve_of(run, "semantic"), place, out)
    plan = make_plan(run, run_name=DEMO_RUN)
    write_atomically(place / "plan.json", plan.model_dump_json(indent=1) + "\n")
    print_plan(plan, list_validations(place), out)
    typer.echo(f"Plan: {place / 'plan.json'}")
    typer.echo("Next: semfreeze analyze --model YOUR_MODEL --data YOUR_FILE.jsonl")


def _require_own(place: Path) -> None:
    """Refuse to replace what is called demo and was not made by the demo; unreadable remains may go."""
    from semfreeze_core.errors import RunError
    from semfreeze_core.runs.folder import read_manifest
    from semfreeze_core.storage import require_free

    require_free(place, overwrite=True)
    try:
        model = read_manifest(place).model.identity.source
    except RunError:
        return
    if model != "embedded":
        raise RunError(
            f"The run demo is your own reading of {model}, so the demo does not replace it. Give it another name "
            "first: semfreeze runs rename demo NEW_NAME"
        )
