"""Starting the dashboard's server, with what it may show and to whom.

Run as a module it is the server: what pages need is imported and what the first one says is computed before it
listens, so that the first page does not wait.
"""

import gc
import logging
import os
import secrets
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import NoReturn

from semfreeze_core.errors import InputError, RunError
from semfreeze_core.runs.job_process import AT_ONCE_VARIABLE
from semfreeze_core.runs.jobs import revive
from semfreeze_core.storage import runs_folder

from ..data.run_folder import (
    DEMO_VARIABLE,
    OPEN_VARIABLE,
    PATHS_VARIABLE,
    RUNS_VARIABLE,
    RunCatalog,
    first_run,
    server_catalog,
)
from .auth import PASSWORD_VARIABLE

APP = Path(__file__).parents[1] / "app.py"
_VARIABLES = (RUNS_VARIABLE, DEMO_VARIABLE, PATHS_VARIABLE, OPEN_VARIABLE, PASSWORD_VARIABLE)
# The user's own choice of password; not a flag, because process lists and shell histories show those.
PASSWORD_SETTING = "SEMFREEZE_PASSWORD"
_USUAL_PORT = 8501  # Streamlit's
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def server_command(*, port: int, host: str, browser: bool) -> list[str]:
    """The command line of the server.

    Streamlit's own greeting is left out, and with it an advertisement that it lays over the pages.
    """
    flags = ["--server.address", host, "--server.port", str(port), "--server.headless", str(not browser).lower()]
    flags += ["--logger.hideWelcomeMessage", "true"]
    return [sys.executable, "-P", "-m", "semfreeze_dashboard.server.start", *flags]


def server_environment(
    *,
    runs: Path | None,
    demo: bool,
    host: str = "127.0.0.1",
    opened: str | None = None,
    jobs: int | None = None,
    password: str | None = None,
) -> dict[str, str]:
    """The server's environment: ours, which runs it shows, and whether visitors may name files of this machine.

    Args:
        runs: folder of the runs; None is the store.
        demo: whether the example alone is shown.
        host: address that is listened on.
        opened: run that opens first.
        jobs: how many background jobs run at once; None leaves it at what it is.
        password: that visitors need; None requires none.
    """
    environment = {name: value for name, value in os.environ.items() if name not in _VARIABLES}
    if runs is not None:
        environment[RUNS_VARIABLE] = str(runs.absolute())
    if demo:
        environment[DEMO_VARIABLE] = "1"
    if host in LOOPBACK:
        environment[PATHS_VARIABLE] = "1"
    if opened is not None:
        environment[OPEN_VARIABLE] = opened
    if password is not None:
        environment[PASSWORD_VARIABLE] = password
    if jobs is not None:
        environment[AT_ONCE_VARIABLE] = str(jobs)
    return environment


def password_for(host: str, *, demo: bool, wanted: bool) -> str | None:
    """The password that visitors need: SEMFREEZE_PASSWORD where it is set, else a new one where others can connect.

    Args:
        host: address that is listened on.
        demo: a demonstration shows nothing of yours and requires only a password that was chosen.
        wanted: False requires none.
    """
    if not wanted:
        return None
    chosen = os.environ.get(PASSWORD_SETTING)
    return chosen or (None if host in LOOPBACK or demo else secrets.token_urlsafe(9))


def listening_notice(host: str, *, demo: bool, password: str | None) -> str:
    """What listening on an address means, in a sentence; "" when only this machine can reach it."""
    if host in LOOPBACK:
        return ""
    shown = (
        "can see the bundled example"
        if demo
        else ("can see every run in the runs folder, prompts included, upload files and start analyses")
    )
    who = "everybody who reaches this machine"
    if password is None:
        return f"Listening on {host}: {who} {shown}. There is no password."
    shown_password = f"that of {PASSWORD_SETTING}" if password == os.environ.get(PASSWORD_SETTING) else password
    return f"Listening on {host}: {who} and has the password {shown}. The password: {shown_password}"


def chosen_port(host: str, port: int | None) -> int:
    """The port to listen on: the given one, any for 0, and for None the first free of 100 from 8501 on, or any."""
    if port:
        return port
    for candidate in (*range(_USUAL_PORT, _USUAL_PORT + 100), 0) if port is None else (0,):
        with suppress(OSError), _bound(host, candidate) as probe:
            return int(probe.getsockname()[1])
    return 0


