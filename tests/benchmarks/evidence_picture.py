"""The evidence as one picture: `python -m tests.benchmarks.evidence_picture` writes .github/pictures/evidence.png."""

from pathlib import Path

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from semfreeze_core.gains.noninferiority import draw, improvement_kept
from semfreeze_dashboard.charts.theme import INK, OTHERS, TRAINED
from tests.benchmarks.evidence_cells import TaskCells
from tests.benchmarks.evidence_regret import losses_by_depth
from tests.benchmarks.evidence_report import BUDGETS, counted, read_all
from tests.browser.served import chromium

PICTURE = Path(__file__).parents[2] / ".github" / "pictures" / "evidence.png"


def draw_evidence(tasks: list[TaskCells]) -> go.Figure:
    """Share of full finetuning's improvement over depth, a panel a task, with the coverage rule's pick and half."""
    figure = make_subplots(1, len(tasks), subplot_titles=[task.task for task in tasks], shared_yaxes=True)
    for column, task in enumerate(tasks, 1):
        before = np.array(task.before)
        for budget, color in zip(BUDGETS, (TRAINED, OTHERS[0]), strict=True):
            losses = losses_by_depth(task, budget)
            draws = draw(*losses[0].shape)
            shares = {depth: improvement_kept(before, losses[0], after, draws) for depth, after in losses.items()}
            figure.add_scatter(
                x=list(shares), y=[100 * k.estimate for k in shares.values()],
                error_y={
                    "array": [100 * (k.high - k.estimate) for k in shares.values()],
                    "arrayminus": [100 * (k.estimate - k.low) for k in shares.values()],
                },
                name=f"at equal {budget}", legendgroup=budget, showlegend=column == 1, mode="lines+markers",
                line={"color": color}, row=1, col=column,
            )  # fmt: skip
        pick = task.picks["semantic"]["coverage"].depth
        for name, depth, side, height in (
            ("coverage rule", pick, "left", 91),
            ("half", task.n_layers // 2, "right", 93),
        ):
            if depth is not None:
                subplot = {"row": 1, "col": column}
                figure.add_vline(x=depth, line={"color": INK, "dash": "dot", "width": 1}, **subplot)
                figure.add_annotation(x=depth, y=height, text=f" {name} ", showarrow=False, xanchor=side, **subplot)
    figure.update_xaxes(title_text="freeze depth k of 30")
    figure.update_yaxes(title_text="share of full finetuning's improvement, %", col=1)
    legend = {"orientation": "h", "y": -0.2}
    figure.update_layout(template="plotly_white", width=480 * len(tasks), height=400, legend=legend, margin={"t": 40})
    return figure


def main() -> None:
    """Draw it in the browser that the tests use."""
    page = draw_evidence(counted(read_all())).to_html(include_plotlyjs=True, config={"displayModeBar": False})
    with chromium() as browser:
        window = browser.new_page(device_scale_factor=2, viewport={"width": 1600, "height": 460})
        window.set_content(page)
        window.locator(".main-svg").first.wait_for()
        window.locator(".js-plotly-plot").screenshot(path=PICTURE)
    print(PICTURE)


if __name__ == "__main__":
    main()
