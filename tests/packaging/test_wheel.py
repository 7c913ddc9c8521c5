"""The wheel puts two packages into site-packages, the bundled run opens from it, and the sdist makes the same wheel."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from semfreeze_core import __version__

ROOT = Path(__file__).parents[2]
TREE = (
    *("semfreeze_core", "dashboard", "sample_data", "docs", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"),
    *("CHANGELOG.md", "CITATION.cff", "constraints.txt"),
)


def build(folder, *what):
    """Build from a copy of the tree, as a build leaves its traces beside what it builds."""
    source = folder / "source"
    source.mkdir()
    for name in TREE:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "build", *what, "--no-isolation", "--outdir", str(folder), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "is absent from the `packages` configuration" not in done.stderr + done.stdout


def names_in(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    build(folder, "--wheel")
    (path,) = folder.glob("*.whl")
    return path


@pytest.mark.quick_cases(0)
def test_sdist_has_what_a_reader_needs_and_makes_the_same_wheel(wheel, tmp_path):
    build(tmp_path)
    (path,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(path) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {
        "LICENSE",
        "README.md",
        "CHANGELOG.md",
        "CITATION.cff",
        "docs/quickstart.md",
        "sample_data/README.md",
    } <= names
    assert [name for name in names if name.split("/")[0] in ("tests", "source", ".github", ".ci")] == []
    assert [name for name in names if "__pycache__" in name] == []
    assert names_in(next(tmp_path.glob("*.whl"))) == names_in(wheel)


def test_wheel_carries_the_license_and_names_itself(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (folder,) = {name.split("/")[0] for name in archive.namelist() if ".dist-info/" in name}
        metadata = archive.read(f"{folder}/METADATA").decode()
        assert archive.read(f"{folder}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    assert f"\nVersion: {__version__}\n" in metadata
    assert "\nLicense-Expression: Apache-2.0\n" in metadata


def test_wheel_has_two_top_level_names_and_the_data(wheel):
    names = names_in(wheel)
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == {"semfreeze_core", "semfreeze_dashboard"}
    inside = {name.removeprefix("semfreeze_core/") for name in names}
    assert {"py.typed", "sample_data/example_run/manifest.json", "sample_data/sentence_to_json_train.jsonl"} <= inside


def test_wheel_carries_every_module_of_the_tree(wheel):
    names = names_in(wheel)
    for folder, package in (("semfreeze_core", "semfreeze_core"), ("dashboard", "semfreeze_dashboard")):
        for path in (ROOT / folder).rglob("*.py"):
            assert f"{package}/{path.relative_to(ROOT / folder).as_posix()}" in names


@pytest.fixture(scope="module")
def clean_python(wheel, tmp_path_factory):
    """A new environment with the wheel; dependencies are borrowed by path, which runs none of the tree's own hooks."""
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    site = Path(
        subprocess.run(
            [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    )
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--no-deps",
        "--no-index",
        "-q",
        "--target",
        str(site),
        str(wheel),
    ]
    subprocess.run(install, check=True, capture_output=True)
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def run_clean(python, *arguments, cwd):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run([python, *arguments], capture_output=True, text=True, cwd=cwd, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_shipped_run_opens_from_an_installed_wheel(clean_python, tmp_path):
    where = run_clean(clean_python, "-c", "import semfreeze_core; print(semfreeze_core.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(clean_python.parents[1])
    plan = json.loads(run_clean(clean_python, "-m", "semfreeze_core", "plan", "example", "--json", cwd=tmp_path))
    assert plan["recommendation"] == "freeze"
    shown = json.loads(run_clean(clean_python, "-m", "semfreeze_core", "show", "example", "--json", cwd=tmp_path))
    assert len(shown["deviation"]["semantic"]["mean"]) == shown["n_layers"] + 1 == 31


def test_shipped_run_is_small_and_names_no_machine():
    folder = ROOT / "sample_data" / "example_run"
    assert sum(p.stat().st_size for p in folder.iterdir()) <= 10 * 2**20
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["model"]["identity"]["source"] == "embedded"
    assert manifest["data"]["source"] == "sample:sentence_to_json_train"
