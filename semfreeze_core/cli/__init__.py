"""The `semfreeze` command: arguments and printing, no computation."""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from semfreeze_core.errors import InputError, SemfreezeError
from semfreeze_core.version import __version__


class _Commands(TyperGroup):
    """Turns our errors into one message and an exit code: 2 for the user's input, 1 for a fault of ours."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except SemfreezeError as error:
            typer.echo(f"semfreeze: {error}", err=True)
            raise typer.Exit(2 if isinstance(error, InputError) else 1) from error
        except KeyboardInterrupt as interrupt:
            typer.echo("semfreeze: interrupted; what was not finished was not kept.", err=True)
            raise typer.Exit(2) from interrupt


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Where to finetune: reads each layer of your model on your data and hands out a freeze plan with its price.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"semfreeze {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def load_commands() -> None:
    """Register every command on `app`; what they compute with is imported when a command runs."""
    from semfreeze_core.cli import analyze, cache, cost, demo, models, plan, runs, show  # noqa: F401


def main() -> None:
    """Entry point of the `semfreeze` script."""
    load_commands()
    app()
