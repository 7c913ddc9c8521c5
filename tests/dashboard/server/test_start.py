"""What `semfreeze dashboard` starts, and what it refuses before it does."""

import logging
import socket
import sys
import tomllib
from pathlib import Path

import pytest

import semfreeze_dashboard.server.start
from semfreeze_core.runs.job_process import AT_ONCE_VARIABLE
from semfreeze_dashboard.data import compute
from semfreeze_dashboard.data.run_folder import DEMO_VARIABLE, OPEN_VARIABLE, PATHS_VARIABLE, RUNS_VARIABLE
from semfreeze_dashboard.server.auth import PASSWORD_VARIABLE
from semfreeze_dashboard.server.start import (
    chosen_port,
    listening_notice,
    password_for,
    prepare_first_page,
    server_environment,
)
from tests.core.cli.terminal import ask

# What the tests below give the command.
OPTIONS = ("--no-browser", "--runs", "--port", "--host", "--demo", "--jobs", "--no-password")


@pytest.fixture
def started(monkeypatch):
    """Commands and environments that would have become the server."""
    calls = []
    monkeypatch.setattr(semfreeze_dashboard.server.start, "serve", lambda *call: calls.append(call))
    monkeypatch.setattr(semfreeze_dashboard.server.start, "_USUAL_PORT", 1)  # whatever listens on this machine
    return calls


def test_dashboard_listens_on_this_machine_alone_by_default(started):
    answer = ask("dashboard", "--no-browser")
    assert (answer.code, answer.err) == (0, "")
    ((command, environment),) = started
    assert command[:4] == [sys.executable, "-P", "-m", "semfreeze_dashboard.server.start"]
    assert command[4:6] == ["--server.address", "127.0.0.1"]
    assert command[8:] == ["--server.headless", "true", "--logger.hideWelcomeMessage", "true"]
    assert answer.out == f"Dashboard: http://127.0.0.1:{command[7]}  (Ctrl-C stops it)\n"
    assert RUNS_VARIABLE not in environment


def test_dashboard_passes_folder_port_and_address_on(started, runs):
    answer = ask("dashboard", "--runs", runs, "--port", "0", "--host", "0.0.0.0")
    ((command, environment),) = started
    assert f"The password: {environment[PASSWORD_VARIABLE]}\n" in answer.err
    assert command[4:6] == ["--server.address", "0.0.0.0"]
    assert int(command[7]) > 0
    assert f"http://localhost:{command[7]} " in answer.out
    assert environment[RUNS_VARIABLE] == str(runs)


def test_dashboard_opens_the_run_it_is_told(started, runs, doubtful):
    assert ask("dashboard", "doubtful", "--runs", runs, "--jobs", "2").code == 0
    ((_, environment),) = started
    assert environment[OPEN_VARIABLE] == "doubtful"
    assert environment[AT_ONCE_VARIABLE] == "2"
    assert "Runs here: example, doubtful." in ask("dashboard", "absent", "--runs", runs).refusal
    assert ask("dashboard", "--jobs", "0").code == 2
    assert len(started) == 1


def test_files_of_this_machine_can_be_named_only_from_it():
    assert PATHS_VARIABLE in server_environment(runs=None, demo=False)
    assert PATHS_VARIABLE not in server_environment(runs=None, demo=False, host="0.0.0.0")


def test_server_environment_of_a_demo_shows_nothing_of_yours(runs):
    environment = server_environment(runs=None, demo=True)
    assert environment[DEMO_VARIABLE] == "1"
    assert RUNS_VARIABLE not in environment


def test_dashboard_refuses_a_port_in_use_a_missing_folder_and_a_demo_of_a_folder(started, runs):
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        assert "cannot be listened on" in ask("dashboard", "--port", busy.getsockname()[1]).refusal
    assert "is not a folder of runs" in ask("dashboard", "--runs", runs / "absent").refusal
    assert "--demo" in ask("dashboard", "--runs", runs, "--demo").refusal
    assert "cannot be listened on" in ask("dashboard", "--port", "99999").refusal
    assert started == []


@pytest.mark.parametrize(
    ("host", "demo", "word"), [("127.0.0.1", False, ""), ("::", False, "prompts"), ("::", True, "example")]
)
def test_opening_words_say_who_sees_what(host, demo, word):
    assert word in listening_notice(host, demo=demo, password=None)
    assert bool(listening_notice(host, demo=demo, password=None)) == bool(word)
    assert ("There is no password" in listening_notice(host, demo=demo, password=None)) == bool(word)


