"""The `semfreeze` command: arguments and printing, no computation."""

import errno
import logging
import sys
from importlib.metadata import entry_points
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from semfreeze_core.errors import SemfreezeError
from semfreeze_core.processes import launch, refuse_launcher
from semfreeze_core.version import __version__
from semfreeze_core.wording.escaping import terminal_text

# Errors of a path that the operating system refuses, wherever it is used.
_REFUSED_PATHS = (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP)
_INTERRUPTED = "semfreeze: interrupted; unfinished results are not saved."


class _Commands(TyperGroup):
    """Turns our errors into one message and their exit code, and what a person did into 2."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for arg in args:  # bytes that are not UTF-8 arrive as surrogates, which no document can hold
            if not arg.isascii() and arg != arg.encode(errors="ignore").decode():
                raise typer.BadParameter(f"{arg!a} is not UTF-8. Rename the file, or set the terminal to UTF-8.")
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except SemfreezeError as error:
            _report(f"semfreeze: {error}", error.process)
            raise typer.Exit(error.exit_code) from error
        except OSError as error:
            if error.filename is None or error.errno not in _REFUSED_PATHS:
                raise
            _report(f"semfreeze: {error.filename} cannot be used: {error.strerror}.")
            raise typer.Exit(2) from error
        except KeyboardInterrupt as interrupt:
            _report(_INTERRUPTED)
            raise typer.Exit(2) from interrupt


def _report(message: str, process: int | None = None) -> None:
    """Print why a command ends: of several processes that work together by the first, or by the one that failed."""
    at = launch()
    if process is not None:
        message = f"{message} (Process {process} of {at.count}, counted from 0.)"
    elif at.index > 0:
        return
    typer.echo(terminal_text(message), err=True)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Where to finetune: analyzes each layer of your model on your data and recommends which layers to freeze.",
    epilog="Exit codes: 0 done, 1 a fault of semfreeze, 2 your input, or memory and disk that it does not fit in, "
    "3 some variants of a validation or sweep failed and the others are saved.",
)


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"semfreeze {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if context.invoked_subcommand not in ("analyze", "train"):
        refuse_launcher(f"semfreeze {context.invoked_subcommand}")


def load_commands() -> None:
    """Register every command on `app`; what they compute with is imported when a command runs."""
    from semfreeze_core.cli import (  # noqa: F401
        analyze,
        audit,
        cache,
        calibration,
        compare,
        cost,
        demo,
        export,
        finetune,
        job,
        jobs,
        models,
        plan,
        preview,
        runs,
        show,
        sweep,
        train,
        umap,
        validate,
    )

    # Packages above the core bring commands of their own; the core does not import them.
    for entry_point in entry_points(group="semfreeze.commands"):
        entry_point.load()


def main() -> None:
    """Entry point of the `semfreeze` script."""
    # Where it is installed transformers imports it, and on some CPUs it then warns of a package that it could do with.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    try:
        load_commands()
    except KeyboardInterrupt:
        typer.echo(_INTERRUPTED, err=True)
        sys.exit(2)
    app()
