"""Checkpoints whose weights are packed into fewer bits: what they are, and which can be unpacked while loading."""

from typing import Any

import transformers

# Methods whose weights transformers unpacks on any machine, with no library of their own.
_UNPACKED = {"fp8": "FineGrainedFP8Config", "mxfp4": "Mxfp4Config"}


def quantization_entry(config: Any) -> dict[str, Any] | None:
    """What a model's config says about packed weights, or None when it says nothing."""
    text_config = config.get_text_config(decoder=True)
    entry = getattr(config, "quantization_config", None) or getattr(text_config, "quantization_config", None)
    if not entry:
        return None
    settings: dict[str, Any] = entry if isinstance(entry, dict) else entry.to_dict()
    return settings


def describe_quantization(entry: dict[str, Any]) -> str:
    """Method and bits, in words."""
    method = _method(entry) or ("bitsandbytes" if _bitsandbytes_bits(entry) else "an unnamed method")
    bits = _bitsandbytes_bits(entry) or entry.get("bits") or entry.get("w_bit") or entry.get("nbits")
    return f"{method}, {bits} bits" if bits else method


def _method(entry: dict[str, Any]) -> str:
    method = entry.get("quant_method") or ""
    return str(getattr(method, "value", method))  # transformers' own settings hold an Enum


def _bitsandbytes_bits(entry: dict[str, Any]) -> int | None:
    return 4 if entry.get("load_in_4bit") else 8 if entry.get("load_in_8bit") else None


def unpacking(entry: dict[str, Any]) -> Any | None:
    """The setting that makes transformers unpack such weights while loading, or None when it cannot."""
    name = _UNPACKED.get(_method(entry))
    kind = getattr(transformers, name, None) if name else None
    if kind is None:
        return None
    options = {key: value for key, value in entry.items() if key not in ("quant_method", "dequantize")}
    return kind(**options, dequantize=True)
