"""The runs that this dashboard may show: those of one folder, and the bundled example. Nothing else is reachable."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from semfreeze_core.errors import RunError
from semfreeze_core.records.manifest import RunManifest
from semfreeze_core.records.run import Run
from semfreeze_core.runs.folder import MANIFEST, read_manifest, read_run
from semfreeze_core.runs.store import example_run
from semfreeze_core.storage import runs_folder

EXAMPLE = "example"
RUNS_VARIABLE, DEMO_VARIABLE = "SEMFREEZE_DASHBOARD_RUNS", "SEMFREEZE_DASHBOARD_DEMO"
PATHS_VARIABLE, OPEN_VARIABLE = "SEMFREEZE_DASHBOARD_PATHS", "SEMFREEZE_DASHBOARD_OPEN"


@dataclass(frozen=True)
class OpenRun:
    """A run that was read, with the stamp of its manifest, so that one written anew is read anew."""

    name: str
    folder: Path
    stamp: int
    run: Run

    @property
    def key(self) -> tuple[str, int]:
        """What tells it from every other opened run."""
        return str(self.folder), self.stamp


@dataclass(frozen=True)
class CatalogEntry:
    """One run of the catalog: its manifest, or why it cannot be read."""

    name: str
    manifest: RunManifest | None
    problem: str


@dataclass(frozen=True)
class RunCatalog:
    """A folder of runs.

    Attributes:
        folder: whose sub-folders are runs; None in a demo, which shows the example alone.
    """

    folder: Path | None

    @property
    def names(self) -> list[str]:
        """Names of the runs, the example first. Links that lead out of the folder are left out.

        Raises:
            RunError: the folder cannot be read.
        """
        return [EXAMPLE, *sorted(name for name in self._folders() if name != EXAMPLE)]

    def folder_of(self, name: str) -> Path:
        """The folder of a run; a name is only compared with those that are there, so none is ever part of a path.

        Raises:
            RunError: no such run.
        """
        if name == EXAMPLE:
            return example_run()
        try:
            return self._folders()[name]
        except KeyError:
            raise RunError(f"There is no run called {name!a} here.") from None

    def entries(self) -> list[CatalogEntry]:
        """Every run, readable or not."""
        entries = []
        for name in self.names:
            try:
                entries.append(CatalogEntry(name, read_manifest(self.folder_of(name)), ""))
            except RunError as error:
                entries.append(CatalogEntry(name, None, str(error)))
        return entries

    def stamp(self, name: str) -> int:
        """When a run's manifest was written.

        Raises:
            RunError: no such run, or no manifest in it.
        """
        folder = self.folder_of(name)
        try:
            return (folder / MANIFEST).stat().st_mtime_ns
        except OSError as error:
            raise RunError(f"The run {name} cannot be read any more: {error.strerror}.") from error

    def _folders(self) -> dict[str, Path]:
        if self.folder is None:
            return {}
        try:
            inside = self.folder.resolve()
            paths = list(inside.iterdir()) if inside.is_dir() else []
            return {
                path.name: path
                for path in paths
                if not path.name.startswith(".") and path.is_dir() and path.resolve().is_relative_to(inside)
            }
        except OSError as error:
            raise RunError(f"{self.folder} cannot be read: {error.strerror}.") from error


def server_catalog() -> RunCatalog:
    """The runs that `semfreeze dashboard` was started with; by default the store of named runs."""
    if os.environ.get(DEMO_VARIABLE):
        return RunCatalog(None)
    folder = os.environ.get(RUNS_VARIABLE)
    return RunCatalog(Path(folder) if folder else runs_folder())


def paths_allowed() -> bool:
    """Whether visitors may name files of this machine: only where nobody but its user can reach the server."""
    return bool(os.environ.get(PATHS_VARIABLE))


def first_run(names: Sequence[str]) -> str:
    """The run that opens when a link names none: the one `semfreeze dashboard RUN` names, else the example."""
    name = os.environ.get(OPEN_VARIABLE, EXAMPLE)
    return name if name in names else names[0]


def open_run(catalog: RunCatalog, name: str, stamp: int) -> OpenRun:
    """Read a run whole.

    Raises:
        RunError: missing, damaged, or of a newer semfreeze.
    """
    folder = catalog.folder_of(name)
    return OpenRun(name, folder, stamp, read_run(folder))
