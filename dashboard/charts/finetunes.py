"""What short finetunes gave: the share of full finetuning's loss reduction that they kept."""

import plotly.graph_objects as go

from semfreeze_core.records.validation import ValidationReport

from .theme import GRAY, OTHERS, TRAINED, new_figure

_PLACES = (
    ("same steps", "improvement_kept", OTHERS[0], "circle"),
    ("same compute", "improvement_kept_compute", TRAINED, "diamond"),
    ("each stopped at its lowest", "improvement_kept_stopped", OTHERS[1], "triangle-up"),
)


def draw_reduction_shares(report: ValidationReport) -> go.Figure:
    """Share of full finetuning's loss reduction that each arm kept, with its interval, wherever it was read."""
    figure = new_figure("share of the loss reduction kept, %", "", height=110 + 52 * len(report.arms))
    names = [name for name in report.arms if name != "full"]
    least = 100 * (1 - report.settings.margin)
    ends = [least]
    for title, field, color, symbol in _PLACES:
        rows = []
        for name in names:
            share = getattr(report.arms[name], field)
            if share.estimate is not None and share.low is not None and share.high is not None:
                rows.append((arm_label(report, name), share.estimate, share.low, share.high))
        if not rows:
            continue
        ends += [100 * end for row in rows for end in row[2:]]
        figure.add_scatter(
            x=[100 * row[1] for row in rows],
            y=[row[0] for row in rows],
            error_x={
                "array": [100 * (row[3] - row[1]) for row in rows],
                "arrayminus": [100 * (row[1] - row[2]) for row in rows],
            },
            mode="markers",
            orientation="h",
            offsetgroup=title,
            name=title,
            marker={"color": color, "symbol": symbol, "size": 11},
        )
    beside = 0.05 * (max(ends) - min(ends))
    figure.update_xaxes(range=[min(ends) - beside, max(ends) + beside])  # places side by side would stretch it to 0
    figure.add_vline(x=least, line={"color": GRAY, "dash": "dot"}, name=f"required: {least:.0f}%", showlegend=True)
    figure.update_layout(hovermode="closest", margin={"l": 8}, scattermode="group", scattergap=0.5)
    figure.update_yaxes(autorange="reversed", automargin=True)
    return figure


def arm_label(report: ValidationReport, name: str) -> str:
    """An arm's name with its depth, or the layers that it trains."""
    arm = report.arms[name]
    depth, switch = arm.freeze_depth, arm.switch
    if switch is not None:
        return f"progressive (freeze {depth} for {switch.step} steps, then {switch.deep_depth})"
    if arm.deepest_batch is not None:
        return f"{name} (freeze {depth} to {arm.deepest_batch} by batch)"
    if name.startswith("layers:"):
        return f"train {name.removeprefix('layers:')}"
    if name == "planned" and report.layers is not None:
        return f"planned (train {report.layers})"
    return {"full": "full finetuning", "lora": "LoRA, all layers", "planned+lora": f"LoRA on {depth} up"}.get(
        name, f"{name} (freeze {depth})"
    )