def test_others_are_asked_for_a_password_new_or_chosen(monkeypatch, started):
    assert password_for("127.0.0.1", demo=False, wanted=True) is None
    assert password_for("0.0.0.0", demo=True, wanted=True) is None
    one, other = (password_for("0.0.0.0", demo=False, wanted=True) for _ in range(2))
    assert len(one) >= 12
    assert one != other
    monkeypatch.setenv("SEMFREEZE_PASSWORD", "ours, and long")
    assert {password_for(host, demo=demo, wanted=True) for host in ("::", "localhost") for demo in (0, 1)} == {
        "ours, and long"
    }
    notice = listening_notice("::", demo=False, password="ours, and long")
    assert "that of SEMFREEZE_PASSWORD" in notice
    assert "ours" not in notice, "a password that was chosen stays out of logs"
    answer = ask("dashboard", "--host", "0.0.0.0", "--no-password")
    assert "There is no password" in answer.err
    assert PASSWORD_VARIABLE not in started[0][1]


def test_first_free_port_from_the_usual_one_on_is_taken(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as busy:
        usual = busy.getsockname()[1]
        monkeypatch.setattr(semfreeze_dashboard.server.start, "_USUAL_PORT", usual)
        assert usual < chosen_port("127.0.0.1", None) <= usual + 99
        assert chosen_port("127.0.0.1", 1234) == 1234


def test_any_port_is_taken_where_the_usual_ones_are_all_busy(monkeypatch):
    real = semfreeze_dashboard.server.start._bound

    def busy(host, port):
        if port:
            raise OSError
        return real(host, 0)

    monkeypatch.setattr(semfreeze_dashboard.server.start, "_bound", busy)
    assert chosen_port("127.0.0.1", None) > 0


def test_configuration_is_one_file_and_keeps_to_itself():
    root = Path(__file__).parents[3]
    config = root / ".streamlit" / "config.toml"
    assert (root / "dashboard" / ".streamlit" / "config.toml").samefile(config)
    settings = tomllib.loads(config.read_text())
    assert settings["server"]["address"] == "127.0.0.1"
    assert settings["server"]["enableXsrfProtection"]
    assert settings["server"]["enableCORS"]
    assert settings["browser"]["gatherUsageStats"] is False
    assert settings["client"]["showErrorDetails"] == "none"


def broken(*what, **how):
    raise ZeroDivisionError("ours")


class Records(logging.Handler):
    """Keeps what is logged."""

    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append(record)


@pytest.fixture
def log():
    """The server's log, from when nothing is computed yet."""
    compute.comparison.clear()
    handler = Records()
    logging.getLogger().addHandler(handler)
    yield handler
    logging.getLogger().removeHandler(handler)


def test_prepare_first_page_computes_what_the_page_says_once(log, monkeypatch):
    prepare_first_page()
    monkeypatch.setattr(compute, "gather_opinions", broken)
    prepare_first_page()
    assert log.records == []


def test_prepare_first_page_leaves_a_run_that_cannot_be_read_to_the_page(log, monkeypatch, doubtful):
    monkeypatch.setenv(OPEN_VARIABLE, "doubtful")
    (doubtful / "arrays.safetensors").write_bytes(b"damage")
    prepare_first_page()
    assert log.records == []


def test_prepare_first_page_logs_a_fault_of_ours_and_goes_on(log, monkeypatch):
    monkeypatch.setattr(compute, "gather_opinions", broken)
    prepare_first_page()
    (record,) = log.records
    assert record.name == "semfreeze.dashboard"
    assert record.levelname == "ERROR"
    assert isinstance(record.exc_info[1], ZeroDivisionError)


def test_a_second_server_says_that_something_answers_already(monkeypatch, started):
    with socket.create_server(("127.0.0.1", 0)) as other:
        monkeypatch.setattr(semfreeze_dashboard.server.start, "_USUAL_PORT", other.getsockname()[1])
        message = f"Another server already uses port {other.getsockname()[1]}"
        assert message in ask("dashboard", "--no-browser").err
        assert message not in ask("dashboard", "--no-browser", "--port", "0").err
    assert message not in ask("dashboard", "--no-browser").err
    assert len(started) == 3
