"""`semfreeze cache`: files that semfreeze can rebuild."""

from typing import Annotated

import typer

from semfreeze_core.cli import app
from semfreeze_core.cli.options.common import JsonOption
from semfreeze_core.wording.escaping import terminal_text

cache_app = typer.Typer(
    no_args_is_help=True,
    help="List and clear cached files (converted models, models sent by Ray, boundary states, spectra, UMAP layouts).",
)
app.add_typer(cache_app, name="cache")


@cache_app.command("list")
def list_command(as_json: JsonOption = False) -> None:
    """List the cache's entries with their disk use."""
    from semfreeze_core.cli.printing.console import print_json
    from semfreeze_core.storage import cache_entries, cache_folder, folder_bytes
    from semfreeze_core.wording.numbers import byte_size

    entries = [(str(e.relative_to(cache_folder())), folder_bytes(e)) for e in cache_entries()]
    if as_json:
        print_json({"folder": str(cache_folder()), "entries": [{"name": n, "bytes": b} for n, b in entries]})
        return
    typer.echo(terminal_text(f"{cache_folder()}: {byte_size(sum(b for _, b in entries))}"))
    for name, n_bytes in entries:
        typer.echo(terminal_text(f"  {name}  {byte_size(n_bytes)}"))


@cache_app.command()
def clear(yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False) -> None:
    """Delete the cache; semfreeze rebuilds what it needs."""
    from semfreeze_core.errors import InputError
    from semfreeze_core.storage import cache_folder, clear_cache
    from semfreeze_core.wording.numbers import byte_size

    if not yes:
        try:
            sure = typer.confirm(f"Delete everything in {cache_folder()}?")
        except typer.Abort as abort:
            raise InputError("Nothing was deleted: the question was not answered. Use --yes in scripts.") from abort
        if not sure:
            typer.echo("Nothing was deleted.")
            return
    typer.echo(f"Freed {byte_size(clear_cache())}.")
