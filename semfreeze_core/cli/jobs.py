"""`semfreeze jobs`: the background jobs that the dashboard starts."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from semfreeze_core.cli import app
from semfreeze_core.cli.options.common import JsonOption
from semfreeze_core.wording.escaping import terminal_text

if TYPE_CHECKING:
    from semfreeze_core.records.job import Job

jobs_app = typer.Typer(no_args_is_help=True, help="List, follow and cancel background jobs.")
app.add_typer(jobs_app, name="jobs")

NameArgument = Annotated[str, typer.Argument(help="Name of a job, as listed.")]
RunsOption = Annotated[Path | None, typer.Option("--runs", help="Folder of runs (default: the named runs).")]


@jobs_app.command("list")
def list_command(runs: RunsOption = None, as_json: JsonOption = False) -> None:
    """List the jobs of a folder of runs, oldest first, with their state."""
    from rich.markup import escape
    from rich.table import Table

    from semfreeze_core.cli.printing.console import print_json
    from semfreeze_core.cli.printing.tables import console
    from semfreeze_core.runs.jobs import list_jobs
    from semfreeze_core.wording.runs import job_state

    folder = _folder(runs)
    jobs = list_jobs(folder)
    if as_json:
        print_json({"folder": str(folder), "jobs": [_row(folder, job) for job in jobs]})
        return
    if not jobs:
        typer.echo(terminal_text(f"No jobs in {folder}."))
        return
    table = Table(box=None, padding=(0, 1))
    for heading in ("job", "state", "doing", "what"):
        table.add_column(heading, overflow="fold")
    for job in jobs:
        row = _row(folder, job)
        doing = row["reason"] or (row["stage"] if job.state == "running" else "") or ""
        table.add_row(*map(escape, (job.name, job_state(job.state), str(doing), job.spec.title)))
    console().print(table)


@jobs_app.command("log")
def log(
    name: NameArgument,
    runs: RunsOption = None,
    lines: Annotated[int, typer.Option(min=1, help="How many of the last lines.")] = 50,
) -> None:
    """Print the end of a job's log."""
    from semfreeze_core.runs.job_folder import read_log
    from semfreeze_core.runs.jobs import job_folder

    typer.echo(terminal_text(read_log(job_folder(_folder(runs), name), lines)))


@jobs_app.command("cancel")
def cancel_command(name: NameArgument, runs: RunsOption = None) -> None:
    """Cancel a job and everything it started."""
    from semfreeze_core.runs.jobs import cancel
    from semfreeze_core.wording.runs import job_state

    job = cancel(_folder(runs), name)
    typer.echo(terminal_text(f"{job.name}: {job_state(job.state)}"))


def _folder(runs: Path | None) -> Path:
    from semfreeze_core.storage import runs_folder, user_path

    return runs_folder() if runs is None else user_path(str(runs)).absolute()


def _row(folder: Path, job: "Job") -> dict[str, object]:
    from semfreeze_core.runs.job_events import read_progress
    from semfreeze_core.runs.jobs import JOBS, failure

    progress = read_progress(folder / JOBS / job.name)
    return {
        "name": job.name,
        "state": job.state,
        "title": job.spec.title,
        "command": ["semfreeze", *job.spec.command],
        "out": job.spec.out,
        "ahead": job.jobs_ahead,
        "stage": progress.stage if progress else None,
        "done": progress.done if progress else None,
        "total": progress.total if progress else None,
        "seconds_left": progress.seconds_left if progress and not job.finished else None,
        "reason": failure(folder, job) if job.state in ("failed", "dead") else None,
    }
