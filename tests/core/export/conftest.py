import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Tiny models are slower on several threads, and the suite runs in several processes."""
    torch.set_num_threads(1)
