from dataclasses import replace

import pytest
import torch

from semfreeze_core.finetune.validation.request import ValidationRequest
from semfreeze_core.records.training import TrainingSetup
from tests.core.finetune.boundary import frozen_decoder
from tests.core.finetune.tiny_plan import make_tiny_plan, write_task


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


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return tmp_path_factory.mktemp("validation")


@pytest.fixture(scope="module")
def request_for(workspace):
    """Builds the request of a validation of a tiny model, which is in `workspace` with its plan and data."""
    plan, _ = make_tiny_plan(workspace / "model")
    train, evaluation = write_task(workspace / "train.jsonl", 40), write_task(workspace / "eval.jsonl", 24, seed=9)
    (workspace / "plan.json").write_text(plan.model_dump_json())
    base = ValidationRequest(
        plan, str(train), str(evaluation),
        TrainingSetup(batch_size=4, sequence_length=2048, train_examples=16, steps=4),
        arms=("full", "planned"), rates={"full": 3e-3, "frozen": 3e-3, "lora": 1e-2}, n_between=1, n_accuracy=4,
        n_eval=24,
    )  # fmt: skip

    def build(**changes):
        setup = {name: changes.pop(name) for name in [*changes] if name in TrainingSetup.__dataclass_fields__}
        return replace(base, setup=replace(base.setup, **setup), **changes)

    return build
