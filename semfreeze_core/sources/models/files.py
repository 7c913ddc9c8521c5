"""The files of a model's folder, looked at before any library opens them: each one is there, a file, and readable.

Reading a pipe or a device might never end, and what a library makes of a damaged file seldom names it.
"""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from semfreeze_core.errors import ModelError

_LARGEST_DOCUMENT = 64 * 2**20  # bytes; the index of the largest checkpoints has some 10 MiB
_READ = (".json", ".jinja", ".txt", ".model", ".safetensors", ".bin", ".py")
# What transformers expects to be JSON objects, where they are there.
_OBJECTS = ("config.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json")
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"

# What configs call sizes, each at least 1; a stack of more layers than this would take hours to build.
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_MOST_LAYERS = 1_000
_SIZES = (
    "hidden_size",
    "n_embd",
    "d_model",
    "intermediate_size",
    "num_attention_heads",
    "n_head",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
    "max_position_embeddings",
    "n_positions",
)


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object from a file of at most 64 MiB.

    Raises:
        ModelError: it is not a file, too large, or holds something else.
    """
    require_file(path)
    size = path.stat().st_size
    if size > _LARGEST_DOCUMENT:
        raise ModelError(f"{path} has {size / 2**20:.0f} MiB: expected a JSON object of at most 64 MiB.")
    try:
        value = json.loads(path.read_bytes())
    except RecursionError as error:
        raise ModelError(f"{path} is nested too deeply: expected a JSON object of plain settings.") from error
    except ValueError as error:
        raise ModelError(f"{path} is not valid JSON: {error}. Download it again.") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path}: expected a JSON object, found a {_json_name(value)}.")
    return value


def _json_name(value: Any) -> str:
    names = {list: "list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "number")


def require_file(path: Path) -> None:
    """Refuse what is not a file.

    Raises:
        ModelError: it is a folder, a pipe or a device, or is not there.
    """
    if not path.is_file():
        other = "a folder" if path.is_dir() else "a pipe or a device" if path.exists() else "nothing"
        raise ModelError(f"{path}: expected a file, found {other}.")


def check_files(folder: Path) -> None:
    """Refuse a model's folder in which something else stands where a loader expects a file.

    Raises:
        ModelError: one of its files is a pipe, a device or a folder, or no JSON object where there must be one.
    """
    for path in sorted(folder.iterdir()):
        if path.suffix in _READ:
            require_file(path)
    for name in _OBJECTS:
        if (folder / name).exists():
            read_object(folder / name)


def check_sizes(config: dict[str, Any], where: str) -> None:
    """Refuse a config with sizes that no model has, before anything is built of such a size.

    Args:
        config: as in config.json; the configs inside it count too.
        where: the file, for the message.

    Raises:
        ModelError: a size is 0 or negative, or there are more layers than `_MOST_LAYERS`.
    """
    for name, value in config.items():
        if isinstance(value, dict) and name.endswith("_config"):
            check_sizes(value, where)
        if isinstance(value, bool) or not isinstance(value, int):
            continue
        if name in _LAYERS and not 1 <= value <= _MOST_LAYERS:
            raise ModelError(f"{where}: {name} is {_shown(value)}, expected 1 to {_MOST_LAYERS:,}.")
        if name in _SIZES and value < 1:
            raise ModelError(f"{where}: {name} is {_shown(value)}, expected at least 1.")


def _shown(value: int) -> str:
    return f"{value:,}" if abs(value) < 10**15 else f"a number of {value.bit_length()} bits"


def check_tokenizer_config(config: dict[str, Any], where: str) -> None:
    """Refuse a downloaded tokenizer that would be read from other files of this machine than were downloaded.

    Args:
        config: as in tokenizer_config.json.
        where: whose it is, for the message.

    Raises:
        ModelError: an entry names a path, other than the one that old versions of transformers left there unread.
    """
    for name, value in config.items():
        opened = name.endswith("_file") and name != "special_tokens_map_file"
        values = value if name == "init_inputs" and isinstance(value, list) else [value] if opened else []
        outside = next((text for text in values if isinstance(text, str) and set("/\\") & set(text)), None)
        if outside is not None:
            raise ModelError(
                f"{where}: its tokenizer_config.json names a file elsewhere as {name} ({outside[:80]!a}): expected "
                "names of files beside it. If you trust it, take the entry out of a downloaded copy and give that."
            )


def check_weights(folder: Path) -> None:
    """Refuse safetensors that are not whole, by name; no weights are read.

    Raises:
        ModelError: the index names no files or files that are not there, or a file is damaged.
    """
    for path in weight_files(folder):
        if not path.exists():
            raise ModelError(f"{path} is missing, but {INDEX} names it. Download it again.")
        check_safetensors(path)


def tensor_shapes(folder: Path) -> dict[str, list[int]] | None:
    """Every tensor of a folder's whole safetensors by name, with its shape; None where there are no safetensors.

    Only their headers are read.
    """
    shapes: dict[str, list[int]] = {}
    files = weight_files(folder)
    for path in files:
        with safe_open(path, framework="pt") as weights:
            shapes |= {name: weights.get_slice(name).get_shape() for name in weights.keys()}  # noqa: SIM118
    return shapes if files else None


def weight_files(folder: Path) -> list[Path]:
    """The safetensors that a folder's weights are in, none where it has none."""
    if (folder / WEIGHTS).exists():
        return [folder / WEIGHTS]
    return [folder / name for name in _indexed_files(folder / INDEX)] if (folder / INDEX).exists() else []


def _indexed_files(index: Path) -> list[str]:
    names = read_object(index).get("weight_map")
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise ModelError(f"{index}: expected a weight_map from weights to files, found none. Download it again.")
    files = sorted(set(names.values()))
    outside = next((name for name in files if Path(name).name != name), None)
    if outside is not None:
        raise ModelError(f"{index}: expected names of files beside it, found {outside[:80]!r}.")
    return files


def check_safetensors(path: Path) -> None:
    """Refuse a file that is no whole safetensors file; only its header is read.

    Raises:
        ModelError: it is damaged, cut short or a pointer of Git LFS.
    """
    require_file(path)
    try:
        with safe_open(path, framework="pt"):
            return
    except SafetensorError as error:
        with path.open("rb") as file:
            pointer = file.read(40).startswith(b"version https://git-lfs")
        if pointer:
            raise ModelError(
                f"{path} holds no weights, only a pointer of Git LFS to them. Fetch them with: git lfs pull."
            ) from error
        raise ModelError(f"{path} is damaged or cut short ({error}). Download it again.") from error
