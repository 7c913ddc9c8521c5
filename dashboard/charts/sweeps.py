"""A sweep: the share of full finetuning's loss reduction that every depth kept, over the share that was predicted."""

import plotly.graph_objects as go

from semfreeze_core.records.sweep import Bounds, SweepReport
from semfreeze_core.records.validation import Budget
from semfreeze_core.wording.rules import method_name
from semfreeze_core.wording.sweep import frozen_text

from .theme import GRAY, INK, OTHERS, TRAINED, new_figure

_NAME_HEIGHT = 15  # pixels: every rule's name on a line of its own, so that none lies on another's
_READ: tuple[tuple[Budget, str, str], ...] = (("compute", TRAINED, "diamond"), ("steps", OTHERS[0], "circle"))


def draw_sweep(report: SweepReport, rules: dict[str, int]) -> go.Figure:
    """Measured shares with their intervals over the predicted one, and a mark where each rule freezes."""
    figure = new_figure("freeze depth k", "share of full finetuning's loss reduction, %", height=420)
    depths = sorted(report.depths, key=lambda result: result.freeze_depth)
    predicted = [(d.freeze_depth, 100 * d.gain_coverage) for d in depths if d.gain_coverage is not None]
    figure.add_scatter(
        x=[k for k, _ in predicted],
        y=[share for _, share in predicted],
        mode="lines",
        name="predicted, R(k)",
        line={"color": INK, "dash": "dash", "width": 2},
    )
    for budget, color, symbol in _READ:
        rows = [(d.freeze_depth, d.share[budget], d.share_interval[budget]) for d in depths]
        known = [(k, share, ends) for k, share, ends in rows if share is not None]
        figure.add_scatter(
            x=[k for k, _, _ in known],
            y=[100 * share for _, share, _ in known],
            error_y={
                "array": [_above(share, ends) for _, share, ends in known],
                "arrayminus": [_below(share, ends) for _, share, ends in known],
            },
            mode="lines+markers",
            name=f"measured, same {budget}",
            line={"color": color},
            marker={"symbol": symbol, "size": 9},
        )
        _add_progressive(figure, report, budget, color)
    for depth in sorted(set(rules.values())):
        figure.add_vline(x=depth, line={"color": GRAY, "dash": "dot", "width": 1})
    for i, (name, depth) in enumerate(sorted(rules.items(), key=lambda rule: rule[1])):
        late = depth > report.n_layers / 2  # its name would leave the plot on the right
        figure.add_annotation(
            x=depth, y=0, yref="paper", yanchor="bottom", yshift=_NAME_HEIGHT * i, text=method_name(name),
            showarrow=False, xanchor="right" if late else "left", xshift=-3 if late else 3, font={"size": 11},
        )  # fmt: skip
    figure.update_xaxes(range=[-0.5, report.n_layers + 0.5])
    return figure


def _add_progressive(figure: go.Figure, report: SweepReport, budget: Budget, color: str) -> None:
    """Finetunes that froze deeper at a step, where they froze in the end."""
    known = [
        (one, one.switch.deep_depth, share)
        for one in report.progressive
        if one.switch is not None and (share := one.share[budget]) is not None
    ]
    if not known:
        return
    figure.add_scatter(
        x=[depth for _, depth, _ in known],
        y=[100 * share for _, _, share in known],
        error_y={
            "array": [_above(share, one.share_interval[budget]) for one, _, share in known],
            "arrayminus": [_below(share, one.share_interval[budget]) for one, _, share in known],
        },
        customdata=[f"freeze {frozen_text(one)}" for one, _, _ in known],
        hovertemplate="%{customdata}<br>%{y:.0f}%<extra></extra>",
        mode="markers",
        name=f"frozen deeper at a step, same {budget}",
        marker={"symbol": "star", "size": 12, "color": color},
    )


def _above(share: float, ends: Bounds | None) -> float:
    return 0.0 if ends is None else 100 * (ends[1] - share)


def _below(share: float, ends: Bounds | None) -> float:
    return 0.0 if ends is None else 100 * (share - ends[0])
