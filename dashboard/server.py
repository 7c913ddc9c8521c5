"""Starting the dashboard's server, with what it may show and to whom.

Run as a module it is the server: what pages need is imported before it listens, so that the first page does not wait.
"""

import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from semfreeze_core.errors import InputError, RunError

from .shelf import DEMO_VARIABLE, RUNS_VARIABLE

APP = Path(__file__).with_name("app.py")
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def server_command(*, port: int | None, host: str, browser: bool) -> list[str]:
    """The command line of the server; without a port Streamlit takes the first free one from 8501 on."""
    flags = ["--server.address", host, "--server.headless", str(not browser).lower()]
    if port is not None:
        flags += ["--server.port", str(port)]
    return [sys.executable, "-m", "semfreeze_dashboard.server", *flags]


def server_environment(*, runs: Path | None, demo: bool) -> dict[str, str]:
    """The server's environment: ours, and what the shelf holds."""
    told = {name: value for name, value in os.environ.items() if name not in (RUNS_VARIABLE, DEMO_VARIABLE)}
    if runs is not None:
        told[RUNS_VARIABLE] = str(runs.absolute())
    if demo:
        told[DEMO_VARIABLE] = "1"
    return told


def opening_words(host: str, *, demo: bool) -> str:
    """What listening on an address means, in a sentence; "" when only this machine can reach it."""
    if host in LOOPBACK:
        return ""
    shown = "the shipped example" if demo else "every run in the runs folder, prompts included"
    return f"Listening on {host}: everybody who reaches this machine can see {shown}. There is no password."


def require_startable(runs: Path | None, host: str, port: int | None, *, demo: bool) -> None:
    """Refuse, before a server starts, what it could not serve.

    Raises:
        InputError: --demo with --runs, or an address that cannot be listened on.
        RunError: the runs folder is none.
    """
    if demo and runs is not None:
        raise InputError("--demo shows the shipped example alone: leave --runs out.")
    if runs is not None and not runs.is_dir():
        raise RunError(f"{runs} is no folder of runs. Leave --runs out for the runs that have names.")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port or 0))
    except (OSError, OverflowError) as error:
        where = host if port is None else f"{host}:{port}"
        raise InputError(f"{where} cannot be listened on: {error}. Choose another --port or --host.") from error


def serve(command: Sequence[str], environment: dict[str, str]) -> NoReturn:
    """Become the server, so that a signal meant for the one ends the other."""
    os.execve(command[0], list(command), environment)


def main() -> None:
    """Streamlit's own command, with everything imported and its flags passed on."""
    from streamlit.web import cli

    from . import compute, exports, setup_form, tables  # noqa: F401

    sys.argv = ["streamlit", "run", str(APP), *sys.argv[1:]]
    cli.main()


if __name__ == "__main__":
    main()
