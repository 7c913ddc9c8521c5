"""The page about the Python API: its blocks run one after another on a tiny model, and its table names every name."""

import re

import pytest

import semfreeze_core
from tests.core.finetune.tiny_plan import write_task
from tests.core.saved_models import save_tiny
from tests.docs.pages import PYTHON_API, blocks, prose


def test_the_table_names_every_public_name():
    table = prose(PYTHON_API).split("## All public names")[1]
    named = re.findall(r"`(\w+)`", "".join(line for line in table.splitlines() if line.startswith("|")))
    assert sorted(named) == sorted(name for name in semfreeze_core.__all__ if name != "__version__")


@pytest.mark.quick_cases(0)
@pytest.mark.timeout(900)
def test_its_blocks_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEMFREEZE_HOME", str(tmp_path / "home"))
    save_tiny(tmp_path / "my-model")
    write_task(tmp_path / "train.jsonl", 64)
    write_task(tmp_path / "eval.jsonl", 32, seed=1)
    names = {}
    for _, code in blocks(PYTHON_API, "python"):
        exec(compile(code, PYTHON_API.name, "exec"), names)
    assert (tmp_path / "my-finetuned-model" / "model.safetensors").is_file()
    assert (tmp_path / "my-guided-model" / "plan.json").is_file()
    assert set(names["report"].arms) == {"full", "planned"}
