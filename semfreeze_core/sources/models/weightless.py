"""Running a transformers model on fake tensors as it would run on real ones: shapes and sizes alone, for any config.

Three things come out differently there, and are put right: torch gives fake tensors grouped products in bfloat16 only,
and transformers, which cannot look at position ids, makes attention masks that it would do without, and cannot choose
the rotary frequencies that follow the longest sequence.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import masking_utils


def fix_rotary_frequencies(model: Any) -> None:
    """Keep the frequencies of dynamic and long rotary embeddings: whatever their values, they are of one size."""
    for module in model.modules():
        kind = getattr(module, "rope_type", None)
        if isinstance(kind, str):
            module.rope_type = "default"
        elif isinstance(kind, dict):
            module.rope_type = dict.fromkeys(kind, "default")


@contextmanager
def fake_tensors() -> Iterator[None]:
    """Every tensor made inside has a shape, a type and a storage size, but no data."""
    with FakeTensorMode(), _GroupedProducts(), _nothing_packed():  # type: ignore[no-untyped-call]
        yield


class _GroupedProducts(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Shapes of the grouped products that transformers runs experts with: (rows, n) of (rows, m) and (experts, m, n).

    On real tensors torch computes them in any type.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.name() == "aten::_grouped_mm" and args[0].dtype != torch.bfloat16:
            rows, stack = args[0], args[1]
            return rows.new_empty((rows.shape[0], stack.shape[-1]))
        return func(*args, **(kwargs or {}))


@contextmanager
def _nothing_packed() -> Iterator[None]:
    """Tell transformers that no row holds several examples. Which layers get a mask is else the model's own code."""
    name = "find_packed_sequence_indices"
    original = getattr(masking_utils, name)
    setattr(masking_utils, name, lambda position_ids: None)
    try:
        yield
    finally:
        setattr(masking_utils, name, original)
