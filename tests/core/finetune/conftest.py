import pytest
import torch

from tests.core.finetune.boundary import frozen_decoder


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Tiny models are slower on several threads, and the suite runs in several processes."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module", autouse=True)
def loads_quickly(measured_once, no_garbage):
    """These tests are of what is trained, not of how it is loaded."""


@pytest.fixture
def decoder():
    """A tiny model whose prefix is frozen."""
    return frozen_decoder()
