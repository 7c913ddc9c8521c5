"""The dashboard's own commands; found by the command line through the entry point group `semfreeze.commands`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from semfreeze_core.cli import app
from semfreeze_core.cli.options.common import MetricOption, RunArgument
from semfreeze_core.errors import InputError
from semfreeze_core.wording.escaping import terminal_text


@contextmanager
def dashboard_extra() -> Iterator[None]:
    """Imports of the dashboard's; without its libraries a sentence says which extra brings them.

    Raises:
        InputError: one of them is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in ("streamlit", "plotly", "altair"):
            raise
        raise InputError(f"This needs {error.name}: pip install 'semfreeze[dashboard]'.") from error


@app.command()
def report(
    run: RunArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="HTML file to write.")] = Path("report.html"),
    metric: MetricOption = "semantic",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Write a run as one HTML file: curves, baselines, scores, costs, plan. It opens offline."""
    from semfreeze_core.errors import RunError
    from semfreeze_core.runs.folder import read_run
    from semfreeze_core.runs.reports import list_validations
    from semfreeze_core.runs.store import find_run
    from semfreeze_core.storage import user_path, write_atomically

    with dashboard_extra():
        from ..panels.html_report import report_html

    path = user_path(str(out))
    if path.exists() and not overwrite:
        raise RunError(f"{path} already exists. Choose another --out, or replace it with --overwrite.")
    folder = find_run(run)
    name, validations = folder.absolute().name, list_validations(folder)
    html = report_html(read_run(folder), metric=metric, name=name, validations=validations)
    write_atomically(path, html)
    typer.echo(terminal_text(f"Report: {path}"))


@app.command()
def dashboard(
    run: Annotated[str | None, typer.Argument(metavar="[RUN]", help="Run that opens first, by name.")] = None,
    runs: Annotated[
        Path | None, typer.Option(help="Folder whose sub-folders are runs (default: the named runs).")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on (default: the first free one from 8501).")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on (default: only this machine).")] = "127.0.0.1",
    demo: Annotated[bool, typer.Option("--demo", help="Show only the bundled example.")] = False,
    jobs: Annotated[
        int | None, typer.Option(min=1, max=64, help="Background jobs that run at once (default: 1).")
    ] = None,
    no_password: Annotated[
        bool, typer.Option("--no-password", help="Require no password, even if others can reach the server.")
    ] = False,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Start the server and open no browser.")] = False,
) -> None:
    """Explore runs and plans in a browser. Stop with Ctrl-C."""
    from semfreeze_core.storage import user_path

    with dashboard_extra():
        from .start import (
            address_line,
            chosen_port,
            listening_notice,
            password_for,
            port_notice,
            require_run,
            require_startable,
            serve,
            server_command,
            server_environment,
        )

    folder = None if runs is None else user_path(str(runs))
    require_startable(folder, host, port, demo=demo)
    if run is not None:
        require_run(folder, run, demo=demo)
    password = password_for(host, demo=demo, wanted=not no_password)
    if notice := listening_notice(host, demo=demo, password=password):
        typer.echo(notice, err=True)
    if notice := port_notice(host, port):
        typer.echo(notice, err=True)
    listening = chosen_port(host, port)
    typer.echo(address_line(host, listening))
    command = server_command(port=listening, host=host, browser=not no_browser)
    environment = server_environment(runs=folder, demo=demo, host=host, opened=run, jobs=jobs, password=password)
    serve(command, environment)
