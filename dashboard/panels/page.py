"""What all pages are made of: the run and depth on top, and charts with their words, numbers and files."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from semfreeze_core.cost.setup import setup_from_options
from semfreeze_core.cost.speed import Speed, training_speed
from semfreeze_core.errors import PlanError, RunError
from semfreeze_core.records.cost import CostTable
from semfreeze_core.records.defaults import LORA_RANK, RULE
from semfreeze_core.records.gain import GainCurve
from semfreeze_core.records.run import Run
from semfreeze_core.records.training import LoraSetup, TrainingSetup
from semfreeze_core.wording.escaping import chart_text
from semfreeze_core.wording.plan import stack_sentence
from semfreeze_core.wording.rules import chosen_examples_sentence
from semfreeze_core.wording.validation import evidence_text

from ..charts.evidence_badge import badge_html
from ..charts.numbers import numbers_of
from ..charts.stack import stack_html
from ..charts.theme import figure_html, on_page
from ..components.layer_stack import draggable_stack
from ..data import compute, depth_choice, estimates, finetune_results, link, run_choice, selections, setup_fields
from ..data.run_folder import OpenRun, server_catalog
from ..server.failures import guarded
from ..text import page_text
from ..text.analysis_text import escaped
from ..text.tooltips import TOOLTIPS
from ..text.visitor_text import error_text, visitor_text

METRICS = ("semantic", "logit_z")
OPTIONS = "Options"
HIDDEN = "hidden"  # of containers of widgets that only the link needs
ONWARD = "onward"  # of containers of links that lead to the next page


@dataclass(frozen=True)
class PageContext:
    """The open run in one metric, and where a page draws.

    Attributes:
        opened: the run.
        metric: deviation the gains come from.
        curve: its gain curve.
        top: where the conclusion goes, which is known last and read first.
        ruler: where the depth's slider goes, below the layer stack.
        choices: closed at first, the widgets that most readers leave as they are, the metric first.
    """

    opened: OpenRun
    metric: str
    curve: GainCurve
    top: DeltaGenerator
    ruler: DeltaGenerator
    choices: DeltaGenerator

    @property
    def n_layers(self) -> int:
        return self.curve.n_layers


def as_fragment(body: Callable[[], None]) -> Callable[[], None]:
    """The page as one fragment: moving the depth draws the page again, and nothing around it."""
    return st.fragment(guarded(body))


def page_context(*, chooses_metric: bool = True) -> PageContext:
    """The open run in the chosen metric; a page that has none says so and stops.

    Args:
        chooses_metric: whether the page shows the choice of the metric, or only keeps it.
    """
    top, ruler = st.container(), st.container()
    try:
        opened = compute.read(server_catalog(), run_choice.open_run_name())
    except RunError as error:
        st.error(error_text(f"{error} Choose another run above."))
        st.stop()
    choices = ruler
    if chooses_metric:
        # No popover: what a closed one holds is not in the browser, and the next page would lose its value.
        choices = st.expander(OPTIONS).container(horizontal=True, vertical_alignment="bottom", gap="medium")
        with choices:
            metric = _metric_choice(opened)
    else:
        metric = link.chosen_option("metric", _metrics(opened))
        hidden_metric(opened)
    return PageContext(opened, metric, compute.curve(opened, metric), top, ruler, choices)


def _metrics(opened: OpenRun) -> list[str]:
    return [metric for metric in METRICS if metric in opened.run.traces]


def _metric_choice(opened: OpenRun) -> str:
    metrics = _metrics(opened)
    metric = st.segmented_control(
        "Distance to target",
        metrics,
        default=metrics[0],
        required=True,
        help=TOOLTIPS["metric"],
        **link.in_link("metric"),
    )
    return str(metric or metrics[0])


def sections(n: int) -> list[DeltaGenerator]:
    """Containers below each other that stay where they are, however much the ones above them come to hold.

    What moves down or up as a job begins or ends, Streamlit's browser side makes anew: a file that is being uploaded
    there is lost.
    """
    return [st.container() for _ in range(n)]


def hidden(name: str) -> DeltaGenerator:
    """A container that nobody sees, for widgets of the link that a page does not show.

    Streamlit takes a value out of the link once no page draws its widget. Drawn here, it stays in the link through
    reloads and page changes, and no page change costs a second stop in the browser's history.
    """
    return st.container(key=f"{HIDDEN}-{name}")


def hidden_metric(opened: OpenRun) -> None:
    """Hold on to the metric where a page has no choice of it."""
    with hidden("metric"):
        link.keep_choice("metric", _metrics(opened))


def keep_metric() -> None:
    """Hold on to the metric of the open run on a page that has no use for the run."""
    with suppress(RunError):  # which the pages that show the run say
        hidden_metric(compute.read(server_catalog(), run_choice.open_run_name()))


def hidden_depth(opened: OpenRun) -> None:
    """Hold on to the depth where a page has no slider; the app draws it, at one place on all those pages."""
    comparison = compute.comparison(opened, link.chosen_option("metric", _metrics(opened)), None, None)
    depth_choice.keep_depth(comparison.n_layers, comparison.rules[RULE].freeze_depth or 0)


def selected_examples(opened: OpenRun) -> tuple[int, ...]:
    """Rows of the run's examples whose positions are selected in the projection; none where nothing is."""
    selected = selections.selection(opened.name)
    display = opened.run.display
    if selected is None or display is None:
        return ()
    return tuple(sorted({int(display.example[position]) for position in selected.positions}))


