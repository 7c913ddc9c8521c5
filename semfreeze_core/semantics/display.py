"""The display sample: which positions are kept during the passes, and their joint projection afterwards."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.decomposition import PCA

from semfreeze_core.progress import Progress, silent
from semfreeze_core.records.display import DisplaySample
from semfreeze_core.records.examples import TokenizedExample
from semfreeze_core.semantics.analysis import KeptStates, Labels, read_traces
from semfreeze_core.semantics.deviation import deviation, measured_length
from semfreeze_core.semantics.positions import Positions
from semfreeze_core.sources.models.decoder import Decoder

COMPONENTS = 64
READ_EXAMPLES, READ_POSITIONS, TOP = 32, 8, 5
_MAX_STATE_BYTES = 256 * 2**20


def choose_display(decoder: Decoder, positions: Sequence[Positions], limit: int, seed: int) -> KeptStates:
    """Draw the positions to keep: up to 8 of each of 32 examples (whose tokens are read out), the rest at random.

    The limit is lowered for large models so that the kept states stay below 256 MiB.
    """
    rng = np.random.default_rng((seed, 1))
    bytes_each = (len(decoder.layers) + 1) * decoder.head.in_features * 2
    limit = max(1, min(limit, _MAX_STATE_BYTES // bytes_each))
    read = rng.permutation(len(positions))[:READ_EXAMPLES].tolist()
    first = [(e, p) for e in read for p in range(min(READ_POSITIONS, len(positions[e])))][:limit]
    taken = set(first)
    others = [(e, p) for e in range(len(positions)) for p in range(len(positions[e])) if (e, p) not in taken]
    drawn = rng.permutation(len(others))[: limit - len(first)]
    keep: dict[int, list[int]] = {}
    for e, p in [*first, *(others[i] for i in drawn)]:
        keep.setdefault(e, []).append(p)
    return KeptStates({e: np.array(sorted(ps)) for e, ps in keep.items()}, read_out=first)


def read_display_states(
    decoder: Decoder,
    examples: Sequence[TokenizedExample],
    positions: Sequence[Positions],
    labels: Labels,
    kept_states: KeptStates,
    *,
    max_tokens: int | None = None,
    progress: Progress = silent,
) -> None:
    """Fill in the kept states by passes over their own examples alone, where no other passes do.

    Args:
        decoder: the model.
        examples: all of the analysis.
        positions: read of each of them.
        labels: of the analysis.
        kept_states: drawn by `choose_display`.
        max_tokens: per pass; None takes the device's default.
        progress: receives stages and counts.
    """
    rows = sorted(kept_states.keep)
    subset = KeptStates({i: kept_states.keep[row] for i, row in enumerate(rows)})
    read_traces(
        decoder,
        [examples[row] for row in rows],
        [positions[row] for row in rows],
        labels,
        max_tokens=max_tokens,
        kept_states=subset,
        progress=progress,
    )
    kept_states.states.update({(rows[i], p): states for (i, p), states in subset.states.items()})


@torch.inference_mode()
def project_display(
    decoder: Decoder,
    tokenizer: Any,
    examples: Sequence[TokenizedExample],
    positions: Sequence[Positions],
    labels: Labels,
    kept_states: KeptStates,
    seed: int,
) -> DisplaySample:
    """Project the kept states and their labels' bases with one joint PCA, and read out what the head says of them."""
    keys = [*kept_states.read_out, *sorted(set(kept_states.states) - set(kept_states.read_out))]
    states = np.stack([kept_states.states[key] for key in keys], axis=1)  # (S, n, d) float16
    label_ids = np.array([examples[e].input_ids[positions[e][p]] for e, p in keys], dtype=np.int64)
    basis_ids = np.unique(label_ids)
    bases = labels.targets[0].vectors[labels.index[torch.from_numpy(basis_ids)]].cpu().numpy()
    coordinates, basis_coordinates, fractions = _joint_pca(states, bases, seed)
    top, predicted = _read_out(decoder, states, len(kept_states.read_out))
    text = {int(i): tokenizer.decode([int(i)]) for i in {*top.ravel(), *predicted, *label_ids}}
    return DisplaySample(
        coordinates=coordinates,
        variance_fraction=fractions,
        basis_coordinates=basis_coordinates,
        basis_ids=basis_ids,
        deviation=_deviations(states, label_ids, labels, decoder),
        metrics=tuple(t.metric for t in labels.targets),
        example=np.array([e for e, _ in keys], dtype=np.int64),
        order=np.array([p for _, p in keys], dtype=np.int64),
        label_ids=label_ids,
        predicted_ids=predicted,
        read_top=top,
        token_text=text,
        n_positions_total=sum(len(p) for p in positions),
        seed=seed,
    )


def _joint_pca(
    states: npt.NDArray[np.float16], bases: npt.NDArray[np.float32], seed: int
) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.float16], npt.NDArray[np.float32]]:
    """Coordinates of unit-length states (S, n, c) and bases (m, c) in one basis, and each axis's share of variance."""
    spaces, n, width = states.shape
    together = np.empty((spaces * n + len(bases), width), dtype=np.float32)
    together[: spaces * n] = states.reshape(-1, width)
    together[: spaces * n] /= np.linalg.norm(together[: spaces * n], axis=1, keepdims=True)
    together[spaces * n :] = bases
    components = min(COMPONENTS, width, len(together))
    solver = "covariance_eigh" if width <= 2048 else "randomized"
    pca = PCA(n_components=components, svd_solver=solver, random_state=seed).fit(together)
    projected = pca.transform(together).astype(np.float16)
    return (
        projected[: spaces * n].reshape(spaces, n, components),
        projected[spaces * n :],
        pca.explained_variance_ratio_.astype(np.float32),
    )


def _read_out(
    decoder: Decoder, states: npt.NDArray[np.float16], n_read: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Top-5 tokens of the first `n_read` positions at each space (r, S, 5), and everybody's prediction (n,)."""
    top = np.empty((n_read, len(states), TOP), dtype=np.int64)
    for space, block in enumerate(states):
        if n_read:
            logits = decoder.logits(torch.from_numpy(block[:n_read]).to(decoder.device))
            top[:, space] = logits.topk(TOP).indices.cpu().numpy()
    final = torch.from_numpy(states[-1]).to(decoder.device)
    predicted = [decoder.logits(part).argmax(-1).cpu() for part in torch.split(final, 256)]
    return top, torch.cat(predicted).numpy()


def _deviations(
    states: npt.NDArray[np.float16], label_ids: npt.NDArray[np.int64], labels: Labels, decoder: Decoder
) -> npt.NDArray[np.float16]:
    """Deviation of every kept position at every space, (M, n, S)."""
    index = labels.index[torch.from_numpy(label_ids).to(decoder.device)]
    values = np.empty((len(labels.targets), states.shape[1], len(states)), dtype=np.float16)
    for space, block in enumerate(states):
        normalized = torch.from_numpy(block).to(decoder.device, decoder.dtype)
        for m, targets in enumerate(labels.targets):
            length = measured_length(normalized, targets.factor)
            values[m, :, space] = deviation(normalized.float(), targets.vectors[index], length).cpu().numpy()
    return values
