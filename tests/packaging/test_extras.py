"""Without the extras' libraries the core works, and what needs one says which extra brings it."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

EXTRAS = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["optional-dependencies"]
MISSING = ("streamlit", "plotly", "altair", "umap", "peft", "bitsandbytes", "datasets")
START = f"""
from importlib.machinery import PathFinder
find_spec = PathFinder.find_spec
PathFinder.find_spec = lambda name, *how, **more: None if name in {MISSING} else find_spec(name, *how, **more)
from semfreeze_core.cli import main
main()
"""


def without_extras(*arguments):
    return subprocess.run([sys.executable, "-P", "-c", START, *arguments], capture_output=True, text=True, timeout=120)


def test_core_reads_prices_plans_and_exports(tmp_path):
    done = without_extras("plan", "example", "--json")
    assert json.loads(done.stdout)["recommendation"] == "freeze", done.stderr
    for command in (
        ("show", "example"),
        ("cost", "example"),
        ("plan", "example", "--out", str(tmp_path / "plan.json")),
    ):
        assert without_extras(*command).returncode == 0
    done = without_extras(
        "export", str(tmp_path / "plan.json"), "--to", "hf-trainer", "--out", str(tmp_path / "script.py")
    )
    assert done.returncode == 0, done.stderr


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
    quantised = ("--lora", "--lora-rank", "4", "--frozen-bits", "4")
    if "plan.json" in command:
        assert without_extras("plan", "example", *quantised, "--out", "plan.json").returncode == 0
    done = without_extras(*command)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert package in done.stderr
    assert f"semfreeze[{extra}]" in done.stderr.replace("\n", "")
    assert extra in EXTRAS


def test_extras_hold_what_is_missing_here():
    named = " ".join(line for extra in ("dashboard", "finetune", "bitsandbytes", "hub") for line in EXTRAS[extra])
    assert [package for package in MISSING if package not in named] == []
