"""A run as a folder: manifest.json, arrays.safetensors, examples.parquet, display.safetensors, display.json.

Written into a hidden folder next to its path and renamed when complete. Reading checks the sha256 of every file against
the manifest, so a damaged run is refused and never shown in part. The display sample and slow scores are added
afterwards, each in one step: the other files, and what is kept under their digests, stay as they are.
"""

import hashlib
import io
import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load, save

from semfreeze_core.errors import RunError
from semfreeze_core.records.display import DisplaySample
from semfreeze_core.records.manifest import SCHEMA_VERSION, RunManifest, ScoreEntry
from semfreeze_core.records.run import Run
from semfreeze_core.records.scores import SLOW_SCORES, LayerScore
from semfreeze_core.records.trace import SwappedPairs, TransitionTrace
from semfreeze_core.runs.consistency import contradictions
from semfreeze_core.storage import new_folder, source_beside, source_from, write_atomically

MANIFEST, NOTE, VALIDATIONS, SWEEPS, PILOTS = "manifest.json", "note.txt", "validations", "sweeps", "pilots"
FINETUNES = "finetunes"
_AGAIN = "Run semfreeze analyze again with --overwrite."
_TRACE_ARRAYS = ("deviation", "null", "first_deviation", "first_null", "later_deviation", "later_null")
_DISPLAY_FILES = ("display.safetensors", "display.json")
_DISPLAY_ARRAYS = (
    "coordinates",
    "variance_fraction",
    "basis_coordinates",
    "basis_ids",
    "deviation",
    "example",
    "order",
    "label_ids",
    "predicted_ids",
    "read_top",
)


def write_run(run: Run, folder: Path, *, overwrite: bool = False) -> RunManifest:
    """Write a run into `folder`, completely or not at all.

    What else an overwritten run's folder holds, outlives it: its note, its validations, a plan, files of others.

    Returns:
        The manifest as it is written, with the digests of the files.

    Raises:
        RunError: the folder is in the way or cannot be written.
        ResourceError: the disk is full.
    """
    contents = {
        "arrays.safetensors": save(_arrays(run)),
        "examples.parquet": _parquet(run.examples),
        **({} if run.display is None else _display_contents(run.display)),
    }
    files = _digests(contents)
    scores = [ScoreEntry.of(score) for score in run.scores.values()]
    sources = {
        "model_path": source_from(run.manifest.model.identity.source, folder),
        "data_path": source_from(run.manifest.data.source, folder),
    }
    to_come = run.display is None
    manifest = run.manifest.model_copy(
        update={"files": files, "scores": scores, "projection_to_come": to_come, **sources}
    )
    with new_folder(folder, overwrite=overwrite) as partial:
        for name, data in contents.items():
            (partial / name).write_bytes(data)
        (partial / MANIFEST).write_bytes(_manifest_bytes(manifest))
    return manifest


def add_score(folder: Path, score: LayerScore, files: Mapping[str, str]) -> None:
    """Add a slow score to a run that is written, or another result of it.

    The manifest alone is replaced, in one step, so the run can be read at every moment.

    Args:
        folder: of the run.
        score: the score.
        files: digests of the files of the run that it was measured for.

    Raises:
        RunError: the folder holds another run by now, or none; or it cannot be written.
        ResourceError: the disk is full.
    """
    manifest = _manifest_of(files, folder, score.name)
    write_atomically(folder / MANIFEST, _manifest_bytes(manifest.with_score(ScoreEntry.of(score))))


def add_display(folder: Path, display: DisplaySample, files: Mapping[str, str]) -> None:
    """Add the display sample to a run that was written without.

    The manifest names its files once they are whole, so the run can be read at every moment.

    Args:
        folder: of the run.
        display: the sample, projected.
        files: digests of the files of the run that it is of.

    Raises:
        RunError: the folder holds another run by now, or none; or it cannot be written.
        ResourceError: the disk is full.
    """
    manifest, contents = _manifest_of(files, folder, "the projection"), _display_contents(display)
    for name, data in contents.items():
        write_atomically(folder / name, data)
    write_atomically(folder / MANIFEST, _manifest_bytes(manifest.with_projection(_digests(contents))))


