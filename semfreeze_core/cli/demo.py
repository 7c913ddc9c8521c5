"""`semfreeze demo`: the whole workflow on the bundled model and a sample task."""

from pathlib import Path
from typing import Annotated

import typer

from semfreeze_core.cli import app
from semfreeze_core.cli.options.common import QuietOption
from semfreeze_core.records.defaults import EXAMPLES
from semfreeze_core.wording.escaping import terminal_text

DEMO_RUN = "demo"


@app.command()
def demo(
    data: Annotated[str, typer.Option(help="Sample task.")] = "sample:sentence_to_json_train",
    examples: Annotated[int, typer.Option(help="Examples to draw.")] = EXAMPLES,
    quiet: QuietOption = False,
) -> None:
    """Analyze the bundled model on a sample task and print the plan; a finished analysis is reused."""
    from semfreeze_core.cli.printing.console import progress_on_stderr
    from semfreeze_core.cli.printing.run import print_plan, print_run
    from semfreeze_core.cli.printing.tables import console
    from semfreeze_core.plan.document import plan_text
    from semfreeze_core.plan.make import curve_of, make_plan
    from semfreeze_core.runs.folder import read_run
    from semfreeze_core.runs.reports import list_validations
    from semfreeze_core.runs.store import is_done, run_path
    from semfreeze_core.storage import write_atomically

    folder, run = run_path(DEMO_RUN), None
    if is_done(folder, model="embedded", data=data, examples=examples):
        if not quiet:
            typer.echo("Already analyzed; opening the run. (To start over: semfreeze runs rm demo)", err=True)
        run = read_run(folder)
    if run is None or run.manifest.parts_to_come:
        from semfreeze_core.saved_analysis import add_missing_parts, missing_parts, save_analysis
        from semfreeze_core.workflow.analysis import begin_analysis
        from semfreeze_core.workflow.request import AnalysisRequest

        request = AnalysisRequest("embedded", data, examples=examples)
        with progress_on_stderr(quiet) as progress:
            if run is not None:
                run = add_missing_parts(request, folder, missing_parts(request, folder), progress)
            else:
                _require_demo_run(folder)
                analysis = begin_analysis(request, progress)
                run = save_analysis(analysis, folder, overwrite=folder.exists(), progress=progress)
    out = console()
    print_run(run, curve_of(run, "semantic"), folder, out)
    plan = make_plan(run, run_name=DEMO_RUN)
    write_atomically(folder / "plan.json", plan_text(plan, folder))
    print_plan(plan, list_validations(folder), out)
    typer.echo(terminal_text(f"Plan: {folder / 'plan.json'}"))
    typer.echo("Next: semfreeze analyze --model YOUR_MODEL --data YOUR_FILE.jsonl")


def _require_demo_run(folder: Path) -> None:
    """Refuse to replace a run called demo that the demo did not make; an unreadable one may be replaced."""
    from semfreeze_core.errors import RunError
    from semfreeze_core.runs.folder import read_manifest
    from semfreeze_core.storage import require_free

    require_free(folder, overwrite=True)
    try:
        model = read_manifest(folder).model.identity.source
    except RunError:
        return
    if model != "embedded":
        raise RunError(
            f"The run demo is your analysis of {model}, so the demo does not replace it. Give it another name "
            "first: semfreeze runs rename demo NEW_NAME"
        )