def selected_curve(ctx: PageContext) -> GainCurve:
    """The gain curve of the selected examples where some are selected, and enough; else of all."""
    rows = selected_examples(ctx.opened)
    chosen = compute.chosen_examples(ctx.opened, ctx.metric, rows) if rows else None
    return ctx.curve if chosen is None else chosen.curve


def selection_line(ctx: PageContext, depth: int) -> None:
    """Whether the depth fits the selected examples, and a button that clears the selection; nothing without one."""
    rows = selected_examples(ctx.opened)
    if rows:
        chosen = compute.chosen_examples(ctx.opened, ctx.metric, rows)
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(chosen_examples_sentence(chosen, len(rows), depth), width="content")
            st.button("Clear selection", on_click=selections.keep_selection, args=(None,))


def start_depth(ctx: PageContext) -> int:
    """Where the depth starts: the default rule's recommendation, else full finetuning."""
    opinion = compute.comparison(ctx.opened, ctx.metric, None, None).rules[RULE]
    return opinion.freeze_depth or 0


def depth_slider(ctx: PageContext, last: int | None = None) -> int:
    """The one depth all pages share, up to `last`."""
    end = ctx.n_layers if last is None else last
    with ctx.ruler:
        return depth_choice.depth_slider(end, min(start_depth(ctx), end), TOOLTIPS["depth"])


def header(
    ctx: PageContext,
    depth: int | None,
    sentence: str,
    *,
    validated: bool = True,
    readouts: Sequence[str] = (),
    drawing: str | None = None,
) -> None:
    """The page's conclusion, and the layer stack at the depth.

    Args:
        ctx: what the page shows.
        depth: k, or None where none is recommended.
        sentence: the conclusion.
        validated: whether to say what finetunes have shown of the depth; not where the conclusion does.
        readouts: what each depth costs, entry k for depth k, on a page whose slider the stack's line moves too.
        drawing: HTML in the stack's place.
    """
    with ctx.top:
        conclusion(sentence)
        if validated and depth:  # full finetuning needs no evidence
            badge = finetune_results.badge(ctx.opened, depth)
            text = evidence_text(badge, finetune_results.validations(ctx.opened), depth)
            st.html(badge_html(badge, visitor_text(text)))
        description = stack_sentence(ctx.n_layers, depth)
        if readouts and depth is not None:
            draggable_stack(ctx.n_layers, depth, description, readouts, depth_choice.set_depth)
        else:
            st.html(drawing or stack_html(ctx.n_layers, depth, description))


def conclusion(sentence: str) -> None:
    """What a page says, in one or two sentences above all else on it."""
    st.markdown(f"## {escaped(visitor_text(sentence))}")


def details(name: link.LinkName, title: str, draw_inside: Callable[[], None]) -> bool:
    """A closed section, which computes and draws nothing until it is opened; whether it is open."""
    section = st.expander(title, on_change="rerun", **link.in_link(name))
    if section.open:
        with section:
            draw_inside()
    return bool(section.open)


def training_setup(run: Run) -> TrainingSetup:
    """How a run's model is trained, as the widgets above the page have it.

    Raises:
        PlanError: they contradict themselves.
    """
    options, gpu = setup_fields.training_setup()
    setup: TrainingSetup = setup_from_options(run.shape, run, options, with_reference=True, gpu=gpu)
    return setup