def address_line(host: str, port: int) -> str:
    """Where the pages are, for the person who started the server."""
    return f"Dashboard: http://{'localhost' if host in ('0.0.0.0', '::') else host}:{port}  (Ctrl-C stops it)"


def require_startable(runs: Path | None, host: str, port: int | None, *, demo: bool) -> None:
    """Refuse, before a server starts, what it could not serve.

    Raises:
        InputError: --demo with --runs, or an address that cannot be listened on.
        RunError: the runs folder is none.
    """
    if demo and runs is not None:
        raise InputError("--demo shows the bundled example alone: leave --runs out.")
    if runs is not None and not runs.is_dir():
        raise RunError(f"{runs} is not a folder of runs. Leave --runs out for the runs that have names.")
    try:
        with _bound(host, port or 0):
            pass
    except (OSError, OverflowError) as error:
        where = host if port is None else f"{host}:{port}"
        raise InputError(f"{where} cannot be listened on: {error}. Choose another --port or --host.") from error


@contextmanager
def _bound(host: str, port: int) -> Iterator[socket.socket]:
    """A socket bound as a server's would be."""
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        yield probe


def port_notice(host: str, port: int | None) -> str:
    """What to say when something answers at the usual port already; "" when nothing does, or another was chosen."""
    if port is not None:
        return ""
    with suppress(OSError), socket.create_connection((host if host in LOOPBACK else "127.0.0.1", _USUAL_PORT), 0.5):
        return (
            f"Another server already uses port {_USUAL_PORT}, perhaps your own dashboard: http://localhost:"
            f"{_USUAL_PORT}. This one takes the next free port."
        )
    return ""


def require_run(runs: Path | None, name: str, *, demo: bool) -> None:
    """Refuse to open first a run that is not in the catalog.

    Raises:
        RunError: naming what there is.
    """
    names = RunCatalog(None if demo else runs or runs_folder()).names
    if name not in names:
        raise RunError(f"There is no run called {name!a} to open. Runs here: {', '.join(names)}.")


def serve(command: Sequence[str], environment: dict[str, str]) -> NoReturn:
    """Become the server, so that a signal meant for the one ends the other."""
    os.execve(command[0], list(command), environment)


def prepare_first_page() -> None:
    """Fill the caches that all visitors share with what the first page says of the run that opens first.

    Whatever fails here fails again on the page, which says so; it must not keep the server from starting. A run that
    cannot be read is the reader's to mend. Anything else is a fault of ours, whose traceback the server's log gets.
    """
    from ..data import compute
    from ..panels import page

    try:
        catalog = server_catalog()
        opened = compute.read(catalog, first_run(catalog.names))
        metric = next(metric for metric in page.METRICS if metric in opened.run.traces)
        compute.curve(opened, metric)
        compute.comparison(opened, metric, None, None)
    except RunError:
        pass
    except Exception:
        logging.getLogger("semfreeze.dashboard").exception("the first page could not be prepared")


def main() -> None:
    """Streamlit's own command, with everything imported and its flags passed on."""
    from streamlit.runtime.caching import cache_data_api
    from streamlit.web import cli

    from .. import views

    # Caches are filled before there is a runtime, on purpose. Its warning of that would be the first thing that whoever
    # starts the server reads.
    logging.getLogger(cache_data_api.__name__).setLevel(logging.ERROR)
    for module in iter_modules(views.__path__):
        import_module(f"{views.__name__}.{module.name}")
    prepare_first_page()
    # Streamlit collects all garbage after every run of a page, and jobs are drawn again each second: going through all
    # imported modules each time takes a fifth of a second, for which everybody waits when ten people watch a job.
    gc.collect()
    gc.freeze()

    folder = server_catalog().folder
    if folder is not None:
        with suppress(RunError):  # a folder that may only be read has no queue to go on with
            revive(folder)
    sys.argv = ["streamlit", "run", str(APP), *sys.argv[1:]]
    cli.main()


if __name__ == "__main__":
    main()
