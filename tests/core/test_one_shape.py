"""A new option of training is one field, one flag and one form line: added to a copy of the tree, it arrives."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import semfreeze_core
from tests.core.finetune.tiny_plan import make_tiny_plan, write_task

ROOT = Path(semfreeze_core.__file__).parents[1]
ADDED = {
    "semfreeze_core/records/training.py": (
        "    batch_size: int = BATCH_SIZE\n",
        "    gradient_clip: float = 1.0\n",
    ),
    "semfreeze_core/records/options.py": (
        '    batch_size: Annotated[int | None, Option("Examples per training step.")] = None\n',
        '    gradient_clip: Annotated[float | None, Option("Largest norm of a gradient.")] = None\n',
    ),
    "dashboard/forms/setup_form.py": (
        '        batch_size=_unless_default("batch_size", batch),\n',
        '        gradient_clip=_unless_default("gradient_clip", 0.5),\n',
    ),
}
DRIVER = """
import json, sys
from pathlib import Path
from semfreeze_core.cli import main
from semfreeze_core.finetune.runner import this_machine
from semfreeze_core.finetune.train import train
from semfreeze_core.finetune.validation import validate

place = Path(sys.argv[1])
arrived = {}

def stop_at_process(job, *_):
    arrived["job file"] = json.loads(Path(job).read_text())["settings"]["setup"]["gradient_clip"]
    arrived["settings file"] = json.loads((place / "out/settings.json").read_text())["setup"]["gradient_clip"]
    raise SystemExit(0)

prepare = validate.prepare
def look(*asked):
    prepared = prepare(*asked)
    arrived["arm"] = prepared.settings["full"].setup.gradient_clip
    arrived["cost model"] = prepared.setups["planned"].gradient_clip
    return prepared

def stop_at_training(request, *_):
    arrived["train"] = request.how.gradient_clip
    raise SystemExit(0)

validate.prepare, this_machine.run_arm_process, train.train_plan = look, stop_at_process, stop_at_training
for words in (
    ["validate", "--train", place / "train.jsonl", "--eval", place / "eval.jsonl", "--out", place / "out"],
    ["train", "--data", place / "train.jsonl", "--out", place / "trained"],
):
    sys.argv = ["semfreeze", *map(str, words), str(place / "plan.json"), "--gradient-clip=0.5", "--quiet"]
    try:
        main()
    except SystemExit:
        pass
print(json.dumps(arrived))
"""

PAGE = """
import streamlit as st
from dashboard.forms.setup_form import setup_options
from semfreeze_core.cost.setup import setup_from_options
from semfreeze_core.runs.folder import read_run
from semfreeze_core.runs.store import example_run
run = read_run(example_run())
st.text(setup_from_options(run.shape, run, setup_options(run.shape, run, None), with_reference=True).gradient_clip)
"""
FORM = """
import logging, sys
logging.disable()
from streamlit.testing.v1 import AppTest
app = AppTest.from_string(sys.argv[1], default_timeout=60).run()
assert not app.exception, app.exception
print(app.text[0].value)
"""


@pytest.mark.slow
def test_an_option_added_in_three_lines_arrives_in_flags_files_arms_and_costs(tmp_path):
    tree = tmp_path / "tree"
    for package in ("semfreeze_core", "dashboard"):
        shutil.copytree(ROOT / package, tree / package)  # with what is compiled, which stays valid
    shutil.copytree(ROOT / "sample_data", tree / "semfreeze_core" / "sample_data")
    for name, (before, line) in ADDED.items():
        text = (tree / name).read_text()
        assert text.count(before) == 1, name
        (tree / name).write_text(text.replace(before, before + line))
    plan, _ = make_tiny_plan(tmp_path / "model")
    (tmp_path / "plan.json").write_text(plan.model_dump_json())
    write_task(tmp_path / "train.jsonl", 24)
    write_task(tmp_path / "eval.jsonl", 12, seed=9)
    places = ("arm", "cost model", "job file", "settings file", "train")
    assert json.loads(_run(tree, DRIVER, tmp_path)) == dict.fromkeys(places, 0.5)
    assert _run(tree, FORM, PAGE) == "0.5"


def _run(tree: Path, script: str, *arguments: object) -> str:
    """The last line that a script prints which finds its modules in the tree first."""
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(tree)},
        cwd=tree,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]