def depth_costs(opened: OpenRun) -> tuple[CostTable, Speed] | None:
    """What each freeze depth costs in the training setup and how fast it runs; None in a setup that contradicts itself.

    The page Decide says what is wrong with such a setup.
    """
    options, gpu = setup_fields.training_setup()
    try:
        setup = training_setup(opened.run)
        table = estimates.depth_costs(opened, setup, LoraSetup(options.lora_rank or LORA_RANK))
    except PlanError:
        return None
    measured = estimates.finetune_rate(opened, setup.precision)[0]
    return table, training_speed(None, None, setup, gpu=gpu, measured=measured)


def depth_readouts(ctx: PageContext) -> list[str]:
    """What each freeze depth costs in the training setup, in a few words; entry k for depth k."""
    costs = depth_costs(ctx.opened)
    if costs is None:
        return []
    table, speed = costs
    wide_steps = link.whole_number("wide", 0)
    deeper = estimates.deeper_costs(ctx.opened, training_setup(ctx.opened.run), wide_steps) if wide_steps else ()
    whole = {k: one.whole for k, one in enumerate(deeper) if one is not None}
    gpu = setup_fields.training_setup()[1]
    return [page_text.depth_readout(whole.get(k, cost), speed.rates, gpu) for k, cost in enumerate(table.depths)]


def next_step(label: str, view: str, **query: str) -> None:
    """The page's first link onward, drawn as a button.

    A link and not a button with st.switch_page, which refuses to leave a page whose link holds a widget's value.

    Args:
        label: what it leads to.
        view: the page's file, without its ending.
        query: values of the link beyond those that go along anyway.
    """
    with st.container(key=f"{ONWARD}-first-{view}", width="content"):
        st.page_link(f"views/{view}.py", label=label, query_params=query or None)


def other_step(label: str, view: str, **query: str) -> None:
    """Another link onward, drawn as a lesser button; arguments as those of `next_step`."""
    with st.container(key=f"{ONWARD}-{view}", width="content"):
        st.page_link(f"views/{view}.py", label=label, query_params=query or None)


def chart_key(name: str) -> str:
    """The key of a chart's selection; apart from those of widgets, some of which share its name."""
    return f"{name}-chart"


def chart(name: str, title: str, caption: str, figure: go.Figure, term: str, **select: Any) -> None:
    """A figure with its title, what it shows, its numbers as a table, and its files.

    Args:
        name: of the chart on its page, and of its files.
        title: what it shows.
        caption: sample size, how it is made, what to see.
        figure: as drawn; its colors are fitted to the theme here.
        term: whose help stands beside the title.
        select: what a selection in it does, as st.plotly_chart takes it.
    """
    st.markdown(f"**{escaped(title)}**", help=TOOLTIPS[term])
    drawn = go.Figure(on_page(figure, dark_theme()), _validate=False)
    st.plotly_chart(
        drawn,
        theme=None,
        key=chart_key(name),
        alt=f"{title}. {caption}",
        config={
            "displaylogo": False,
            "toImageButtonOptions": {"format": "png", "filename": f"semfreeze-{name}", "scale": 2},
            "modeBarButtonsToRemove": ["autoScale2d", "zoomIn2d", "zoomOut2d"],
        },
        **select,
    )
    st.caption(escaped(caption))
    _numbers(name, title, figure)


def _numbers(name: str, title: str, figure: go.Figure) -> None:
    """The table twin and the files; made when asked for, so that they cost nothing until then."""
    popover = st.popover("Numbers and files", type="tertiary", key=f"{name}-numbers", on_change="rerun")
    if not popover.open:
        return
    with popover:
        table = numbers_of(figure)
        st.dataframe(table, hide_index=True, height=280, alt=f"{title}, as a table")
        left, right = st.columns(2)
        left.download_button("CSV", table.to_csv(index=False), f"semfreeze-{name}.csv", "text/csv", on_click="ignore")
        right.download_button(
            "HTML",
            lambda: figure_file(figure, title),
            f"semfreeze-{name}.html",
            "text/html",
            on_click="ignore",
        )
        st.caption("PNG: the camera above the chart.")


def figure_file(figure: go.Figure, title: str) -> str:
    """A figure as an HTML file of its own, under its title; the figure itself, which visitors share, stays as it is."""
    titled = go.Figure(figure)
    titled.update_layout(title=chart_text(title), margin={"t": 64})
    return figure_html(titled, include_plotlyjs=True)


def dark_theme() -> bool:
    """Whether the reader's theme is dark."""
    return st.context.theme.type == "dark"
