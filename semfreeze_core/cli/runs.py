"""`semfreeze runs`: the named runs."""

from typing import Annotated

import typer

from semfreeze_core.cli import app
from semfreeze_core.cli.options.common import JsonOption
from semfreeze_core.wording.escaping import terminal_text

runs_app = typer.Typer(no_args_is_help=True, help="List, remove, rename and annotate runs.")
app.add_typer(runs_app, name="runs")

NameArgument = Annotated[str, typer.Argument(help="Name of a run in the store.")]


@runs_app.command("list")
def list_command(as_json: JsonOption = False) -> None:
    """List the runs in the store with their disk use."""
    from rich.markup import escape
    from rich.table import Table

    from semfreeze_core.cli.printing.console import print_json
    from semfreeze_core.cli.printing.tables import console
    from semfreeze_core.runs.store import list_runs
    from semfreeze_core.storage import runs_folder
    from semfreeze_core.wording.numbers import byte_size

    entries = list_runs()
    if as_json:
        rows = [
            {
                "name": e.name,
                "model": e.manifest.model.identity.source if e.manifest else None,
                "data": e.manifest.data.source if e.manifest else None,
                "n_examples": e.manifest.data.n_examples if e.manifest else None,
                "created": e.manifest.provenance.created if e.manifest else None,
                "bytes": e.bytes,
                "note": e.note,
                "problem": e.problem or None,
            }
            for e in entries
        ]
        print_json({"folder": str(runs_folder()), "runs": rows})
        return
    if not entries:
        typer.echo(terminal_text(f"No runs in {runs_folder()} yet. The bundled run is named: example"))
        return
    table = Table(box=None, padding=(0, 1))
    for heading in ("name", "model", "data", "examples", "created", "size", "note"):
        table.add_column(heading, overflow="fold")
    for e in entries:
        m = e.manifest
        what = (m.model.identity.source, m.data.source, str(m.data.n_examples), m.provenance.created) if m else ()
        cells = (e.name, *(what or (f"unreadable: {e.problem}", "", "", "")), byte_size(e.bytes), e.note)
        table.add_row(*map(escape, cells))
    console().print(table)


@runs_app.command("rm")
def remove(name: NameArgument, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False) -> None:
    """Delete a run from the store."""
    from semfreeze_core.errors import InputError
    from semfreeze_core.runs.store import remove_run, stored_run
    from semfreeze_core.wording.numbers import byte_size

    folder = stored_run(name)
    if not yes:
        try:
            sure = typer.confirm(f"Delete {folder}?")
        except typer.Abort as abort:
            raise InputError("Nothing was deleted: the question was not answered. Use --yes in scripts.") from abort
        if not sure:
            typer.echo("Nothing was deleted.")
            return
    typer.echo(terminal_text(f"Deleted {name} ({byte_size(remove_run(name))})."))


@runs_app.command()
def rename(name: NameArgument, new_name: Annotated[str, typer.Argument(help="Its new name.")]) -> None:
    """Give a run another name."""
    from semfreeze_core.runs.store import rename_run

    rename_run(name, new_name)
    typer.echo(terminal_text(f"{name} is now called {new_name}."))


@runs_app.command()
def note(
    name: NameArgument,
    text: Annotated[str | None, typer.Argument(help='Text of the note; "" removes it.')] = None,
) -> None:
    """Write a run's note, or print it."""
    from semfreeze_core.runs.store import read_note, stored_run, write_note

    if text is None:
        typer.echo(terminal_text(read_note(stored_run(name))))
    else:
        write_note(name, text)
