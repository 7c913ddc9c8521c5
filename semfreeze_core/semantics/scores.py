"""Other layer scores, beside the gains: each measured, or left out with its reason, never a neutral number."""

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

from semfreeze_core.gains.bootstrap import replicate_means, resampling_weights
from semfreeze_core.progress import Progress, silent
from semfreeze_core.records.examples import TokenizedExample
from semfreeze_core.records.scores import LayerScore, ScoreName, unmeasured
from semfreeze_core.semantics.gradient_norm import gradient_score
from semfreeze_core.semantics.positions import Positions
from semfreeze_core.semantics.score_states import ScoreStates
from semfreeze_core.semantics.spectrum import spectrum_score
from semfreeze_core.semantics.variability import choose_classed, variability_score
from semfreeze_core.sources.models.decoder import Decoder


def states_to_keep(decoder: Decoder, examples: Sequence[TokenizedExample], seed: int) -> ScoreStates:
    """What the passes are to gather for the scores."""
    n_layers = len(decoder.layers)
    influence = np.empty((len(examples), n_layers), dtype=np.float32)
    return ScoreStates(influence, choose_classed(examples, n_layers, decoder.head.in_features, seed))


def read_scores(
    decoder: Decoder,
    examples: Sequence[TokenizedExample],
    positions: Sequence[Positions],
    states: ScoreStates,
    *,
    wanted: Collection[ScoreName],
    seed: int,
    max_tokens: int | None = None,
    progress: Progress = silent,
) -> dict[str, LayerScore]:
    """Every score that is cheap, and those wanted beside.

    Args:
        decoder: the model.
        examples: tokenized examples.
        positions: positions read of each example.
        states: filled by the passes.
        wanted: scores to measure although they take long.
        seed: of the bootstraps.
        max_tokens: tokens a pass, padding included.
        progress: receives what is being done.
    """
    n_layers = len(decoder.layers)
    scores = [
        influence_score(states.influence, seed),
        variability_score(states.first, examples, n_layers, seed),
        spectrum_score(decoder.layers, requested="spectrum" in wanted, progress=progress),
        depth_prior(n_layers),
    ]
    if "gradient_norm" in wanted:
        scores.append(gradient_score(decoder, examples, positions, max_tokens=max_tokens, progress=progress))
    return {score.name: score for score in scores}


def influence_score(influence: npt.NDArray[np.float32], seed: int) -> LayerScore:
    """Block influence averaged over examples, (n, L), with bootstrap replicates over them; see `block_influence`."""
    sample = f"{len(influence)} examples"
    if not np.isfinite(influence).all():
        return unmeasured("block_influence", influence.shape[1], sample, "a state is zero at a supervised position")
    replicates = replicate_means(influence, resampling_weights(len(influence), seed))
    return LayerScore("block_influence", influence.mean(0, dtype=np.float64), replicates, sample)


def depth_prior(n_layers: int) -> LayerScore:
    """Equal scores, so that R(k) = (L - k)/L: what is to be expected when nothing is known of the layers (ours)."""
    return LayerScore("depth_prior", np.ones(n_layers), None, "no data: all layers count alike")
