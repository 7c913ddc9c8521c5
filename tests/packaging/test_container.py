"""The container file asks only for what is there: what it copies exists, and its command starts a read-only server."""

import json
import re
import socket
from pathlib import Path

import semfreeze_dashboard.server.start
from semfreeze_dashboard.data.run_folder import DEMO_VARIABLE
from semfreeze_dashboard.server.auth import PASSWORD_VARIABLE
from tests.core.cli.terminal import ask

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "dashboard" / "Containerfile").read_text()


def test_everything_it_copies_is_here():
    copied = re.findall(r"^COPY (.*) \S+$", TEXT, flags=re.MULTILINE)
    names = [name for line in copied for name in line.split()]
    assert names
    assert [name for name in names if not (ROOT / name).exists()] == []


def test_its_command_shows_the_example_and_nothing_else(monkeypatch):
    started = []
    monkeypatch.setattr(semfreeze_dashboard.server.start, "serve", lambda *call: started.append(call))
    (command_line,) = re.findall(r"^CMD (\[.*\])$", TEXT, flags=re.MULTILINE)
    program, *arguments = json.loads(command_line)
    assert program == "semfreeze"
    with socket.socket() as free:  # a dashboard may be open on the port that it names
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    answer = ask(*(port if word == "8501" else word for word in arguments))
    assert answer.code == 0
    ((command, environment),) = started
    assert command[6:8] == ["--server.port", port]
    assert environment[DEMO_VARIABLE] == "1"
    assert PASSWORD_VARIABLE not in environment
    assert "can see the bundled example" in answer.err
