"""Folders that hold a finetune's adapter (PEFT): which base they need, and a verified merge into it."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from semfreeze_core.errors import ModelError
from semfreeze_core.sources.models.files import INDEX, WEIGHTS, check_safetensors, read_object, require_file
from semfreeze_core.sources.models.probe import probe_ids

CONFIG = "adapter_config.json"
# Entries that PEFT matches as regular expressions; of the first two only a text is one.
_NAMES = ("target_modules", "exclude_modules")
_PATTERNS = (*_NAMES, "layers_pattern", "rank_pattern", "alpha_pattern")
_REPEATED_GROUP, _REPEATS, _MOST_REPEATS = re.compile(r"\)[*+{]"), re.compile(r"[*+{]"), 6
SAFETENSORS, PICKLE = "adapter_model.safetensors", "adapter_model.bin"
_ANOTHER_BASE = "Is this the base it was trained on?"
_SIZES = re.compile(r"size mismatch for (\S+): .*?torch\.Size\(\[(.*?)\]\).*?torch\.Size\(\[(.*?)\]\)", re.DOTALL)
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json")


@dataclass(frozen=True)
class Adapter:
    """A folder with adapter_config.json.

    Attributes:
        folder: where it is.
        base: the model it was trained on, a path or a hub id, as its config names it.
        revision: of a base on the hub, where the config names one.
        kind: PEFT's name of the method ("LORA").
        rank: of a low-rank method, else None.
        repository: of the hub that it was downloaded from, or None for a folder that the user named.
    """

    folder: Path
    base: str
    revision: str | None
    kind: str
    rank: int | None
    repository: str | None = None

    @property
    def name(self) -> str:
        """What people call it: its repository, or else its folder."""
        return self.repository or str(self.folder)

    @property
    def description(self) -> str:
        """What it is, in words."""
        kind = "LoRA" if self.kind == "LORA" else self.kind
        return f"Adapter ({kind})" if self.rank is None else f"Adapter ({kind}, rank {self.rank})"

    @property
    def advice(self) -> str:
        """How to give it another base."""
        file = f"{CONFIG} of a downloaded copy of {self.repository}" if self.repository else self.folder / CONFIG
        return f"To use another base, write its folder or Hub ID as base_model_name_or_path in {file}."

    @property
    def has_safetensors(self) -> bool:
        """Whether its weights are in safetensors, whose headers show their shapes."""
        return (self.folder / SAFETENSORS).exists()

    @property
    def unused_weights(self) -> str | None:
        """A file of a whole model's weights that lies beside the adapter, as after a merge; None where none does."""
        return next((name for name in (WEIGHTS, INDEX) if (self.folder / name).exists()), None)

    @property
    def has_tokenizer(self) -> bool:
        """Whether a tokenizer lies beside it; else the base's is meant."""
        return any((self.folder / name).exists() for name in _TOKENIZERS)


def read_adapter(folder: Path) -> Adapter | None:
    """The adapter a folder holds, or None when it holds none.

    Raises:
        ModelError: its config is no JSON object, or does not name a base.
    """
    if not is_adapter(folder):
        return None
    path = folder / CONFIG
    config = read_object(path)
    base, revision, rank = config.get("base_model_name_or_path"), config.get("revision"), config.get("r")
    if not isinstance(base, str) or not base:
        raise ModelError(f"{path}: expected base_model_name_or_path, the model this adapter belongs to, found none.")
    if not (revision is None or isinstance(revision, str)) or not (rank is None or type(rank) is int):
        raise ModelError(f"{path}: expected a text as revision and a number as r, found {revision!r} and {rank!r}.")
    _check_patterns(config, path)
    return Adapter(folder, base, revision or None, str(config.get("peft_type")), rank)


def is_adapter(folder: Path) -> bool:
    """Whether a folder is an adapter's."""
    try:
        return (folder / CONFIG).exists()
    except OSError:  # a name that the system cannot hold
        return False


