"""Without the extras' libraries the core works, and what needs one says which extra brings it."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

EXTRAS = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["optional-dependencies"]
MISSING = ("streamlit", "plotly", "altair", "umap", "peft", "bitsandbytes", "datasets")
HIDE = f"""
from importlib.machinery import PathFinder
find_spec = PathFinder.find_spec
PathFinder.find_spec = lambda name, *how, **more: None if name in {MISSING} else find_spec(name, *how, **more)
"""
START = f"{HIDE}from semfreeze_core.cli import main\nmain()\n"
IN_TURN = f"""{HIDE}
import json, sys
from semfreeze_core.cli import app, load_commands
load_commands()
for command in json.loads(sys.argv[1]):
    app(command, standalone_mode=False)
"""


def start(code, *arguments):
    return subprocess.run([sys.executable, "-P", "-c", code, *arguments], capture_output=True, text=True, timeout=300)


def without_extras(*arguments):
    return start(START, *arguments)


def test_core_reads_prices_plans_and_exports(tmp_path):
    plan, script = str(tmp_path / "plan.json"), str(tmp_path / "script.py")
    commands = (
        ("show", "example"),
        ("cost", "example"),
        ("plan", "example", "--out", plan),
        ("export", plan, "--to", "hf-trainer", "--out", script),
    )
    done = start(IN_TURN, json.dumps(commands))
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "plan.json").read_text())["recommendation"] == "freeze"
    assert (tmp_path / "script.py").exists()


@pytest.mark.parametrize(
    ("command", "package", "extra"),
    [
        (("dashboard", "--no-browser"), "streamlit", "dashboard"),
        (("report", "example"), "plotly", "dashboard"),
        (("umap", "example"), "umap-learn", "dashboard"),
        (("preview", "--model", "embedded", "--data", "hf:owner/name#train"), "datasets", "hub"),
        (("train", "plan.json", "--data", "sample:clinc_train", "--out", "model"), "bitsandbytes", "bitsandbytes"),
    ],
)
def test_what_needs_an_extra_names_it(command, package, extra, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    quantized = ("--lora", "--lora-rank", "4", "--frozen-bits", "4")
    if "plan.json" in command:
        assert without_extras("plan", "example", *quantized, "--out", "plan.json").returncode == 0
    done = without_extras(*command)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert package in done.stderr
    assert f"semfreeze[{extra}]" in done.stderr.replace("\n", "")
    assert extra in EXTRAS


def test_extras_hold_what_is_missing_here():
    named = " ".join(line for extra in ("dashboard", "finetune", "bitsandbytes", "hub") for line in EXTRAS[extra])
    assert [package for package in MISSING if package not in named] == []
