"""The README's commands, run one after the other as they stand, but that finetunes are cut short."""

import json
import os
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

from semfreeze_core.sources.data.samples import resolve_data
from tests.docs.pages import README, blocks

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

SHORT = "--steps 6 --batch-size 2 --train-examples 12 --eval-examples 8 --seeds 1 --accuracy-examples 0"
# The last of an option given twice counts.
CUT = {
    "semfreeze analyze": "--examples 64 --dtype float32",
    "semfreeze validate": f"{SHORT} --arms full,planned --match steps",
    "semfreeze sweep": f"{SHORT} --depths 20",
    "semfreeze train": "--steps 2 --batch-size 2 --no-prefix-cache --accuracy-examples 0",
}


def run(folder, arguments):
    environment = {**os.environ, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    return subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True)


def test_commands_of_the_readme_run(tmp_path, monkeypatch):
    monkeypatch.setenv("SEMFREEZE_HOME", str(tmp_path / "home"))
    for part, n in (("train", 80), ("eval", 16)):
        rows = Path(resolve_data(f"sample:sentence_to_json_{part}")).read_text().splitlines(keepends=True)
        (tmp_path / f"{part}.jsonl").write_text("".join(islice(rows, n)))
    (text,) = [text for _, text in blocks(README, "sh") if "semfreeze analyze" in text]
    lines = [line.partition("#")[0].strip().replace("path/or/hub-id", "embedded") for line in text.splitlines()]
    assert len(lines) == 9
    for line in lines:
        arguments = line.split()
        if arguments == ["semfreeze", "dashboard"]:
            continue  # it serves until it is ended; the browser's tests start it
        extra = next((more for start, more in CUT.items() if line.startswith(start)), "")
        done = run(tmp_path, [*arguments, *extra.split()])
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    assert json.loads((tmp_path / "plan.json").read_text())["kind"] == "semfreeze plan"
    assert (tmp_path / "my-model" / "README.md").is_file()
    assert (tmp_path / "axolotl.yaml").is_file()
