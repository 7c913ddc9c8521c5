"""Other layer scores, beside the gains: each measured, or left out with its reason, never a neutral number.

Some come with the pass that reads the deviations. The slow ones take further work and decide nothing, so they are
measured when everything else is done.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from semfreeze_core.device import dtype_name
from semfreeze_core.gains.bootstrap import replicate_means, resampling_weights
from semfreeze_core.progress import Progress, silent
from semfreeze_core.records.examples import TokenizedExample
from semfreeze_core.records.model import ModelIdentity
from semfreeze_core.records.scores import LayerScore, unmeasured
from semfreeze_core.semantics.score_states import ScoreStates
from semfreeze_core.semantics.spectrum import is_worth_keeping, spectrum_score
from semfreeze_core.semantics.spectrum_cache import read_spectrum, write_spectrum
from semfreeze_core.semantics.variability import choose_classed, variability_score
from semfreeze_core.sources.models.decoder import Decoder


def states_to_keep(decoder: Decoder, examples: Sequence[TokenizedExample], seed: int) -> ScoreStates:
    """What the passes are to gather for the scores."""
    n_layers = len(decoder.layers)
    influence = np.empty((len(examples), n_layers), dtype=np.float32)
    return ScoreStates(influence, choose_classed(examples, n_layers, decoder.head.in_features, seed))


def read_scores(
    examples: Sequence[TokenizedExample], states: ScoreStates, n_layers: int, seed: int
) -> dict[str, LayerScore]:
    """Every score that the passes bring with them.

    Args:
        examples: tokenized examples.
        states: filled by the passes.
        n_layers: L.
        seed: of the bootstraps.
    """
    scores = (
        influence_score(states.influence, seed),
        variability_score(states.first, examples, n_layers, seed),
        depth_prior(n_layers),
    )
    return {score.name: score for score in scores}


def read_spectrum_score(
    decoder: Decoder, model: ModelIdentity, *, requested: bool, progress: Progress = silent
) -> LayerScore:
    """The spectrum of the weights: from the cache where a model with these weights had it computed, else computed.

    Args:
        decoder: the model.
        model: what it is, with the fingerprint of its weights.
        requested: measure it however long it takes; else only where that is short.
        progress: receives the layers done.
    """
    dtype = dtype_name(decoder.dtype)
    if (cached := read_spectrum(model, dtype, len(decoder.layers))) is not None:
        return cached
    score = spectrum_score(decoder.layers, requested=requested, progress=progress)
    if not score.reason and is_worth_keeping(decoder.layers):
        write_spectrum(score, model, dtype)
    return score


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
