"""Analyzing examples: states come in space by space, deviations of each example come out."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from semfreeze_core.errors import ModelError
from semfreeze_core.processes import from_all, own_share, sent_to_first
from semfreeze_core.progress import Progress, silent
from semfreeze_core.records.examples import TokenizedExample
from semfreeze_core.records.trace import TransitionTrace
from semfreeze_core.semantics.bases import Targets, gram_and_mean, logit_z_targets, semantic_targets
from semfreeze_core.semantics.deviation import deviation, lens_loss_and_null, measured_length
from semfreeze_core.semantics.extraction import ExtractionTally, stream_batches
from semfreeze_core.semantics.positions import Batch, Positions, share_of_examples
from semfreeze_core.semantics.score_states import ScoreReader, ScoreStates
from semfreeze_core.sources.models.decoder import Decoder
from semfreeze_core.sources.models.probe import describe_damage, describe_space


@dataclass(frozen=True)
class Labels:
    """The ground truth of an analysis: what states are compared with, fixed before the first pass.

    Attributes:
        targets: one for each cosine-like deviation.
        index: int64 (V,), row of a token in the targets, -1 where it never is a label.
        share: float32 (V,), share of supervised positions with each token; None unless lens_loss is measured.
    """

    targets: tuple[Targets, ...]
    index: Tensor
    share: Tensor | None

    @property
    def metrics(self) -> tuple[str, ...]:
        names = tuple(t.metric for t in self.targets)
        return names if self.share is None else (*names, "lens_loss")


def prepare_labels(
    decoder: Decoder,
    examples: Sequence[TokenizedExample],
    positions: Sequence[Positions],
    *,
    real_rows: int,
    lens_loss: bool = False,
) -> Labels:
    """Solve for the targets of every supervised token; the null weighs them by the positions read.

    Args:
        decoder: the model.
        examples: tokenized examples.
        positions: positions to read of each example.
        real_rows: head rows that are tokens; padded rows beyond take no part.
        lens_loss: also measure the whole head's cross-entropy.

    Raises:
        ModelError: the head's row of a supervised token is all zeros; names the tokens.
    """
    read = np.concatenate([e.input_ids[p] for e, p in zip(examples, positions, strict=True)])
    # Tokens supervised but not drawn are solved for too: the task null draws its own positions.
    unique = np.unique(np.concatenate([e.input_ids[e.supervised] for e in examples]))
    counts = np.bincount(np.searchsorted(unique, read), minlength=len(unique))
    weight = decoder.head.weight[:real_rows]
    gram, mean = gram_and_mean(weight)
    rows, occurring = weight[torch.from_numpy(unique).to(weight.device)], torch.from_numpy(counts)
    silent_tokens = unique[(rows == 0).all(1).cpu().numpy()]
    if len(silent_tokens):
        raise ModelError(
            f"The head's rows are zeros for the tokens {', '.join(map(str, silent_tokens[:10]))}, which the data "
            "trains on: no target direction stands for them. Train these tokens first, or leave them out."
        )
    targets = (
        semantic_targets(rows, occurring, gram),
        logit_z_targets(rows, occurring, gram, mean, real_rows),
    )
    index = torch.full((decoder.head.out_features,), -1, dtype=torch.int64)
    index[torch.from_numpy(unique)] = torch.arange(len(unique))
    share = torch.zeros(decoder.head.out_features)
    share[torch.from_numpy(unique)] = occurring.float() / occurring.sum()
    device = decoder.device
    return Labels(
        targets=tuple(_placed(t, decoder) for t in targets),
        index=index.to(device),
        share=share.to(device) if lens_loss else None,
    )


def _placed(targets: Targets, decoder: Decoder) -> Targets:
    """The targets on the model's device, the factor in its dtype (what `measured_length` multiplies states with)."""
    factor = None if targets.factor is None else targets.factor.to(decoder.device, decoder.dtype)
    return Targets(targets.metric, targets.vectors.to(decoder.device), targets.null.to(decoder.device), factor)


