"""Runs that cannot be read, and what is no run."""

import pytest

from semfreeze_core.runs.folder import MANIFEST
from semfreeze_core.runs.store import run_names
from semfreeze_core.storage import runs_folder
from tests.core.cli.terminal import ask

pytestmark = pytest.mark.usefixtures("nothing_kept")


# Damages of one run, met by three commands in turn.
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("missing", "no run with this name or path. Named runs: none yet. Bundled run: example."),
        ("empty", "is not a run folder: it has no manifest.json"),
        (
            "arrays",
            "is damaged: arrays.safetensors has changed since it was written. Run semfreeze analyze again with --over",
        ),
        ("gone", "is damaged: examples.parquet cannot be read (No such file or directory)"),
        ("cut", "manifest.json is damaged"),
        ("newer", "was written by a newer semfreeze (run schema 3, this one reads 2). Update semfreeze"),
        ("other", "its manifest.json does not describe a semfreeze run"),
    ],
)
def test_commands_refuse_a_run_they_cannot_read(stored, begun, damage, message):
    command = ("show", "plan", "cost")[len(damage) % 3]
    folder = runs_folder() / "tied"
    if damage == "empty":
        folder.mkdir(parents=True)
    elif damage != "missing":
        stored("tied")
        spoil(folder, damage)
    assert message in ask(command, "tied").refusal


def spoil(folder, damage):
    manifest = folder / MANIFEST
    match damage:
        case "arrays":
            content = (folder / "arrays.safetensors").read_bytes()
            (folder / "arrays.safetensors").write_bytes(content[:-4] + bytes(4))
        case "gone":
            (folder / "examples.parquet").unlink()
        case "cut":
            manifest.write_bytes(manifest.read_bytes()[:500])
        case "newer":
            manifest.write_text(manifest.read_text().replace('"schema_version": 2', '"schema_version": 3'))
        case "other":
            manifest.write_text('{"name": "an app"}')


@pytest.mark.parametrize(
    "run", ["", ".", "/", "/etc", "~", "~nobody-of-this-name/x", "a/b", "x" * 300, "naïve", "..", "*"]
)
def test_commands_refuse_what_is_no_run(run):
    assert ask("show", run).refusal


@pytest.mark.parametrize("command", ["plan", "cost"])
def test_plan_and_cost_refuse_what_is_no_run(command):
    assert ask(command, "a/b").refusal


@pytest.mark.usefixtures("read_already")
def test_analyze_may_replace_a_damaged_run(analyze, stored, begun):
    stored("tied")
    spoil(runs_folder() / "tied", "cut")
    assert analyze("--out", "tied", "--overwrite").code == 0
    assert ask("show", "tied").code == 0
    assert run_names() == ["tied"]
