"""What short finetunes gave: loss over steps or seconds, and the share of full finetuning's improvement they kept."""

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Literal

import plotly.graph_objects as go

from semfreeze_core.records.validation import ArmRun, ValidationReport

from .theme import GREY, INK, OTHERS, TRAINED, new_figure

Along = Literal["steps", "seconds"]
_DASHES = {"full": "solid", "half": "dash", "lora": "dot", "planned+lora": "dashdot"}


def draw_losses(report: ValidationReport, along: Along) -> go.Figure:
    """Eval loss of every arm at each of its readings, mean over seeds; the planned arm in the colour of training."""
    title = "optimiser steps" if along == "steps" else "seconds of training, cache pass included"
    figure = new_figure(title, "eval loss, nats a token", height=380)
    for i, name in enumerate(report.arms):
        runs = [run for run in report.runs if run.arm == name and run.status == "done"]
        if not runs:
            continue
        x, y = _curve(runs, along)
        planned = name == "planned"
        line = {
            "color": TRAINED if planned else INK if name == "full" else OTHERS[i % len(OTHERS)],
            "dash": _DASHES.get(name, "solid"),
            "width": 4 if planned else 2,
        }
        figure.add_scatter(x=x, y=y, mode="lines+markers", name=arm_words(report, name), line=line)
    first = report.baseline.loss
    figure.update_yaxes(type="log", dtick="D1")  # losses fall by factors: late differences would vanish
    figure.add_hline(y=first, line={"color": GREY, "dash": "dot"}, annotation_text=f"before: {first:.2f}")
    return figure


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


def _curve(runs: Sequence[ArmRun], along: Along) -> tuple[list[float], list[float]]:
    """Mean over seeds of each reading, at the readings that all seeds have."""
    by_step: Mapping[int, list[tuple[float, float]]] = {
        point.step: [(q.seconds, q.curve_loss) for run in runs for q in run.points if q.step == point.step]
        for point in runs[0].points
    }
    whole = {step: found for step, found in by_step.items() if len(found) == len(runs)}
    x = [float(step) if along == "steps" else mean(p[0] for p in found) for step, found in whole.items()]
    return x, [mean(p[1] for p in found) for found in whole.values()]
