"""The named runs: finding, listing, renaming, removing, and a note on each.

Functions that take a `store` use that folder of runs; without one, the user's own.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from itertools import takewhile
from pathlib import Path

from semfreeze_core.errors import RunError
from semfreeze_core.records.manifest import RunManifest
from semfreeze_core.runs.folder import MANIFEST, NOTE, read_manifest
from semfreeze_core.runs.jobs import list_jobs
from semfreeze_core.storage import disk_errors, folder_bytes, remove_folder, runs_folder, user_path, write_atomically
from semfreeze_core.temporary import remove_leftovers
from semfreeze_core.unlocked_leftovers import remove_abandoned
from semfreeze_core.version import __version__

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class RunEntry:
    """One line of a listing.

    Attributes:
        name: in the store.
        manifest: None when the run cannot be read.
        problem: why it cannot be read, or "".
        bytes: disk use.
        note: the user's note on it, or "".
    """

    name: str
    manifest: RunManifest | None
    problem: str
    bytes: int
    note: str


def example_run() -> Path:
    """The bundled example run: a real analysis that opens without model or network."""
    return Path(str(files("semfreeze_core.sample_data"))) / "example_run"


def find_run(name_or_path: str) -> Path:
    """The folder of a run given by path, by name in the store, or as "example".

    Raises:
        RunError: there is none; lists the existing ones.
    """
    if name_or_path == "example":
        return example_run()
    path = user_path(name_or_path)
    stored = runs_folder() / name_or_path
    try:
        for folder in (path, stored):
            if not folder.exists():
                remove_leftovers(folder.parent)  # a kill may have left it moved aside
        if (path / MANIFEST).exists():
            return path
        if _NAME.fullmatch(name_or_path) and stored.is_dir():
            return stored
        if path.is_dir():
            raise RunError(f"{path} is not a run folder: it has no {MANIFEST}.")
    except OSError as error:
        raise RunError(f"{error.filename or path} cannot be read: {error.strerror}.") from error
    known = ", ".join(run_names()) or "none yet"
    raise RunError(f"{name_or_path}: no run with this name or path. Named runs: {known}. Bundled run: example.")


def run_path(out: str) -> Path:
    """Folder of a new run: `out` is a name in the store, or a path when it contains a slash."""
    if "/" in out or "\\" in out or out.startswith(("~", ".")):
        return user_path(out)
    require_name(out)
    return runs_folder() / out


def free_name(base: str, folder: Path | None = None) -> str:
    """`base`, made a valid name, with a number appended when it is taken in `folder` (default: the store)."""
    folder = runs_folder() if folder is None else folder
    remove_leftovers(folder)
    return next(name for name in _numbered(base) if not (folder / name).exists())


def taken_names(base: str) -> list[str]:
    """The names that `free_name` has found taken in the store when it returns the next."""
    return list(takewhile(lambda name: (runs_folder() / name).exists(), _numbered(base)))


def _numbered(base: str) -> Iterator[str]:
    """`base`, made a valid name, then with a number from 2 on."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", base).strip("-._")[:80] or "run"
    yield name
    yield from (f"{name}-{i}" for i in range(2, 10_000))


def require_name(name: str) -> None:
    """Refuse an invalid run name.

    Raises:
        RunError: naming the allowed characters.
    """
    if not _NAME.fullmatch(name) or name == "example":
        raise RunError(f"{name!r} is not a valid run name. Use letters, digits, '.', '_' and '-', but not 'example'.")


def run_names(store: Path | None = None) -> list[str]:
    """Names of the runs in the store, in order."""
    folder = store or runs_folder()
    try:
        if not folder.is_dir():
            return []
        remove_leftovers(folder)  # a kill may have left a run moved aside
        remove_abandoned(folder, "runs")
        return sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    except OSError as error:
        raise RunError(f"{folder} cannot be read: {error.strerror}.") from error


def list_runs(store: Path | None = None) -> list[RunEntry]:
    """Every run in the store, readable or not."""
    entries = []
    for name in run_names(store):
        folder = (store or runs_folder()) / name
        try:
            manifest, problem = read_manifest(folder), ""
        except RunError as error:
            manifest, problem = None, str(error)
        entries.append(RunEntry(name, manifest, problem, folder_bytes(folder), read_note(folder)))
    return entries


def read_note(folder: Path) -> str:
    """The note on a run, or ""."""
    path = folder / NOTE
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def write_note(name: str, text: str, store: Path | None = None) -> None:
    """Write, replace or (with "") remove the note on a run."""
    folder = stored_run(name, store)
    if text:
        write_atomically(folder / NOTE, text)
    else:
        with disk_errors(folder / NOTE):
            (folder / NOTE).unlink(missing_ok=True)


def rename_run(name: str, new_name: str, store: Path | None = None) -> None:
    """Give a stored run another name.

    Raises:
        RunError: no such run, a job works in it, or the new name is taken or not a name.
    """
    folder = stored_run(name, store)
    require_name(new_name)
    _refuse_busy(folder)
    target = folder.parent / new_name
    if target.exists():
        raise RunError(f"A run named {new_name} already exists.")
    with disk_errors(target):
        os.rename(folder, target)


def remove_run(name: str, store: Path | None = None) -> int:
    """Delete a stored run; returns the bytes freed.

    Raises:
        RunError: no such run in the store (a path elsewhere, even one linked from the store, is never deleted), or a
            job works in it.
    """
    folder = stored_run(name, store)
    _refuse_busy(folder)
    size = folder_bytes(folder)
    remove_folder(folder)
    return size


def stored_run(name: str, store: Path | None = None) -> Path:
    """The folder of a run that is in the store.

    Raises:
        RunError: there is none by that name.
    """
    store = store or runs_folder()
    remove_leftovers(store)
    folder = store / name
    if not _NAME.fullmatch(name) or not folder.is_dir():
        raise RunError(f"{name}: no run with this name in {store}.")
    return folder


def _refuse_busy(folder: Path) -> None:
    """Refuse to rename or remove a run that a job uses."""
    inside = folder.resolve()
    for job in list_jobs(folder.parent):
        paths = [Path(word).resolve() for word in (*job.spec.command, job.spec.out or "") if os.sep in word]
        if not job.finished and any(path.is_relative_to(inside) for path in paths):
            raise RunError(
                f"{folder.name} is in use: {job.spec.title} is {job.state}. Wait for it, or cancel it with "
                f"`semfreeze jobs cancel {job.name}`."
            )


def is_done(folder: Path, *, model: str, data: str, examples: int) -> bool:
    """Whether a whole run of this model, data and number of examples, by this version, stands in `folder`."""
    try:
        manifest = read_manifest(folder)
    except RunError:
        return False
    return (
        manifest.model.identity.source == model
        and manifest.data.source == data
        and manifest.settings.examples == examples
        and manifest.provenance.semfreeze == __version__
    )