@dataclass
class KeptStates:
    """Normalized states of the positions of a display sample, float16, filled during the passes.

    Attributes:
        keep: for each example, which of its read positions to keep.
        read_out: the kept positions whose tokens the head reads out at every space, in order.
        states: (L + 1, d) of each kept position, by (example, position in the example's list).
    """

    keep: dict[int, npt.NDArray[np.int64]]
    read_out: list[tuple[int, int]] = field(default_factory=list)
    states: dict[tuple[int, int], npt.NDArray[np.float16]] = field(default_factory=dict)


_LENS_CHUNK = 256  # positions whose whole logits are held at once
_WAITING_NUMBERS = 2**18  # numbers of raw states that wait to be reduced together


class _BatchReader:
    """Gathers one batch: deviation and null (M, L + 1, n) on the device, and what else is to be kept."""

    def __init__(
        self, decoder: Decoder, labels: Labels, batch: Batch, kept_states: KeptStates | None, scores: ScoreStates | None
    ) -> None:
        self.decoder, self.labels = decoder, labels
        self.label_ids = torch.from_numpy(batch.label_ids).to(decoder.device)
        self.index = labels.index[self.label_ids]
        shape = (2, len(labels.metrics), len(decoder.layers) + 1, len(batch.label_ids))
        self.values = torch.empty(shape, device=decoder.device)
        self.flagged = _flagged(batch, kept_states)
        rows = [row for row, _, _ in self.flagged]
        self.flagged_rows = torch.tensor(rows, dtype=torch.int64, device=decoder.device)
        self.states: list[Tensor] = []
        self.waiting: list[Tensor] = []
        self.scores = None if scores is None else ScoreReader(batch, scores, decoder.device)

    def __call__(self, space: int, raw: Tensor) -> None:
        self.waiting.append(raw)
        if len(self.waiting) * raw.numel() >= _WAITING_NUMBERS or space == self.values.shape[2] - 1:
            self._reduce(slice(space + 1 - len(self.waiting), space + 1))

    def _reduce(self, spaces: slice) -> None:
        """Deviations of the spaces that wait, all at once: a few large products are faster than many small ones."""
        raw = torch.stack(self.waiting)
        self.waiting.clear()
        if self.scores is not None:
            self.scores.reduce(raw)
        normalized = self.decoder.final_norm(raw)
        states = normalized.float()
        for m, targets in enumerate(self.labels.targets):
            length = measured_length(normalized, targets.factor)
            self.values[0, m, spaces] = deviation(states, targets.vectors[self.index], length)
            self.values[1, m, spaces] = deviation(states, targets.null, length)
        if self.labels.share is not None:
            for space, block in enumerate(normalized, start=spaces.start):
                self._read_lens(space, block, self.labels.share)
        if self.flagged:
            self.states.append(states[:, self.flagged_rows].half())

    def _read_lens(self, space: int, normalized: Tensor, share: Tensor) -> None:
        for part in torch.split(torch.arange(len(normalized), device=normalized.device), _LENS_CHUNK):
            pair = lens_loss_and_null(self.decoder.logits(normalized[part]), self.label_ids[part], share)
            self.values[0, -1, space, part], self.values[1, -1, space, part] = pair

    def hand_over(self, kept_states: KeptStates | None) -> npt.NDArray[np.float32]:
        if kept_states is not None and self.flagged:
            states = torch.cat(self.states).cpu().numpy()
            kept_states.states.update({(e, p): states[:, i] for i, (_, e, p) in enumerate(self.flagged)})
        if self.scores is not None:
            self.scores.hand_over()
        return self.values.cpu().numpy()


