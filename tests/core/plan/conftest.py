"""Runs written down by hand around real tiny models: shapes, names and digests are measured, traces made."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch

from semfreeze_core.records.display import DisplaySample
from semfreeze_core.records.manifest import AnalysisSettings, DataEntry, ExtractionEntry, ModelEntry, RunManifest
from semfreeze_core.records.model import ModelIdentity, ModelShape, ParameterNames
from semfreeze_core.records.provenance import Provenance
from semfreeze_core.records.run import Run
from semfreeze_core.records.scores import LayerScore
from semfreeze_core.sources.models.decoder import find_decoder
from semfreeze_core.sources.models.model_shape import identify, measure_shape
from tests.core.gains.traces import make_pairs, make_trace, no_pairs
from tests.core.tiny_models import Family, build_tiny

N_LAYERS = 12  # so that layer 1 and layer 11 must be told apart
STEADY = [0.0] * 5 + [0.01 * 2**i for i in range(8)]  # an advantage that rises from space 4 on


class Measured(NamedTuple):
    """A tiny model and what a run would write down of it."""

    parameters: dict[str, tuple[int, ...]]
    shape: ModelShape
    names: ParameterNames
    identity: ModelIdentity


@cache
def _measure(family: Family, tied: bool | None, n_layers: int, seed: int) -> Measured:
    torch.set_num_threads(1)
    model = build_tiny(family, n_layers=n_layers, tied=tied, seed=seed)
    decoder = find_decoder(model)
    return Measured(
        {name: tuple(p.shape) for name, p in model.named_parameters()},
        measure_shape(model, decoder),
        decoder.names,
        identify(model, source=f"tiny {family} {seed}", revision=None),
    )


@pytest.fixture
def measured() -> Callable[..., Measured]:
    """A tiny model of twelve layers, measured; by family, tied, n_layers and seed."""
    return lambda family="llama", tied=None, n_layers=N_LAYERS, seed=0: _measure(family, tied, n_layers, seed)


@pytest.fixture
def make_run(measured: Callable[..., Measured]) -> Callable[..., Run]:
    """A finished reading of a tiny model in which the advantage takes the given course."""

    def build(
        model: Measured | None = None,
        *,
        advantage: Sequence[float] = STEADY,
        difference: float | None = 0.05,
        new_tokens: int = 0,
        warnings: Sequence[str] = (),
        seed: int = 0,
        n: int = 64,
        scores: Sequence[LayerScore] = (),
    ) -> Run:
        model = model or measured()
        spaces = model.shape.n_layers + 1
        assert len(advantage) == spaces
        pairs = no_pairs(spaces) if difference is None else make_pairs(difference, spaces=spaces)
        trace = make_trace(advantage, n=n)
        return Run(
            _manifest(model, n, new_tokens, list(warnings), seed, pairs.reason),
            {"semantic": trace},
            {"semantic": pairs},
            pd.DataFrame({"row": range(n)}),
            _display(spaces),
            scores={score.name: score for score in scores},
        )

    return build


def _manifest(
    model: Measured, n: int, new_tokens: int, warnings: list[str], seed: int, task_null_reason: str
) -> RunManifest:
    return RunManifest(
        model=ModelEntry(
            identity=model.identity,
            shape=model.shape,
            names=model.names,
            dtype="float32",
            device="cpu",
            logits_error=0.0,
            real_vocab_rows=97,
            padded_vocab_rows=0,
            new_tokens_used=new_tokens,
        ),
        data=DataEntry(
            source="task.jsonl",
            file_digest="f" * 64,
            split=None,
            mapping={"prompt_field": "prompt", "completion_field": "completion"},
            n_rows=500,
            n_usable=400,
            n_examples=n,
            n_labels=3,
            n_tokens=20 * n,
            n_supervised_tokens=5 * n,
            n_positions_read=5 * n,
            n_truncated=0,
            n_too_long=0,
            max_length=64,
            tokens_digest="d" * 64,
        ),
        settings=AnalysisSettings(
            examples=n,
            positions=64,
            add_eos=True,
            metrics=["semantic"],
            seed=seed,
            max_length=None,
            display_positions=2,
        ),
        extraction=ExtractionEntry(
            seconds=1.0,
            tokens=20 * n,
            tokens_per_second=20.0 * n,
            task_null_seconds=0.5,
            task_null_tokens=40 * 32,
            peak_bytes=2**20,
            peak_kind="process resident",
            batch_halvings=0,
        ),
        task_null_reason=task_null_reason,
        scores=[],
        notes=[],
        warnings=warnings,
        display_note="2 of 5 positions, seed 0",
        provenance=Provenance(
            semfreeze="0", torch="2", transformers="5", python="3", created="2025-01-01T00:00:00+00:00", seed=seed
        ),
        files={},
    )


def _display(spaces: int) -> DisplaySample:
    two = np.array([0, 1])
    return DisplaySample(
        coordinates=np.zeros((spaces, 2, 3), dtype=np.float16),
        variance_fraction=np.ones(3, dtype=np.float32),
        basis_coordinates=np.zeros((2, 3), dtype=np.float16),
        basis_ids=two,
        deviation=np.zeros((1, 2, spaces), dtype=np.float16),
        metrics=("semantic",),
        example=two,
        order=two,
        label_ids=two,
        predicted_ids=two,
        read_top=np.zeros((0, spaces, 5), dtype=np.int64),
        token_text={0: "a", 1: "b"},
        n_positions_total=5,
        seed=0,
    )
