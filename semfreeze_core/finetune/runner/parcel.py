"""An arm's job packed for a machine that shares no file system with this one, and unpacked there."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any

from filelock import FileLock

from semfreeze_core.errors import InputError
from semfreeze_core.storage import cache_folder, digest, new_folder, user_path
from semfreeze_core.temporary import require_locks

_DIGESTED_BYTES = 64 * 2**20  # larger files are weights, whose digest the plan holds
_LEFT_OUT = ("checkpoint-", "original")  # folders beside a model that hold other weights


@dataclass(frozen=True)
class PackedModel:
    """A local model's files.

    Attributes:
        source: its folder or file.
        sizes: bytes of each file, by its path in the folder; of a file alone, by its name.
        key: of its content: models with one key are the same.
        is_file: it is a file alone.
    """

    source: str
    sizes: dict[str, int]
    key: str
    is_file: bool

    @property
    def paths(self) -> dict[str, str]:
        """Where the files are on this machine, by their names in `sizes`."""
        top = Path(self.source).parent if self.is_file else Path(self.source)
        return {name: str(top / name) for name in self.sizes}


def pack_model(source: str, weights_digest: str) -> PackedModel | None:
    """The files of a model that this machine has as a folder or file; None where each machine finds it by its name.

    Args:
        source: as a command takes it.
        weights_digest: of the model, which the arm checks when it has loaded it.

    Raises:
        InputError: it is an adapter, whose base is another folder.
    """
    path = user_path(source)
    if source == "embedded" or not path.exists():
        return None
    path = path.absolute()
    if (path / "adapter_config.json").exists():
        raise InputError(
            f"{source} is an adapter, and its base may be another folder, so it is not sent to other machines. Merge "
            "it into its base and name that folder, or use --runner processes."
        )
    files = [path] if path.is_file() else sorted(_files(path))
    top = path.parent if path.is_file() else path
    sizes = {str(file.relative_to(top)): file.stat().st_size for file in files}
    small = {name: _digest(top / name) for name, size in sizes.items() if size <= _DIGESTED_BYTES}
    key = digest({"weights": weights_digest, "sizes": sizes, "small": small})[:32]
    return PackedModel(str(path), sizes, key, path.is_file())


def _files(folder: Path) -> list[Path]:
    paths: list[Path] = []
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_file():
            paths.append(path)
        elif path.is_dir() and not path.name.startswith(_LEFT_OUT):
            paths += _files(path)
    return paths


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def unpack_model(model: PackedModel, read: Callable[[str, int], bytes]) -> str:
    """Where the model is on this machine: in its own place, else in the cache, into which it is fetched once.

    Args:
        model: as packed.
        read: returns a file's part at an offset, empty at its end.
    """
    if all(_has_size(Path(path), model.sizes[name]) for name, path in model.paths.items()):
        return model.source
    target = cache_folder() / "sent" / model.key
    target.parent.mkdir(parents=True, exist_ok=True)
    require_locks(target.parent)
    with FileLock(f"{target}.lock"):
        if not target.exists():
            with new_folder(target) as folder:
                for name in model.sizes:
                    fetch(folder / name, lambda offset, name=name: read(name, offset))  # type: ignore[misc]
    return str(target / next(iter(model.sizes))) if model.is_file else str(target)


def fetch(path: Path, read: Callable[[int], bytes]) -> None:
    """Write a file from its parts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        while part := read(file.tell()):
            file.write(part)


def unpack_job(folder: Path, name: str, job: dict[str, Any], source: str, examples: bytes) -> tuple[Path, Path]:
    """Write a job into a folder of this machine; the job's file, and its result's.

    Args:
        folder: an empty one.
        name: of the arm's files.
        job: an ArmJob's fields, as its command wrote them.
        source: of the model on this machine.
        examples: the content of the job's data.
    """
    path, data, result = folder / f"{name}.json", folder / "examples.safetensors", folder / "runs" / f"{name}.json"
    data.write_bytes(examples)
    result.parent.mkdir()
    here = job | {"model": job["model"] | {"source": source}, "data": str(data), "result": str(result)}
    path.write_text(json.dumps(here))
    return path, result


def _has_size(path: Path, size: int) -> bool:
    try:
        return os.stat(path).st_size == size
    except OSError:
        return False
