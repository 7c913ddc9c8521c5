"""`semfreeze _job`: the process of a background job; its command's progress goes into the job's events."""

import signal
import traceback
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from semfreeze_core.cli import app
from semfreeze_core.wording.escaping import terminal_text


@app.command("_job", hidden=True)
def job(folder: Annotated[Path, typer.Argument(help="The job's folder.")]) -> None:
    """Run a background job; started by semfreeze itself."""
    from semfreeze_core.runs.job_folder import read_spec
    from semfreeze_core.runs.job_process import hold_job

    signal.signal(signal.SIGTERM, _interrupt)
    spec = read_spec(folder)
    if spec is None:
        raise typer.BadParameter(f"{folder} is not a job's folder.")
    arguments = [*spec.command, *(() if spec.out is None else ("--out", spec.out))]
    hold_job(folder, lambda: _run(arguments, folder))


def _run(arguments: list[str], folder: Path) -> int:
    """The exit code of a semfreeze command, run here."""
    from semfreeze_core.cli.printing.console import listening
    from semfreeze_core.runs.job_events import EventWriter

    with listening(EventWriter(folder)):
        try:
            code = app(arguments, prog_name="semfreeze", standalone_mode=False)
        except typer.Abort:  # raised for an interruption
            return 1
        except Exception as error:
            # Arguments that were not understood; Typer's class for that has moved between versions.
            if (format_message := getattr(error, "format_message", None)) is None:
                traceback.print_exc()
            else:
                typer.echo(terminal_text(f"semfreeze: {format_message()}"), err=True)
            return 1
    return code if isinstance(code, int) else 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Turn SIGTERM into Ctrl-C, on which a command saves what is finished."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt
