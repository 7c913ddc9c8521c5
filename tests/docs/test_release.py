"""Version, citation, changelog and schemas agree, and so do the README and the package's own description."""

import re
import tomllib
from datetime import date

import yaml

from semfreeze_core import __version__
from semfreeze_core.plan.document import PLAN_SCHEMA_VERSION
from semfreeze_core.records.finetune_report import FINETUNE_SCHEMA_VERSION
from semfreeze_core.records.job import JOB_SCHEMA_VERSION
from semfreeze_core.records.manifest import SCHEMA_VERSION
from semfreeze_core.records.pilots import MEASUREMENT_SCHEMA_VERSION
from semfreeze_core.records.sweep import SWEEP_SCHEMA_VERSION
from semfreeze_core.records.validation import VALIDATION_SCHEMA_VERSION
from tests.docs.pages import README, ROOT

CHANGES = (ROOT / "CHANGELOG.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text())
RELEASES = re.findall(r"^## (\S+) \((.*)\)$", CHANGES, flags=re.MULTILINE)


def test_the_newest_release_of_the_changelog_is_this_one():
    assert RELEASES[0][0] == __version__
    versions = [tuple(map(int, name.split("."))) for name, _ in RELEASES]
    assert versions == sorted(versions, reverse=True)
    assert len(set(versions)) == len(versions)


def test_the_citation_is_of_this_version_and_of_its_day():
    assert CITATION["version"] == __version__
    when = RELEASES[0][1]
    if when == "unreleased":
        assert "date-released" not in CITATION
    else:
        assert CITATION["date-released"] == date.fromisoformat(when)


def test_the_readme_names_this_version_and_whether_it_is_released():
    status = re.search(r"\*\*Status\.\*\* (\S+), (not released|released)", README.read_text())
    assert status is not None
    assert status.groups() == (__version__, "not released" if RELEASES[0][1] == "unreleased" else "released")


def test_the_changelog_names_the_schemas_that_are_read():
    listed = re.search(r"Schemas now: (.*?)\.\s", " ".join(CHANGES.split()))
    assert listed is not None
    assert dict(part.rsplit(" ", 1) for part in listed[1].split(", ")) == {
        "run": str(SCHEMA_VERSION),
        "plan": str(PLAN_SCHEMA_VERSION),
        "validation": str(VALIDATION_SCHEMA_VERSION),
        "sweep": str(SWEEP_SCHEMA_VERSION),
        "pilots": str(MEASUREMENT_SCHEMA_VERSION),
        "finetune": str(FINETUNE_SCHEMA_VERSION),
        "job": str(JOB_SCHEMA_VERSION),
    }


def test_changelog_lines_are_short():
    assert [line for line in CHANGES.splitlines() if len(line) > 140] == []


def test_the_license_is_named_alike():
    assert PROJECT["license"] == CITATION["license"] == "Apache-2.0"
    assert PROJECT["license-files"] == ["LICENSE"]
    assert "Apache License" in (ROOT / "LICENSE").read_text()
