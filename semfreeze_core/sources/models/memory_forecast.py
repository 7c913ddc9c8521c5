"""How much memory analyzing a model takes, from its size alone."""

import torch

from semfreeze_core.cost.memory import loaded_bytes
from semfreeze_core.device import dtype_name, has_own_memory
from semfreeze_core.records.model import ModelShape
from semfreeze_core.records.preview import MemoryForecast

_STATES_LIMIT = 256 * 2**20  # the display sample's states, float16; see semantics.display
# Resident after importing torch, transformers, pandas and scikit-learn, measured on Linux with torch 2.13.
_PROCESS_BYTES = 600 * 2**20


def model_bytes(parameters: int, dtype: torch.dtype) -> int:
    """Memory to hold a model and run it forward without keeping its activations, in bytes."""
    return loaded_bytes(parameters, dtype.itemsize)


def process_bytes(device: torch.device) -> int:
    """Memory that the process takes of a device's before it loads a model; a GPU's is counted apart."""
    return 0 if has_own_memory(device) else _PROCESS_BYTES


def forecast_memory(
    shape: ModelShape, dtype: torch.dtype, device: torch.device, free_bytes: int, display_positions: int
) -> MemoryForecast:
    """The memory one analysis needs; the parts that grow with the data are streamed and stay small beside these."""
    states = min(_STATES_LIMIT, display_positions * (shape.n_layers + 1) * shape.d_model * 2)
    return MemoryForecast(
        parameters=shape.total_parameters,
        dtype=dtype_name(dtype),
        device=str(device),
        model_bytes=model_bytes(shape.total_parameters, dtype),
        states_bytes=3 * states,  # themselves, and a float32 copy for the projection
        process_bytes=process_bytes(device),
        free_bytes=free_bytes,
    )
