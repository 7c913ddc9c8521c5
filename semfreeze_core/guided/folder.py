"""The folder of a guided finetune: what is in it, and one request and one process at a time."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from semfreeze_core.errors import RunError
from semfreeze_core.finetune.train.folder import CHECKPOINTS, RESULT
from semfreeze_core.guided.request import GuidedRequest
from semfreeze_core.records.finetune_report import DECISION
from semfreeze_core.records.race import RACE_FOLDER
from semfreeze_core.storage import disk_errors, kept_source, write_atomically
from semfreeze_core.temporary import is_temporary, remove_leftovers, require_locks

SETTINGS, DATA, ANALYSIS = "settings.json", "data", "analysis"
_AFTER_ANALYSIS = {"epochs", "steps", "objective", "depth", "options"}  # no row and no hidden state depends on them


@contextmanager
def claimed(folder: Path, request: GuidedRequest) -> Iterator[GuidedRequest]:
    """Lock the folder for this request and this process; the request as its finetune began.

    Raises:
        RunError: it holds something else, another finetune, or is in use.
    """
    decision = folder / DECISION
    _refuse_foreign(folder)
    with disk_errors(
        folder, saved_text=lambda: "What is finished is kept.", advice="Free some space and run it again."
    ):
        made = not folder.exists()
        decision.mkdir(parents=True, exist_ok=True)
        require_locks(decision)
        try:
            with FileLock(decision / ".lock", timeout=0):
                remove_leftovers(decision)
                begun = _as_begun(folder, request)
                _refuse_another(folder, begun)
                yield begun
        except Timeout as error:
            raise RunError(f"A finetune is already running in {folder}.") from error
        finally:
            if not (decision / SETTINGS).exists():  # refused before anything was decided
                shutil.rmtree(decision, ignore_errors=True)
            if made:
                with suppress(OSError):
                    folder.rmdir()  # only an empty one goes


def kept_settings(request: GuidedRequest, decision: Path) -> dict[str, Any]:
    """The request's settings as a document in the folder `decision` holds them."""
    return request.settings() | {"model": kept_source(request.model.source, decision)}


def settings_text(request: GuidedRequest, decision: Path) -> str:
    """That document, as it is written."""
    return json.dumps(kept_settings(request, decision), indent=1) + "\n"


def _refuse_foreign(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise RunError(f"{folder} is not a folder. Choose another --out.")
    names = [path.name for path in folder.iterdir() if not is_temporary(path.name)]
    if names and DECISION not in names:
        raise RunError(f"{folder} is not empty and holds no guided finetune. Choose another --out.")


def _as_begun(folder: Path, request: GuidedRequest) -> GuidedRequest:
    """The request with the micro-batches that its finetune began with, for which the plan and a race are made."""
    options = _written(folder).get("options")
    if not (_results(folder) and isinstance(options, dict)):
        return request
    size = options.get("micro_batch_size")
    return replace(request, options=replace(request.options, micro_batch_size=size if isinstance(size, int) else None))


def _written(folder: Path) -> dict[str, Any]:
    """The settings that the folder holds; empty where it has none that can be read."""
    try:
        written = json.loads((folder / DECISION / SETTINGS).read_text())
    except (OSError, ValueError):
        return {}
    return written if isinstance(written, dict) else {}


def _results(folder: Path) -> bool:
    """Whether anything has been trained."""
    trained = [*(folder / DECISION / RACE_FOLDER / "runs").glob("*-seed0.json"), *(folder / CHECKPOINTS).glob("*")]
    return bool(trained) or (folder / RESULT).exists()


def _refuse_another(folder: Path, request: GuidedRequest) -> None:
    """Refuse another request's results; what was only prepared for it is removed, but what this one needs too."""
    path = folder / DECISION / SETTINGS
    if not path.exists():  # killed before it was written: nothing says whose the rest is
        _remove_prepared(folder)
        return
    ours, known = request.settings(), _written(folder)
    recorded = kept_settings(request, folder / DECISION)
    different = [name.removesuffix("_digest") for name in ours if known.get(name) not in (ours[name], recorded[name])]
    if not different:
        return
    if _results(folder):
        raise RunError(
            f"{folder} holds another finetune (other settings: {', '.join(different)}). Choose another --out, or "
            "remove it."
        )
    shutil.rmtree(folder / DECISION / RACE_FOLDER, ignore_errors=True)
    if set(different) <= _AFTER_ANALYSIS:
        write_atomically(path, settings_text(request, folder / DECISION))
        return
    _remove_prepared(folder)
    path.unlink()


def _remove_prepared(folder: Path) -> None:
    for part in (DATA, ANALYSIS):
        shutil.rmtree(folder / DECISION / part, ignore_errors=True)