def _manifest_of(files: Mapping[str, str], folder: Path, part: str) -> RunManifest:
    """The manifest of the run with these files, to which a part is added; what else was added since does not matter."""
    manifest = _written_manifest(folder)
    if any(manifest.files.get(name) != digest for name, digest in files.items() if name not in _DISPLAY_FILES):
        raise RunError(
            f"{folder} was replaced by another analysis while {part} was computed, so it was not added. Run the "
            "same command again to add it to the new run."
        )
    return manifest


def lacks_parts(folder: Path, names: Collection[str] = ()) -> bool:
    """Whether a run stands in a folder and lacks what its analysis has yet to add, or slow scores of `names`."""
    try:
        manifest = read_manifest(folder)
    except RunError:
        return False
    measured = {score.name for score in manifest.scores if not score.reason}
    return bool(manifest.parts_to_come or {*names}.intersection(SLOW_SCORES) - measured)


def _manifest_bytes(manifest: RunManifest) -> bytes:
    return manifest.model_dump_json(indent=1).encode()


def read_manifest(folder: Path) -> RunManifest:
    """The manifest of a run folder.

    Raises:
        RunError: not a run folder, damaged, or written by a newer semfreeze.
    """
    return _located(_written_manifest(folder), folder)


def _written_manifest(folder: Path) -> RunManifest:
    """The manifest as it stands in the file."""
    path = folder / MANIFEST
    try:
        if not folder.exists():
            raise RunError(f"{folder}: no such run.")
        if not path.exists():
            raise RunError(f"{folder} is not a run folder: it has no {MANIFEST}.")
        if not (path.is_file() or path.is_dir()):  # reading a pipe would wait for ever
            raise RunError(f"{path} cannot be read: it is not a regular file.")
        document: Any = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path} is damaged ({error}). {_AGAIN}") from error
    if not isinstance(document, dict) or document.get("kind") != "semfreeze run":
        raise RunError(f"{folder} is not a run folder: its {MANIFEST} does not describe a semfreeze run.")
    version = document.get("schema_version")
    if not isinstance(version, int) or version < 1:
        raise RunError(f"{path} is damaged (schema_version: {version!r}). {_AGAIN}")
    if version > SCHEMA_VERSION:
        raise RunError(
            f"{folder} was written by a newer semfreeze (run schema {version}, this one reads {SCHEMA_VERSION}). "
            "Update semfreeze."
        )
    if version < SCHEMA_VERSION:
        raise RunError(
            f"{folder} was written by an older semfreeze (run schema {version}, this one reads {SCHEMA_VERSION}). "
            f"{_AGAIN}"
        )
    try:
        return RunManifest.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise RunError(f"{path} is damaged ({field}: {first['msg']}). {_AGAIN}") from error


def _located(manifest: RunManifest, folder: Path) -> RunManifest:
    """A manifest with its model and data where they are now."""
    identity = manifest.model.identity
    identity = replace(identity, source=source_beside(identity.source, manifest.model_path, folder))
    source = source_beside(manifest.data.source, manifest.data_path, folder)
    return manifest.model_copy(
        update={
            "model": manifest.model.model_copy(update={"identity": identity}),
            "data": manifest.data.model_copy(update={"source": source}),
            "model_path": None,
            "data_path": None,
        }
    )


def read_run(folder: Path) -> Run:
    """A run from its folder, every file checked.

    Raises:
        RunError: not a run folder, damaged, or written by a newer semfreeze.
    """
    manifest = read_manifest(folder)
    contents = {name: _checked(folder / name, digest) for name, digest in manifest.files.items()}
    try:
        arrays = load(contents["arrays.safetensors"])
        examples = pd.read_parquet(io.BytesIO(contents["examples.parquet"]))
        traces, pairs = _traces(arrays, manifest)
        scores = _scores(arrays, manifest)
        display = None if manifest.projection_to_come else _display(contents)
        run = Run(manifest, traces, pairs, examples, display, scores)
        problem = next(contradictions(run), "")
    except (
        AttributeError,
        IndexError,
        KeyError,
        OverflowError,
        TypeError,
        ValueError,
        RecursionError,
        OSError,  # Arrow's on Parquet
        SafetensorError,
    ) as error:
        raise RunError(f"{folder} is damaged ({error}). {_AGAIN}") from error
    if problem:
        raise RunError(f"{folder} is damaged ({problem}). {_AGAIN}")
    return run


