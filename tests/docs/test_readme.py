"""What holds of the README alone; test_pages.py has what holds of every page."""

import re

from tests.docs.pages import README, ROOT, blocks


def test_python_block_runs_and_is_short(capsys):
    ((_, code),) = blocks(README, "python")
    assert len(code.strip().splitlines()) <= 12
    exec(compile(code, "README.md", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("freeze ")
    assert len(printed) == 6


def test_make_targets_named_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"`?make ([a-z]+)", README.read_text())) <= targets
