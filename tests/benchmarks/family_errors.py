"""Relative errors of semfreeze's figures for one family of tiny models, against torch's own counts on the CPU."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from typing import Any

import torch
from torch import Tensor

from semfreeze_core.cost import flop_status
from semfreeze_core.cost.activations import activation_bytes
from semfreeze_core.cost.memory import autocast_copy_bytes
from semfreeze_core.records.activation_count import CalibratedBytes
from semfreeze_core.records.model import ModelShape
from semfreeze_core.records.training import Checkpointing, LoraSetup, Precision, TrainableParts, TrainingSetup
from semfreeze_core.sources.models.activation_count import calibrate_empty
from semfreeze_core.sources.models.causal_lm import measure_empty
from semfreeze_core.sources.models.checkpoint import Checkpoint
from semfreeze_core.sources.models.opening import open_checkpoint
from tests.core.cost.counted_step import count_step, expected_step, prepare
from tests.core.cost.saved_bytes import count_saved_bytes
from tests.core.tiny_models import build_tiny

N_LAYERS = 4
STOCK = TrainingSetup(loss="materialised", prefix_cache=False)
STEP = replace(STOCK, batch_size=2, sequence_length=11)
LONG = replace(STOCK, batch_size=3, sequence_length=160)  # calibration itself takes 16 to 64 tokens
LORA = LoraSetup(3)
CHECKPOINTING: tuple[Checkpointing, ...] = ("none", "non-reentrant", "reentrant", "transformers-5")
PRECISIONS: tuple[Precision, ...] = ("float32", "bf16", "bf16-autocast")


class Errors:
    """Relative errors of a family's figures, and how many there are."""

    def __init__(self) -> None:
        self.shares: list[float] = []

    def add(self, predicted: int, counted: int) -> None:
        self.shares.append((predicted - counted) / counted)

    def __str__(self) -> str:
        return f"{_percent(max(self.shares, key=abs))} ({len(self.shares)})" if self.shares else "none"

    @property
    def span(self) -> str:
        """The least and the largest one, for bounds."""
        return (
            f"{_percent(min(self.shares))} to {_percent(max(self.shares))} ({len(self.shares)})" if self.shares else "-"
        )


def _percent(share: float) -> str:
    return "0" if share == 0 else f"{100 * share:+.2g} %"


def flop_errors(variant: str) -> tuple[Errors, Errors]:
    """Errors of a step's FLOP, where semfreeze says they are exact and where it says they are an upper bound."""
    exact, bound = Errors(), Errors()
    for tied in (False, True):
        with _config_of(variant, tied=tied, n_layers=N_LAYERS) as checkpoint:
            shape = measure_empty(checkpoint)
        ends = [(False, False), (True, True)] if tied else product((False, True), repeat=2)
        for k, (embeddings, head), lora, how in product(range(N_LAYERS + 1), list(ends), (None, LORA), CHECKPOINTING):
            setup = replace(STEP, lora=lora, checkpointing=how)
            parts = TrainableParts(tuple(i >= k for i in range(N_LAYERS)), embeddings, lora is None, head)
            model = build_tiny(variant, n_layers=N_LAYERS, tied=tied, attention="eager")
            prepare(model, shape, setup, parts)
            counted = count_step(model, _tokens(setup), setup, _loss)
            errors = exact if flop_status(shape, setup) == "exact" else bound
            errors.add(expected_step(shape, setup, parts)[1], counted[1])
    return exact, bound


def _loss(model: Any, tokens: Tensor, _: TrainingSetup) -> Tensor:
    return model(input_ids=tokens, use_cache=False).logits.mean()


def byte_errors(variant: str) -> tuple[str, Errors, Errors]:
    """How a layer's saved bytes are known, and errors of what layers 5 and 6 keep: without autocast, and with it."""
    depths = (4, 5, 6)  # all kinds of masks are there by then, and families that alternate show both kinds of layers
    errors = {precision: Errors() for precision in PRECISIONS}
    with _config_of(variant, n_layers=depths[-1], max_positions=LONG.sequence_length) as checkpoint:
        whole = measure_empty(checkpoint)
        calibrated = {p: calibrate_empty(checkpoint, p, sequence_length=LONG.sequence_length) for p in PRECISIONS}
    kind = whole.layer_shapes[0].kind  # the same for all of a config's layers
    formula = kind != "other"
    for precision in PRECISIONS:
        for role in ("trained", "traversed", "adapted")[: 3 if formula else 2]:
            setup = replace(LONG, precision=precision, lora=LORA if role == "adapted" else None)
            saved, predicted = [], []
            for n in depths:
                parts = TrainableParts((role != "traversed",) * n, embeddings=True, final_norm=True, head=False)
                shape = replace(whole, layer_index=whole.layer_index[:n])
                model = build_tiny(variant, n_layers=n, tied=False, max_positions=LONG.sequence_length)
                prepare(model, shape, setup, parts)
                saved.append(count_saved_bytes(model, _tokens(setup), setup))
                predicted.append(_predicted_bytes(shape, setup, parts, None if formula else calibrated[precision]))
            for i in (0, 1):
                errors[precision].add(predicted[i + 1] - predicted[i], saved[i + 1] - saved[i])
    plain = Errors()
    plain.shares = errors["float32"].shares + errors["bf16"].shares
    return f"formula ({kind})" if formula else "calibrated", plain, errors["bf16-autocast"]


def _predicted_bytes(
    shape: ModelShape, setup: TrainingSetup, parts: TrainableParts, calibrated: CalibratedBytes | None
) -> int:
    activations = activation_bytes(shape, setup, parts, calibrated)
    assert activations is not None
    return activations + autocast_copy_bytes(shape, setup, parts)


@contextmanager
def _config_of(variant: str, tied: bool = False, **sizes: int) -> Iterator[Checkpoint]:
    """The checkpoint of a tiny model's config alone."""
    with saved_config(build_tiny(variant, tied=tied, **sizes).config) as checkpoint:
        yield checkpoint


@contextmanager
def saved_config(config: Any) -> Iterator[Checkpoint]:
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        yield open_checkpoint(folder, config_only=True)


def _tokens(setup: TrainingSetup) -> Tensor:
    size = (setup.batch_size, setup.sequence_length)
    return torch.randint(3, 97, size, generator=torch.Generator().manual_seed(0))