def _check_patterns(config: dict[str, Any], path: Path) -> None:
    """Refuse regular expressions over module names that could run for hours: those that repeat what repeats."""
    for name in _PATTERNS:
        value = config.get(name)
        if isinstance(value, str):
            texts = [value]
        else:  # a list of modules holds plain names
            texts = [*value] if isinstance(value, dict | list) and name not in _NAMES else []
        for text in texts:
            if isinstance(text, str) and (_REPEATED_GROUP.search(text) or len(_REPEATS.findall(text)) > _MOST_REPEATS):
                raise ModelError(
                    f"{path}: {name} holds a regular expression that may take hours to match ({text[:60]!r}). List the "
                    "modules' names instead."
                )


def locate_base(adapter: Adapter) -> str:
    """The adapter's base, looked for as named and then beside the adapter; a hub id when neither is there."""
    sibling = adapter.folder / adapter.base
    try:
        return str(sibling) if not Path(adapter.base).exists() and sibling.exists() else adapter.base
    except (OSError, ValueError):  # no path at all; what it may be then is decided where it is opened
        return adapter.base


def check_adapter_weights(adapter: Adapter, *, allow_pickle: bool) -> None:
    """Refuse an adapter without weights that may be loaded.

    Raises:
        ModelError: there are none, or only pickled ones without leave.
    """
    if adapter.has_safetensors:
        check_safetensors(adapter.folder / SAFETENSORS)
        return
    if not (adapter.folder / PICKLE).exists():
        pickled = f" If there is only {PICKLE}, which can run code while loading, add --allow-pickle to trust it."
        raise ModelError(
            f"{adapter.name} has an adapter_config.json but no weights: expected {SAFETENSORS}."
            + (pickled if adapter.repository and not allow_pickle else "")
        )
    if not allow_pickle:
        raise ModelError(
            f"{adapter.name} holds its adapter only as pickle ({PICKLE}), which can run code while loading. If you "
            "trust where it comes from, add --allow-pickle; better, convert it to safetensors once."
        )
    require_file(adapter.folder / PICKLE)


def resize_vocabulary(model: Any, adapter: Adapter) -> None:
    """Give a base the tokens that its adapter was saved with, where it brings an embedding or head of its own.

    Those rows hold what the adapter brings; on fake tensors only their number changes.
    """
    if not adapter.has_safetensors:
        return
    matrices = {id(model.get_input_embeddings()), id(model.get_output_embeddings())}
    names = [name for name, module in model.named_modules() if id(module) in matrices]
    with safe_open(adapter.folder / SAFETENSORS, framework="pt") as weights:
        rows = {
            weights.get_slice(key).get_shape()[0]
            for key in weights.keys()  # noqa: SIM118 - it is no dictionary
            for name in names
            if re.fullmatch(rf"base_model\.model\.{re.escape(name)}\.(\w+\.)?weight", key) and "lora_" not in key
        }
    if len(rows) == 1 and rows != {model.get_input_embeddings().num_embeddings}:
        model.resize_token_embeddings(rows.pop(), mean_resizing=False)


def _without_copies(keys: list[str], adapter: Adapter) -> list[str]:
    """Of weights that find no place in a model, those that are no copy of one that does.

    PEFT saves a trained embedding or head twice, by its own name and that of its wrapper, where the vocabulary was
    resized or `save_embedding_layers` is set.
    """
    if not keys or not adapter.has_safetensors:
        return keys
    with safe_open(adapter.folder / SAFETENSORS, framework="pt") as weights:
        names = set(weights.keys())

        def is_copy(key: str) -> bool:
            plain = key.replace(".modules_to_save.", ".")
            return (
                plain != key
                and {key, plain} <= names
                and torch.equal(weights.get_tensor(key), weights.get_tensor(plain))
            )

        return [key for key in keys if not is_copy(key)]