def read_traces(folder: Path) -> tuple[RunManifest, dict[str, TransitionTrace], dict[str, SwappedPairs]]:
    """What a plan is made from, of a run folder: without the examples and the display sample, which are most of it.

    Raises:
        RunError: not a run folder, damaged, or written by a newer semfreeze.
    """
    manifest = read_manifest(folder)
    name = "arrays.safetensors"
    try:
        return manifest, *_traces(load(_checked(folder / name, manifest.files[name])), manifest)
    except (KeyError, TypeError, ValueError, SafetensorError) as error:
        raise RunError(f"{folder} is damaged ({error}). {_AGAIN}") from error


def _checked(path: Path, digest: str) -> bytes:
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):  # reading a pipe would wait for ever
            raise RunError(f"{path.parent} is damaged: {path.name} is not a regular file. {_AGAIN}")
        data = path.read_bytes()
    except OSError as error:
        raise RunError(f"{path.parent} is damaged: {path.name} cannot be read ({error.strerror}).") from error
    if hashlib.sha256(data).hexdigest() != digest:
        raise RunError(f"{path.parent} is damaged: {path.name} has changed since it was written. {_AGAIN}")
    return data


def _arrays(run: Run) -> dict[str, npt.NDArray[Any]]:
    arrays = {f"{m}.{name}": getattr(t, name) for m, t in run.traces.items() for name in _TRACE_ARRAYS}
    for metric, pairs in run.pairs.items():
        arrays |= {f"{metric}.pairs_own": pairs.own, f"{metric}.pairs_swapped": pairs.swapped}
    for name, score in run.scores.items():
        if name in SLOW_SCORES:  # whose numbers are in the manifest
            continue
        arrays[f"score.{name}.values"] = score.values
        if score.replicates is not None:
            arrays[f"score.{name}.replicates"] = score.replicates
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


def _traces(
    arrays: dict[str, npt.NDArray[Any]], manifest: RunManifest
) -> tuple[dict[str, TransitionTrace], dict[str, SwappedPairs]]:
    metrics = manifest.settings.metrics
    traces = {m: TransitionTrace(m, *(arrays[f"{m}.{name}"] for name in _TRACE_ARRAYS)) for m in metrics}
    reason = manifest.task_null_reason
    pairs = {m: SwappedPairs(m, arrays[f"{m}.pairs_own"], arrays[f"{m}.pairs_swapped"], reason) for m in metrics}
    return traces, pairs


def _scores(arrays: dict[str, npt.NDArray[Any]], manifest: RunManifest) -> dict[str, LayerScore]:
    return {
        entry.name: LayerScore(
            entry.name,
            arrays[f"score.{entry.name}.values"] if entry.values is None else np.array(entry.values, dtype=np.float64),
            arrays[f"score.{entry.name}.replicates"] if entry.replicates else None,
            entry.sample,
            entry.reason,
        )
        for entry in manifest.scores
    }


def _digests(contents: Mapping[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}


def _display_contents(display: DisplaySample) -> dict[str, bytes]:
    """The files of a display sample, by name."""
    arrays = save({name: np.ascontiguousarray(getattr(display, name)) for name in _DISPLAY_ARRAYS})
    metadata = json.dumps(_display_metadata(display), ensure_ascii=False).encode()
    return dict(zip(_DISPLAY_FILES, (arrays, metadata), strict=True))


def _display_metadata(display: DisplaySample) -> dict[str, Any]:
    return {
        "metrics": list(display.metrics),
        "token_text": {str(i): text for i, text in display.token_text.items()},
        "n_positions_total": display.n_positions_total,
        "seed": display.seed,
    }


def _display(contents: Mapping[str, bytes]) -> DisplaySample:
    arrays, metadata = load(contents[_DISPLAY_FILES[0]]), json.loads(contents[_DISPLAY_FILES[1]])
    return DisplaySample(
        **{name: arrays[name] for name in _DISPLAY_ARRAYS},
        metrics=tuple(metadata["metrics"]),
        token_text={int(i): text for i, text in metadata["token_text"].items()},
        n_positions_total=metadata["n_positions_total"],
        seed=metadata["seed"],
    )


def _parquet(table: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()
