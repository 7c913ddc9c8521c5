"""Decoders of tiny random models, one for each family, and one thread for all."""

import gc
from collections.abc import Callable

import pytest
import torch

from semfreeze_core.sources.models.decoder import Decoder, find_decoder
from tests.core.tiny_models import build_tiny


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _no_garbage(monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs after memory ran out is slow among a test run's many objects."""
    monkeypatch.setattr(gc, "collect", lambda: 0)


@pytest.fixture(
    params=[("llama", False), ("llama", True), ("qwen2", False), ("gpt2", True), ("gpt_neox", False)],
    ids=["llama", "llama-tied", "qwen2", "gpt2", "gpt_neox"],
)
def decoder(request: pytest.FixtureRequest) -> Decoder:
    """A tiny model of each family, parts found and proved."""
    family, tied = request.param
    return find_decoder(build_tiny(family, tied=tied))


@pytest.fixture
def tiny_decoder() -> Callable[..., Decoder]:
    """A decoder around `build_tiny(family, ...)`."""
    return lambda family="llama", **sizes: find_decoder(build_tiny(family, **sizes))
