"""A training step waits for the device a few times at most: each number that is read back stops what is queued."""

from dataclasses import replace
from itertools import pairwise
from statistics import median

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from semfreeze_core.finetune.arm import recorder
from semfreeze_core.finetune.model import batches
from semfreeze_core.finetune.train.train import train_plan
from tests.core.finetune.train.test_train import asked, workspace  # noqa: F401 - a fixture

# Operators whose result has to be on the host: one number of a tensor, or how many places hold something.
READS = ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::equal", "aten::is_nonzero")
STEPS = 6


class Reads(TorchDispatchMode):
    """Counts what is read back from tensors, but not in the collator, whose tensors are the host's."""

    def __init__(self):
        super().__init__()
        self.count, self.of_the_host = 0, False

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        of_mask = function._schema.name == "aten::index" and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        self.count += (function._schema.name in READS or of_mask) and not self.of_the_host
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "how", [{}, {"prefix_cache": False}, {"loss": "chunked"}, {"loss": "materialised"}, {"micro_batch_size": 2}]
)
def test_a_step_reads_the_loss_and_what_transformers_asks_of_the_mask(workspace, tmp_path, monkeypatch, how):  # noqa: F811
    reads, counts = Reads(), []
    of_labels = batches.target_index

    def collated(labels):
        reads.of_the_host = True
        try:
            return of_labels(labels)
        finally:
            reads.of_the_host = False

    class Counts(recorder.Recorder):
        def on_step_end(self, *given, **more):
            super().on_step_end(*given, **more)
            counts.append(reads.count)

    monkeypatch.setattr(batches, "target_index", collated)
    monkeypatch.setattr("semfreeze_core.finetune.train.fit.Recorder", Counts)
    request = asked(workspace, **{name: value for name, value in how.items() if name != "loss"}, steps=STEPS)
    setup = replace(request.setup, **{name: value for name, value in how.items() if name == "loss"})
    with reads:
        train_plan(replace(request, setup=setup, save_steps=100), tmp_path / "out")
    inside_an_epoch = [after - before for before, after in pairwise(counts)]
    passes = 4 // how.get("micro_batch_size", 4)
    assert median(inside_an_epoch) == 1 + 2 * passes  # of the mask one where nothing is padded
    assert max(inside_an_epoch) <= 2 + 2 * passes  # an epoch's beginning draws its order
