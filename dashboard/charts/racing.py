"""The race of a guided finetune while it runs: every variant at every learning rate, those that were stopped faint."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from semfreeze_core.records.race import RacingVariant
from semfreeze_core.records.rates import RateTrial
from semfreeze_core.wording.escaping import chart_text
from semfreeze_core.wording.race import variant_title
from semfreeze_core.wording.rates import learning_rate

from .theme import INK, OTHERS, TRAINED, faded, new_figure

_WINDOW = 5  # steps that a point is the mean of: batches differ more than variants do
_FAINT = 0.25


def draw_racing(variants: Sequence[RacingVariant]) -> go.Figure | None:
    """Training loss along the steps of every trial, means of a few steps; None before the first step.

    All variants see the same batches in the same order, so their lines can be compared at each step. The line of the
    lowest eval loss so far is in the color of training.

    Args:
        variants: of the race.
    """
    figure = new_figure("optimizer steps of the race", f"training loss, mean of {_WINDOW} steps, nats", height=340)
    leader = min((v for v in variants if v.loss is not None), key=lambda v: v.loss or 0.0, default=None)
    for i, variant in enumerate(variants):
        color = INK if variant.name == "full" else OTHERS[i % len(OTHERS)]
        for trial in variant.trials:
            steps, losses = _running_means(trial)
            if not steps:
                continue
            stopped = trial.end != "read" or (variant.finished and trial.rate != variant.learning_rate)
            leads = variant is leader and trial.rate == variant.learning_rate
            line = TRAINED if leads else faded(color, _FAINT) if stopped else color
            figure.add_scatter(
                x=steps, y=losses, mode="lines", name=chart_text(f"{variant_title(variant.name)}, rate "
                f"{learning_rate(trial.rate)}{', stopped' if stopped else ''}"), showlegend=not stopped,
                line={"color": line, "width": 4 if leads else 2},
            )  # fmt: skip
            if stopped:
                figure.add_scatter(
                    x=steps[-1:], y=losses[-1:], mode="markers", showlegend=False, hoverinfo="skip",
                    marker={"symbol": "x", "color": line, "size": 8},
                )  # fmt: skip
    figure.update_layout(hovermode="closest")
    return figure if figure.data else None


def _running_means(trial: RateTrial) -> tuple[list[int], list[float]]:
    """Steps, from the first whole window on, and the mean training loss of the last few; up to a loss that is none."""
    losses = np.array([np.nan if loss is None else loss for loss in trial.train_losses], dtype=np.float64)
    known = int(np.argmin(np.isfinite(losses))) if not np.isfinite(losses).all() else len(losses)
    window = min(_WINDOW, known)
    if window == 0:
        return [], []
    means = np.convolve(losses[:known], np.ones(window) / window, mode="valid")
    return list(range(window, known + 1)), means.tolist()
