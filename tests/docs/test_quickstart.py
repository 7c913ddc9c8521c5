"""The quickstart's blocks, run as they stand, one after the other, in an empty folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.docs.pages import QUICKSTART, blocks

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def test_quickstart_runs_as_it_stands(tmp_path):
    folder, home = tmp_path / "empty", tmp_path / "home"
    folder.mkdir()
    tools = str(Path(sys.executable).parent)
    environment = {**os.environ, "SEMFREEZE_HOME": str(home), "PATH": os.pathsep.join([tools, os.environ["PATH"]])}
    steps = blocks(QUICKSTART, "sh", "python")
    assert [language for language, _ in steps] == ["python", "sh", "sh", "sh", "sh", "python", "sh"]
    for language, text in steps:
        command = [sys.executable, "-c", text] if language == "python" else ["sh", "-ec", text]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
    assert (folder / "finetune.py").is_file()
    AutoTokenizer.from_pretrained(folder / "my-model")
    assert AutoModelForCausalLM.from_pretrained(folder / "my-model").config.num_hidden_layers == 30
