"""What visitors may have opened for them: on a server that others reach, nothing by a path of its machine.

Forms offer no more than that, but a link, a widget's state or a text field can say anything. So whatever opens a model
or data, or starts a job, comes through here.
"""

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from semfreeze_core.errors import InputError
from semfreeze_core.records.defaults import HELD_OUT_DATA
from semfreeze_core.records.job import Job
from semfreeze_core.runs import jobs
from semfreeze_core.runs.folder import read_manifest
from semfreeze_core.sources.data.samples import sample_names
from semfreeze_core.sources.models.hub import is_here, names_hub_model

from .analysis_request import UPLOADS
from .run_folder import paths_allowed, server_catalog

_NAME = r"[A-Za-z0-9](?:[\w-]|\.(?!\.))*"
# A dataset needs its owner: some names without one stand for readers of local files. Then configuration, split, rows.
_DATASET = re.compile(rf"hf:({_NAME}/{_NAME})(?::[^/\\:#]+)?(?:#[^/\\:#]+(?::\d+)?)?", re.ASCII)
_MODEL_OPTION, _DATA_OPTIONS = "--model=", ("--data=", "--train=", "--eval=")


def require_model(model: str, analyzed: Collection[str] = ()) -> None:
    """Refuse a model that only a path of this machine means, where visitors may name none.

    Args:
        model: as the command line takes it.
        analyzed: the model that a run is of, which may be used again wherever it is.

    Raises:
        InputError: saying what can be named instead.
    """
    if model == "embedded" or paths_allowed() or model in analyzed or names_hub_model(model):
        return
    raise InputError(
        f"{model[:80]!a} is not the name of a hub model. Name it as on the hub, owner/name or name: this server opens "
        "no folders or files of its machine for visitors."
    )


def require_data(data: str, analyzed: Collection[str] = ()) -> None:
    """Refuse data that only a path of this machine means, where visitors may name none.

    Args:
        data: as the command line takes it; an upload as the path where it is kept.
        analyzed: the data that a run was analyzed on, which may be used again wherever they are.

    Raises:
        InputError: saying what can be named instead.
    """
    if paths_allowed() or data in (*analyzed, HELD_OUT_DATA) or _is_upload(data):
        return
    if data.removeprefix("sample:") in sample_names() and data.startswith("sample:"):
        return
    if (dataset := _DATASET.fullmatch(data)) and not is_here(dataset[1]):
        return
    raise InputError(
        f"{data.removeprefix('hf:')[:80]!a} is not the name of a hub dataset. Name it as on the hub, owner/name, or "
        "upload a file: this server opens no folders or files of its machine for visitors."
    )


def submit(runs: Path, command: Sequence[str], title: str, out: Path | None = None) -> Job:
    """Start a job that a visitor asks for, or join the one that does the same.

    Args:
        runs: folder of the runs it works on.
        command: words of a semfreeze command, without --out; of one that works on a run, the second is the run.
        title: what it does, in words.
        out: folder of what it makes; inside a run's, the command may use the model and data of that run.

    Raises:
        InputError: it would open what visitors may not name.
        RunError: the folder cannot be written, or the job's process does not come up.
    """
    for word in command:
        if word.startswith(_MODEL_OPTION):
            require_model(word.removeprefix(_MODEL_OPTION), _analyzed(command[1], out)[0])
        for option in _DATA_OPTIONS:
            if word.startswith(option):
                require_data(word.removeprefix(option), _analyzed(command[1], out)[1])
    return jobs.submit(runs, command, title, out)


def _analyzed(run: str, out: Path | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The model and the data, as a command names them, of the run of the catalog that a job works on; none without one.

    Args:
        run: the run as the command names it, or another word.
        out: folder of what the job makes, which may be in the run's.
    """
    catalog = server_catalog()
    for name in catalog.names:
        folder = catalog.folder_of(name).absolute()
        if run in (name, str(folder)) or (out is not None and out.absolute().parent.parent == folder):
            manifest = read_manifest(folder)
            data = manifest.data
            return (manifest.model.identity.source,), (data.source, f"{data.source}#{data.split}")
    return (), ()


def _is_upload(data: str) -> bool:
    """Whether this is a file that a visitor uploaded: the pages know its path, visitors only its bytes."""
    folder = server_catalog().folder
    if folder is None:
        return False
    path = Path(data)
    return path.parent == folder / UPLOADS and path.is_file() and not path.is_symlink()
