"""A run as one self-contained HTML file: conclusion, curves with both nulls, scores, prices, plan, provenance."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

import plotly.graph_objects as go
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from semfreeze_core.cost import compare_costs
from semfreeze_core.gains import score_coverage
from semfreeze_core.gains.bootstrap import mean_band, resampling_weights
from semfreeze_core.plan import FreezePlan, curve_of, make_plan
from semfreeze_core.plan.badge import with_badge
from semfreeze_core.plan.depth_spread import depth_spread
from semfreeze_core.plan.opinions import gather_opinions
from semfreeze_core.records.cost import DepthCost
from semfreeze_core.records.gain import GainCurve
from semfreeze_core.records.run import Run
from semfreeze_core.records.validation import ValidationReport
from semfreeze_core.wording.costs import MEMORY_NOTE, cost_notes, depth_cost_table, setup_line
from semfreeze_core.wording.escaping import html_text
from semfreeze_core.wording.numbers import CI
from semfreeze_core.wording.plan import plan_details, plan_summary, stack_sentence
from semfreeze_core.wording.rules import depth_spread_sentence, method_name, opinion_cost_note, opinion_table
from semfreeze_core.wording.runs import (
    LAYER_SOURCES,
    evidence_check,
    layer_table,
    layer_table_caption,
    model_sentence,
    sample_sentence,
)
from semfreeze_core.wording.validation import finished_at, measured_lines

from ..charts.costs import draw_flop, draw_memory
from ..charts.curves import draw_coverage, draw_depth_counts, draw_deviation, draw_gains, draw_task_null
from ..charts.stack import stack_html
from ..charts.theme import figure_html

_BUTTONS = {"displaylogo": False, "responsive": True, "modeBarButtonsToRemove": ["lasso2d", "select2d", "autoScale2d"]}


@dataclass(frozen=True)
class Chart:
    """A figure on the page with the sentence that says what it shows."""

    title: str
    caption: str
    html: Markup


def report_html(
    run: Run,
    *,
    metric: str = "semantic",
    name: str = "",
    plan: FreezePlan | None = None,
    validations: Mapping[str, ValidationReport] | None = None,
) -> str:
    """The whole page as text; it opens without network, model or semfreeze.

    Args:
        run: a finished reading.
        metric: deviation the gains come from, "semantic" or "logit_z".
        name: of the run, written into plan and title.
        plan: depth, rule and setup to report; None is the default rule's plan in the default setup.
        validations: of the run, by name.

    Raises:
        PlanError: the run has no such metric.
    """
    curve = curve_of(run, metric)
    plan = plan or make_plan(run, metric=metric, run_name=name or None)
    reports = validations or {}
    plan = with_badge(plan, reports)
    tested = bool(finished_at(reports, plan.freeze_depth, switch=plan.switch))
    setup = plan.cost.setup
    costs = compare_costs(run.shape, setup)
    comparison = gather_opinions(run, metric=metric, setup=setup)
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_html
    )
    template = environment.from_string(files("semfreeze_dashboard").joinpath("report.html.jinja").read_text("utf-8"))
    return template.render(
        run=run,
        name=name,
        curve=curve,
        plan=plan,
        plan_json=plan.model_dump_json(indent=1),
        summary=plan_summary(plan),
        details=plan_details(plan),
        model=model_sentence(run.manifest),
        sample=sample_sentence(run.manifest),
        evidence=evidence_check(curve.evidence.verdict),
        stack=Markup(stack_html(plan.n_layers, plan.freeze_depth, stack_sentence(plan.n_layers, plan.freeze_depth))),
        setup=setup_line(setup),
        agreement=comparison.agreement.summary,
        opinions=opinion_table(comparison),
        opinion_note=opinion_cost_note(comparison),
        measured=measured_lines(reports, plan.freeze_depth, plan.n_layers, plan.switch),
        charts=_charts(run, curve, plan, costs.depths, tested=tested),
        layers=layer_table(curve),
        layer_caption=f"{layer_table_caption(curve)} {LAYER_SOURCES}",
        costs=depth_cost_table(costs),
        cost_notes=cost_notes(costs),
        provenance=json.dumps(run.manifest.provenance.model_dump(), indent=1),
        plotly=Markup(get_plotlyjs()),
    )


def _left_out(run: Run) -> str:
    """Which scores the chart lacks because they are not measured yet; "" where it has all."""
    names = [method_name(name) for name in run.manifest.scores_to_come]
    return f" Not computed yet: {', '.join(names)}." if names else ""


def _charts(run: Run, curve: GainCurve, plan: FreezePlan, rows: Sequence[DepthCost], *, tested: bool) -> list[Chart]:
    depth, L, n = plan.freeze_depth, curve.n_layers, curve.n_examples
    sampling = f"Means over {n} examples; {CI}, bootstrap over examples."
    scores = {name: score_coverage(score) for name, score in run.scores.items()}
    charts = [
        _chart(
            "Deviation and random-label baseline",
            "How far each hidden state is from the target token. The baseline is what random labels would give; the "
            f"advantage is the distance between the two. {sampling}",
            draw_deviation(curve, depth),
        ),
        *_task_null_chart(run, curve, depth),
        _chart(
            "Gain of each layer",
            "Rise of the advantage over a layer (bars, our derivation) and fall of the deviation (circles, the "
            f"paper's). {sampling}",
            draw_gains(curve, depth),
        ),
        _chart(
            "Gain coverage, with every other score",
            "The share of the layer contributions in the layers that stay trained at each freeze depth, predicted"
            f"{'' if tested else ' and not validated'}. "
            f"The other scores contradict each other: only a finetune decides.{_left_out(run)}",
            draw_coverage(curve, scores, depth),
        ),
    ]
    if (spread := depth_spread(run, curve.metric)) is not None:
        charts.append(
            _chart("Depth picked per example", depth_spread_sentence(spread), draw_depth_counts(spread, depth))
        )
    if rows[0].bytes.activations is None:
        memory = "Activation bytes of this family are not known, so they are not in the bars."
    else:
        memory = MEMORY_NOTE
    charts.append(_chart(f"Memory by freeze depth, 0 to {L}", memory, draw_memory(rows, depth)))
    charts.append(
        _chart("Compute by freeze depth", "FLOPs of the first step, by what they are spent on.", draw_flop(rows, depth))
    )
    return charts


def _task_null_chart(run: Run, curve: GainCurve, depth: int | None) -> list[Chart]:
    pairs = run.pairs[curve.metric]
    if not len(pairs.own):
        return []
    weights = resampling_weights(len(pairs.own), run.manifest.settings.seed + 1)
    matched, swapped = mean_band(pairs.own, weights), mean_band(pairs.swapped, weights)
    caption = (
        f"The same {len(pairs.own)} prompts with their own completions and with other examples' completions: what does "
        f"not get worse by the swap is language, not the task. {CI}, bootstrap over prompts."
    )
    return [_chart("Swapped-completion control", caption, draw_task_null(matched, swapped, curve.metric, depth))]


def _html(value: object) -> object:
    """What a template prints: markup as it is, all else as text."""
    return value if isinstance(value, Markup) else Markup(html_text(str(value)))


def _chart(title: str, caption: str, figure: go.Figure) -> Chart:
    name = "".join(letter if letter.isalnum() else "-" for letter in title.lower())
    html = figure_html(figure, full_html=False, include_plotlyjs=False, config=_BUTTONS, div_id=name)
    return Chart(title, caption, Markup(html))
