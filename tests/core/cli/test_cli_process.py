"""The command as a process of its own: exit codes, streams, what it imports, Ctrl-C."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.core.runs.tiny_run import task_rows

ONE_CORE = {"OMP_NUM_THREADS": "1", "COLUMNS": "100"}
PATIENCE = 300  # seconds; far beyond what anything here takes, on a slow and busy machine too


def command(*args):
    return [sys.executable, "-m", "semfreeze_core", *map(str, args)]


def run(*args, **settings):
    return subprocess.run(
        command(*args), capture_output=True, text=True, env=os.environ | ONE_CORE, timeout=PATIENCE, **settings
    )


@pytest.mark.quick_cases(4)
@pytest.mark.parametrize("args", [["--help"], ["analyze", "--help"], ["runs", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(args):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "semfreeze_core", *args],
        capture_output=True,
        text=True,
        env=os.environ | ONE_CORE,
        timeout=PATIENCE,
    )
    assert done.returncode == 0
    imported = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line}
    assert "typer" in imported
    heavy = {"torch", "transformers", "pandas", "numpy", "scipy", "sklearn", "pyarrow", "datasets"}
    assert not imported & heavy


@pytest.mark.quick_cases(0)
def test_commands_on_a_finished_run_need_no_torch():
    commands = [["show", "example", "--json"], ["plan", "example"], ["cost", "example"], ["runs", "list"]]
    code = (
        "import sys; from semfreeze_core.cli import load_commands, app; load_commands();"
        f"[app(args, standalone_mode=False) for args in {commands!r}];"
        "print(*sorted({'torch', 'transformers', 'datasets'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | ONE_CORE, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "\n"


@pytest.mark.quick_cases(0)
def test_analyze_prints_one_document_and_keeps_quiet_on_a_terminal_that_is_not_utf8(
    models, rows_file, home, monkeypatch
):
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("LANG", "C")
    data = rows_file([row | {"label": f"{row['label']} 日本"} for row in task_rows()], "naïve.jsonl")
    done = run("analyze", "--model", models / "gpt2", "--data", data, "--json", "--quiet", "--out", "one")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    document = json.loads(done.stdout)
    assert document["n_examples"] == 48
    assert document["data"]["source"].endswith("naïve.jsonl")
    assert sorted(p.name for p in (home / "runs").iterdir()) == ["one"]
    plan = run("plan", "one", "--json")
    assert (plan.returncode, plan.stderr) == (0, "")
    assert json.loads(plan.stdout)["recommendation"] == "abstain"


def test_refusals_exit_with_2_and_one_message(stored, home):
    done = run("runs", "rm", stored("tied"), stdin=subprocess.DEVNULL)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("semfreeze: Nothing was deleted")
    assert (home / "runs" / "tied").exists()


def test_the_installed_script_is_the_same_command():
    script = Path(sys.executable).with_name("semfreeze")
    if not script.exists():
        pytest.skip("not installed beside this Python")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, timeout=PATIENCE)
    assert done.stdout == run("--version").stdout


@pytest.mark.quick_cases(0)
def test_report_cut_short_by_a_closed_pipe_shows_no_traceback():
    process = subprocess.Popen(
        command("show", "example", "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | ONE_CORE,
    )
    process.stdout.close()
    error = process.stderr.read()
    process.stderr.close()
    process.wait(PATIENCE)
    assert "Traceback" not in error


@pytest.mark.slow
def test_analyze_stops_at_ctrl_c_and_keeps_nothing(models, rows_file, home, stored):
    """A real signal in the middle of reading: 1,500 passes of one example each leave time for it."""
    stored("untied")
    before = sorted((str(p), p.read_bytes()) for p in home.rglob("*") if p.is_file())
    data = rows_file(task_rows(1500))
    flags = ["--examples", "0", "--batch-tokens", "1", "--device", "cpu", "--dtype", "float32", "--out", "untied"]
    flags.append("--overwrite")
    process = subprocess.Popen(
        command("analyze", "--model", models / "untied", "--data", data, *flags),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | ONE_CORE,
        # A suite that runs in the background of a shell is deaf to it, and what it starts inherits that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    messages = []
    for line in process.stderr:
        messages.append(line)
        if line == "Extracting hidden states\n":
            process.send_signal(signal.SIGINT)
            break
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2, "".join(messages) + err
    assert out == ""
    assert err == "semfreeze: interrupted; unfinished results are not saved.\n"
    assert sorted((str(p), p.read_bytes()) for p in home.rglob("*") if p.is_file()) == before
    assert [p for p in home.rglob(".*")] == []
