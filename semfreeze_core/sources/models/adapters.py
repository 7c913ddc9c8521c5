"""Folders that hold a finetune's adapter (PEFT): which base they need, and a verified merge into it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from semfreeze_core.errors import ModelError
from semfreeze_core.sources.models.probe import probe_ids

_SAFETENSORS, _PICKLE = "adapter_model.safetensors", "adapter_model.bin"
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
    """

    folder: Path
    base: str
    revision: str | None
    kind: str
    rank: int | None

    @property
    def description(self) -> str:
        """What it is, in words."""
        kind = "LoRA" if self.kind == "LORA" else self.kind
        return f"Adapter ({kind})" if self.rank is None else f"Adapter ({kind}, rank {self.rank})"

    @property
    def has_tokenizer(self) -> bool:
        """Whether a tokenizer lies beside it; else the base's is meant."""
        return any((self.folder / name).exists() for name in _TOKENIZERS)


def read_adapter(folder: Path) -> Adapter | None:
    """The adapter a folder holds, or None when it holds none.

    Raises:
        ModelError: its config is no JSON object, or does not name a base.
    """
    path = folder / "adapter_config.json"
    if not path.exists():
        return None
    try:
        config = json.loads(path.read_text())
    except ValueError as error:
        raise ModelError(f"{path} is not valid JSON: {error}") from error
    base = config.get("base_model_name_or_path") if isinstance(config, dict) else None
    if not isinstance(base, str) or not base:
        raise ModelError(f"{path}: expected base_model_name_or_path, the model this adapter belongs to, found none.")
    return Adapter(folder, base, config.get("revision"), str(config.get("peft_type")), config.get("r"))


def locate_base(adapter: Adapter) -> str:
    """The adapter's base, looked for as named and then beside the adapter; a hub id when neither is there."""
    sibling = adapter.folder / adapter.base
    return str(sibling) if not Path(adapter.base).exists() and sibling.exists() else adapter.base


def check_adapter_weights(adapter: Adapter, *, allow_pickle: bool) -> None:
    """Refuse an adapter without weights that may be loaded.

    Raises:
        ModelError: there are none, or only pickled ones without leave.
    """
    if (adapter.folder / _SAFETENSORS).exists():
        return
    if not (adapter.folder / _PICKLE).exists():
        raise ModelError(f"{adapter.folder} has an adapter_config.json but no weights: expected {_SAFETENSORS}.")
    if not allow_pickle:
        raise ModelError(
            f"{adapter.folder} holds its adapter only as pickle ({_PICKLE}), which can run code while loading. If you "
            "trust where it comes from, add --allow-pickle; better, convert it to safetensors once."
        )


@torch.no_grad()
def merge_adapter(model: Any, adapter: Adapter) -> Any:
    """The base model with the adapter's change written into its own weights.

    Proved on the probe: the merged model must answer as base and adapter did side by side.

    Raises:
        ModelError: peft is not there, the adapter is another model's, or it cannot be written into the weights.
    """
    try:
        from peft import PeftModel
    except ImportError as error:
        raise ModelError(
            f"{adapter.folder} is an adapter, and opening it needs peft: pip install 'semfreeze[finetune]'."
        ) from error
    ids = probe_ids(model).to(model.device)
    adapted = PeftModel.from_pretrained(model, str(adapter.folder), torch_device="cpu").eval()
    if not hasattr(adapted.base_model, "merge_and_unload"):
        raise ModelError(
            f"{adapter.folder}: a {adapter.kind} adapter cannot be written into the model's weights, so it has no "
            "hidden states of its own. Adapters like LoRA can."
        )
    report = adapted.load_adapter(str(adapter.folder), "default", torch_device="cpu")
    mismatched_keys = [*report.missing_keys, *report.unexpected_keys]
    if mismatched_keys:
        raise ModelError(
            f"{adapter.folder}: {len(mismatched_keys)} weights of the adapter are missing or find no place in "
            f"{adapter.base} ({mismatched_keys[0]}). Is this the base it was trained on?"
        )
    before = adapted(input_ids=ids, use_cache=False).logits.float()
    merged = adapted.merge_and_unload(safe_merge=True)
    after = merged(input_ids=ids, use_cache=False).logits.float()
    difference = float((after - before).abs().max() / before.std())
    if not difference <= (1e-3 if merged.dtype == torch.float32 else 0.1):
        raise ModelError(
            f"{adapter.folder}: merged into {adapter.base}, the adapter does not answer as it did beside it (largest "
            f"difference {difference:.2g} of the logits' spread). An adapter on a tied embedding cannot be merged."
        )
    return merged
