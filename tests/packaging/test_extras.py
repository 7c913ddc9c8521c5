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
REFUSED = f"""{HIDE}
import contextlib, io, json, sys
from semfreeze_core.cli import main
answers = []
for command in json.loads(sys.argv[1]):
    sys.argv = ["semfreeze", *command]
    with contextlib.redirect_stderr(io.StringIO()) as said:
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code
    answers.append((code, said.getvalue()))
print(json.dumps(answers), file=sys.__stdout__)
"""
IN_TURN = f"""{HIDE}
import json, sys
from semfreeze_core.cli import app, load_commands
load_commands()
for command in json.loads(sys.argv[1]):
    app(command, standalone_mode=False)
"""


def start(code, *arguments):
    return subprocess.run([sys.executable, "-P", "-c", code, *arguments], capture_output=True, text=True, timeout=300)


@pytest.mark.quick_cases(0)
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


NEEDS = [
    (("dashboard", "--no-browser"), "streamlit", "dashboard"),
    (("report", "example"), "plotly", "dashboard"),
    (("umap", "example"), "umap-learn", "dashboard"),
    (("preview", "--model", "embedded", "--data", "hf:owner/name#train"), "datasets", "hub"),
    (("train", "plan.json", "--data", "sample:clinc_train", "--out", "model"), "bitsandbytes", "bitsandbytes"),
]


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Exit code and messages of each command, asked one after another in one process without the extras."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("extras"))
        plan = ("plan", "example", "--lora", "--lora-rank", "4", "--frozen-bits", "4", "--out", "plan.json")
        done = start(REFUSED, json.dumps([plan, *(command for command, _, _ in NEEDS)]))
    assert done.returncode == 0, done.stderr
    (planned, _), *refused = json.loads(done.stdout.splitlines()[-1])
    assert planned == 0
    return dict(zip((command for command, _, _ in NEEDS), refused, strict=True))


@pytest.mark.quick_cases(0)
@pytest.mark.parametrize(("command", "package", "extra"), NEEDS)
def test_what_needs_an_extra_names_it(answers, command, package, extra):
    code, message = answers[command]
    assert code != 0
    assert "Traceback" not in message
    assert package in message
    assert f"semfreeze[{extra}]" in message.replace("\n", "")
    assert extra in EXTRAS


def test_extras_hold_what_is_missing_here():
    named = " ".join(line for extra in ("dashboard", "finetune", "bitsandbytes", "hub") for line in EXTRAS[extra])
    assert [package for package in MISSING if package not in named] == []
