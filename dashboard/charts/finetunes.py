"""What short finetunes gave: the share of full finetuning's improvement that they kept."""

import plotly.graph_objects as go

from semfreeze_core.records.validation import ValidationReport

from .theme import GREY, OTHERS, TRAINED, new_figure


def draw_kept(report: ValidationReport) -> go.Figure:
    """Share of full finetuning's improvement that each arm kept, with its interval, at either budget."""
    figure = new_figure("share of full finetuning's improvement kept, %", "", height=110 + 52 * len(report.arms))
    names = [name for name in report.arms if name != "full"]
    for budget, colour, symbol in (("steps", OTHERS[0], "circle"), ("compute", TRAINED, "diamond")):
        rows = []
        for name in names:
            arm = report.arms[name]
            kept = arm.improvement_kept if budget == "steps" else arm.improvement_kept_compute
            if kept.estimate is not None and kept.low is not None and kept.high is not None:
                rows.append((arm_words(report, name), kept.estimate, kept.low, kept.high))
        figure.add_scatter(
            x=[100 * row[1] for row in rows],
            y=[row[0] for row in rows],
            error_x={
                "array": [100 * (row[3] - row[1]) for row in rows],
                "arrayminus": [100 * (row[1] - row[2]) for row in rows],
            },
            mode="markers",
            name=f"at equal {budget}",
            marker={"color": colour, "symbol": symbol, "size": 11},
        )
    least = 100 * (1 - report.settings.margin)
    figure.add_vline(x=least, line={"color": GREY, "dash": "dot"}, annotation_text=f"{least:.0f} %: holds above")
    figure.update_layout(hovermode="closest", margin={"l": 150})
    figure.update_yaxes(autorange="reversed")
    return figure


def arm_words(report: ValidationReport, name: str) -> str:
    """An arm's name with its depth."""
    depth = report.arms[name].freeze_depth
    return {"full": "full finetuning", "lora": "LoRA, all layers", "planned+lora": f"LoRA on {depth} up"}.get(
        name, f"{name} (freeze {depth})"
    )
