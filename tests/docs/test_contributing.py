"""The page for contributors names files that are there, and the citation is one."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()


def test_every_path_named_exists():
    named = [name for name in re.findall(r"`([\w./]+)`", TEXT) if "/" in name]
    assert len(named) > 15
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_import_order_told_is_the_linters():
    import_order = TEXT.split("Data flows one way")[1].split("and above all")[0]
    order = [name for name in re.findall(r"`(\w+)(?:\.py)?`", import_order)]
    contract = (ROOT / "pyproject.toml").read_text().split("layers = [")[1].split("]")[0]
    layers = {
        name: i for i, line in enumerate(contract.splitlines()) for name in re.findall(r"semfreeze_core\.(\w+)", line)
    }
    assert [layers[name] for name in order] == sorted((layers[name] for name in order), reverse=True)


def test_citation_names_the_paper():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())["preferred-citation"]
    assert cited["doi"] == "10.18653/v1/2025.findings-acl.420"
    assert "2406.11753" in cited["url"]
    assert len(cited["authors"]) == 4
