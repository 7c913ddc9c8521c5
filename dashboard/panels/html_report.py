"""A run as one self-contained HTML file: conclusion, curves with both nulls, scores, prices, plan, provenance."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

import plotly.graph_objects as go
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from semfreeze_core.cli.printing.run import conclusion
from semfreeze_core.cost import cost_table, full_cost
from semfreeze_core.gains import score_coverage
from semfreeze_core.gains.bootstrap import mean_band, resampling_weights
from semfreeze_core.plan import FreezePlan, curve_of, make_plan
from semfreeze_core.plan.opinions import Comparison, Opinion, gather_opinions
from semfreeze_core.records.cost import DepthCost
from semfreeze_core.records.gain import Band, GainCurve
from semfreeze_core.records.run import Run
from semfreeze_core.wording.numbers import flop, gib, interval, percent, setup_words

from ..charts.costs import draw_flop, draw_memory
from ..charts.curves import draw_coverage, draw_deviation, draw_gains, draw_task_null
from ..charts.stack import stack_html
from ..text.page_text import stack_words

_BUTTONS = {"displaylogo": False, "responsive": True, "modeBarButtonsToRemove": ["lasso2d", "select2d", "autoScale2d"]}


@dataclass(frozen=True)
class Chart:
    """A figure on the page with the sentence that says what it shows."""

    title: str
    caption: str
    html: Markup


def report_html(run: Run, *, metric: str = "semantic", name: str = "") -> str:
    """The whole page as text; it opens without network, model or semfreeze.

    Args:
        run: a finished reading.
        metric: deviation the gains come from, "semantic" or "logit_z".
        name: of the run, written into plan and title.

    Raises:
        PlanError: the run has no such metric.
    """
    curve = curve_of(run, metric)
    plan = make_plan(run, metric=metric, run_name=name or None)
    setup = plan.cost.setup
    rows, full = cost_table(run.shape, setup), full_cost(run.shape, setup)
    comparison = gather_opinions(run, metric=metric)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files("semfreeze_dashboard").joinpath("report.html.jinja").read_text("utf-8"))
    return template.render(
        run=run,
        name=name,
        curve=curve,
        plan=plan,
        plan_json=plan.model_dump_json(indent=1),
        conclusion=conclusion(plan),
        stack=Markup(stack_html(plan.n_layers, plan.freeze_depth, stack_words(plan.n_layers, plan.freeze_depth))),
        setup=setup_words(setup),
        agreement=comparison.agreement.summary,
        opinions=_opinion_rows(comparison),
        charts=_charts(run, curve, plan, rows),
        layers=_layer_rows(curve),
        prices=_price_rows(rows, full),
        provenance=json.dumps(run.manifest.provenance.model_dump(), indent=1),
        plotly=Markup(get_plotlyjs()),
    )


def _charts(run: Run, curve: GainCurve, plan: FreezePlan, rows: Sequence[DepthCost]) -> list[Chart]:
    depth, L, n = plan.freeze_depth, curve.n_layers, curve.n_examples
    told = f"Means over {n} examples with 95 % bootstrap intervals over examples."
    scores = {name: score_coverage(score) for name, score in run.scores.items()}
    charts = [
        _chart(
            "Deviation and label null",
            f"How far each latent space is from the ground truth token. The label null is what random labels would "
            f"give; the advantage is the distance between the two. {told}",
            draw_deviation(curve, depth),
        ),
        *_task_null_chart(run, curve, depth),
        _chart(
            "Gain of each layer",
            "Rise of the advantage over a layer (bars, our derivation) and fall of the deviation (circles, the "
            f"paper's). {told}",
            draw_gains(curve, depth),
        ),
        _chart(
            "Gain coverage, with every other score",
            "The share of the gain in the layers that stay trained at each freeze depth, predicted and not validated. "
            "The other scores contradict each other: only a finetune decides.",
            draw_coverage(curve, scores, depth),
        ),
    ]
    if rows[0].bytes.activations is None:
        memory = "Activation bytes of this family are not known, so they are not in the bars."
    else:
        memory = "An upper projection: the parts do not all peak together."
    charts.append(_chart(f"Memory by freeze depth, 0 to {L}", memory, draw_memory(rows, depth)))
    charts.append(_chart("FLOP by freeze depth", "The first step, by what it is spent on.", draw_flop(rows, depth)))
    return charts


def _task_null_chart(run: Run, curve: GainCurve, depth: int | None) -> list[Chart]:
    pairs = run.pairs[curve.metric]
    if not len(pairs.own):
        return []
    weights = resampling_weights(len(pairs.own), run.manifest.settings.seed + 1)
    own, swapped = mean_band(pairs.own, weights), mean_band(pairs.swapped, weights)
    caption = (
        f"The same {len(pairs.own)} prompts with their own completions and with other examples' completions: what does "
        "not get worse by the swap is language, not the task. 95 % bootstrap intervals over prompts."
    )
    return [_chart("Task null", caption, draw_task_null(own, swapped, curve.metric, depth))]


def _chart(title: str, caption: str, figure: go.Figure) -> Chart:
    name = "".join(letter if letter.isalnum() else "-" for letter in title.lower())
    html = figure.to_html(full_html=False, include_plotlyjs=False, config=_BUTTONS, div_id=name)
    return Chart(title, caption, Markup(html))


def _opinion_rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """One row a rule and a score: name, candidate, recommendation, R(k), FLOP, memory, why."""

    def row(title: str, opinion: Opinion) -> tuple[str, ...]:
        price = opinion.cost
        return (
            title,
            "none" if opinion.candidate_depth is None else str(opinion.candidate_depth),
            "abstains" if opinion.freeze_depth is None else str(opinion.freeze_depth),
            interval(opinion.gain_coverage, 2),
            percent(price.relative_flop if price else None),
            percent(price.relative_bytes if price else None),
            " ".join(opinion.reasons),
        )

    rules = [row(f"rule {name}", opinion) for name, opinion in comparison.rules.items()]
    return rules + [
        row(f"score {name.replace('_', ' ')} ({opinion.sample})", opinion)
        for name, opinion in comparison.scores.items()
    ]


def _layer_rows(curve: GainCurve) -> list[tuple[str, ...]]:
    """The charts' numbers as a table: one row a latent space."""

    def told(band: Band, index: int, digits: int) -> str:
        return interval(band.at(index), digits) if index < len(band.mean) else ""

    return [
        (
            str(s),
            told(curve.deviation, s, 3),
            told(curve.null, s, 3),
            told(curve.advantage, s, 3),
            told(curve.gain, s, 4),
            told(curve.coverage, s, 2),
        )
        for s in range(curve.n_layers + 1)
    ]


def _price_rows(rows: Sequence[DepthCost], full: DepthCost) -> list[tuple[str, ...]]:
    return [
        (
            str(row.freeze_depth),
            flop(row.step_flop.total, full.step_flop.total),
            flop(row.flop, full.flop),
            percent(row.relative_flop),
            gib(row.bytes.total),
            percent(row.relative_bytes),
        )
        for row in rows
    ]