def _flagged(batch: Batch, kept_states: KeptStates | None) -> list[tuple[int, int, int]]:
    """(row among the batch's positions, example, position in the example's list) of each state to be kept."""
    if kept_states is None:
        return []
    starts = np.searchsorted(batch.rows, np.arange(len(batch.examples)))
    return [
        (int(starts[b]) + int(p), example, int(p))
        for b, example in enumerate(batch.examples)
        for p in kept_states.keep.get(example, ())
    ]


def read_traces(
    decoder: Decoder,
    examples: Sequence[TokenizedExample],
    positions: Sequence[Positions],
    labels: Labels,
    *,
    stage: str = "Extracting hidden states",
    max_tokens: int | None = None,
    kept_states: KeptStates | None = None,
    scores: ScoreStates | None = None,
    progress: Progress = silent,
) -> tuple[dict[str, TransitionTrace], ExtractionTally]:
    """Deviations of every example at every latent space, in one forward pass an example.

    Of several processes each reads its share of the examples. All return the deviations of all; what is kept, and what
    scores take from the passes, is whole in the first one.

    Raises:
        ModelError: a state is not finite or zero; names the layer.
        ResourceError: a single example does not fit into memory.
    """
    spaces, names = len(decoder.layers) + 1, labels.metrics
    # deviation and null, of all positions, the first and the later ones: (2, 3, M, n_examples, L + 1)
    table = np.empty((2, 3, len(names), len(examples), spaces), dtype=np.float32)
    chosen = share_of_examples([len(e.input_ids) for e in examples], own_share())

    def start(batch: Batch) -> _BatchReader:
        return _BatchReader(decoder, labels, batch, kept_states, scores)

    def read() -> tuple[list[int], npt.NDArray[np.float32], ExtractionTally]:
        tally = ExtractionTally()
        batches = stream_batches(
            decoder, examples, positions, start, tally, stage=stage, chosen=chosen, max_tokens=max_tokens,
            progress=progress,
        )  # fmt: skip
        for batch, reader in batches:
            values = reader.hand_over(kept_states)
            _check_finite(values, decoder.dtype)
            table[:, :, :, list(batch.examples)] = _by_example(values, batch)
        return chosen, table[:, :, :, chosen], tally

    shares = from_all(read)
    for indices, part, _ in shares:
        table[:, :, :, indices] = part
    if kept_states is not None:
        for states in sent_to_first(kept_states.states):
            kept_states.states.update(states)
    if scores is not None:
        scores.collect(chosen)
    tally = ExtractionTally.of_all([part for _, _, part in shares])
    return {name: _trace(name, table[:, :, m]) for m, name in enumerate(names)}, tally


def _by_example(values: npt.NDArray[np.float32], batch: Batch) -> npt.NDArray[np.float32]:
    """Mean over each example's positions, its first, and its later ones: (2, M, L+1, n) -> (2, 3, M, B, L+1)."""
    starts = np.searchsorted(batch.rows, np.arange(len(batch.examples)))
    counts = np.diff([*starts, len(batch.rows)])
    total = np.add.reduceat(values.astype(np.float64), starts, axis=-1)
    first = values[..., starts]
    with np.errstate(invalid="ignore"):  # 0 / 0 where there is no later token: NaN, as documented
        later = (total - first) / (counts - 1)
    later[..., counts == 1] = np.nan
    return np.stack([total / counts, first, later], axis=1).swapaxes(-1, -2).astype(np.float32)


def _trace(name: str, table: npt.NDArray[np.float32]) -> TransitionTrace:
    (deviation, first, later), (null, first_null, later_null) = table
    return TransitionTrace(name, deviation, null, first, first_null, later, later_null)


def _check_finite(values: npt.NDArray[np.float32], dtype: torch.dtype) -> None:
    bad = ~np.isfinite(values).all(axis=(0, 1, 3))
    if bad.any():
        space = int(np.argmax(bad))
        raise ModelError(
            f"{describe_space(space).capitalize()} holds NaN, infinity or a zero state at a target token. "
            f"{describe_damage(dtype)}"
        )