def attach_adapter(model: Any, adapter: Adapter) -> Any:
    """The base model with the adapter beside its weights, as PEFT puts it there; it may be without weights itself.

    Args:
        model: the base, with the adapter's vocabulary.
        adapter: to be put beside it.

    Raises:
        ModelError: peft is not there, the adapter is of a kind that cannot be merged, or it is another model's.
    """
    try:
        from peft import PEFT_TYPE_TO_TUNER_MAPPING, PeftModel
    except ImportError as error:
        raise ModelError(
            f"{adapter.name} is an adapter, and opening it needs peft: pip install 'semfreeze[finetune]'."
        ) from error
    # Before peft makes it: the kinds without a merge open what their configs name, tokenizers and other adapters.
    kinds = {str(kind.value): tuner for kind, tuner in PEFT_TYPE_TO_TUNER_MAPPING.items()}
    if not hasattr(kinds.get(adapter.kind), "merge_and_unload") or adapter.kind == "XLORA":
        raise ModelError(
            f"{adapter.name}: a {adapter.kind} adapter cannot be written into the model's weights, so it has no "
            "hidden states of its own. Adapters like LoRA can."
        )
    _refuse_tied(model, adapter)
    try:
        adapted = PeftModel.from_pretrained(model, str(adapter.folder), torch_device="cpu").eval()
        report = adapted.load_adapter(str(adapter.folder), "default", torch_device="cpu")
    except (RuntimeError, ValueError) as error:
        if (reason := _misfit(str(error))) is None:
            raise
        raise ModelError(f"{adapter.name} does not fit {adapter.base}: {reason}. {_ANOTHER_BASE}") from error
    mismatched_keys = [*report.missing_keys, *_without_copies(report.unexpected_keys, adapter)]
    if mismatched_keys:
        n = len(mismatched_keys)
        count = (
            "1 weight of the adapter is missing or finds"
            if n == 1
            else f"{n} weights of the adapter are missing or find"
        )
        raise ModelError(f"{adapter.name}: {count} no place in {adapter.base} ({mismatched_keys[0]}). {_ANOTHER_BASE}")
    return adapted


def _misfit(error: str) -> str | None:
    """In what an adapter does not fit its base, by what PEFT says of it; None where that is about something else."""
    sizes = _SIZES.search(error)
    if sizes is not None:
        name, saved, asked = sizes.groups()
        return f"{name.removeprefix('base_model.model.')} is ({saved}), expected ({asked})"
    return "the modules that it changes are not there" if "not found in the base model" in error else None


def _refuse_tied(model: Any, adapter: Adapter) -> None:
    """Refuse low-rank changes of one of two matrices that share their weight: merged, they would change both."""
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if embedding.weight is not head.weight or not adapter.has_safetensors:
        return
    names = "|".join(re.escape(name) for name, module in model.named_modules() if module in (embedding, head))
    with safe_open(adapter.folder / SAFETENSORS, framework="pt") as weights:
        changes = (key for key in weights.keys() if re.search(rf"\.({names})\.lora_(embedding_)?B\b", key))  # noqa: SIM118
        if any(weights.get_tensor(key).any() for key in changes):
            raise ModelError(
                f"{adapter.name} changes one of {adapter.base}'s embedding and head, which are tied: merged, it would "
                "change both. An adapter on a tied embedding cannot be merged."
            )


@torch.no_grad()
def merge_adapter(model: Any, adapter: Adapter) -> Any:
    """The base model with the adapter's change written into its own weights.

    Proved on the probe: the merged model must answer as base and adapter did side by side.

    Raises:
        ModelError: peft is not there, the adapter is another model's, or it cannot be written into the weights.
    """
    resize_vocabulary(model, adapter)
    ids = probe_ids(model).to(model.device)  # before an adapter that trains tokens wraps the embedding
    adapted = attach_adapter(model, adapter)
    before = adapted(input_ids=ids, use_cache=False).logits.float()
    merged = adapted.merge_and_unload(safe_merge=True)
    after = merged(input_ids=ids, use_cache=False).logits.float()
    difference = float((after - before).abs().max() / before.std())
    if not difference <= (1e-3 if merged.dtype == torch.float32 else 0.1):
        raise ModelError(
            f"{adapter.name}: merged into {adapter.base}, the adapter does not answer as it did beside it (largest "
            f"difference {difference:.2g} of the logits' spread). An adapter on a tied embedding cannot be merged."
        )
    return merged
