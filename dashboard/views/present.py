"""Present: one run's story for a meeting, a sentence and a picture at a time in large type, turned by arrow keys."""

import shlex
from collections.abc import Callable

import plotly.graph_objects as go
import streamlit as st

from semfreeze_core.errors import RunError
from semfreeze_core.plan.make import default_setup
from semfreeze_core.records.defaults import LORA_RANK, RULE
from semfreeze_core.records.gain import GainCurve
from semfreeze_core.records.training import LoraSetup
from semfreeze_core.wording.costs import flop_status_word, lora_name
from semfreeze_core.wording.escaping import terminal_text
from semfreeze_core.wording.numbers import CI, parameter_count
from semfreeze_core.wording.plan import depth_summary, stack_sentence
from semfreeze_core.wording.runs import contribution_sentence, distance_sentence
from semfreeze_core.wording.validation import finetune_conditions, measured_lines
from semfreeze_dashboard.charts import costs, curves, finetunes
from semfreeze_dashboard.charts.stack import stack_html
from semfreeze_dashboard.charts.theme import on_page
from semfreeze_dashboard.data import compute, estimates, finetune_results, link, projected, projections, run_choice
from semfreeze_dashboard.data.run_folder import OpenRun, server_catalog
from semfreeze_dashboard.panels import page, parts_panel
from semfreeze_dashboard.panels.top_bar import BAR
from semfreeze_dashboard.server.failures import guarded
from semfreeze_dashboard.text import page_text, validation_text
from semfreeze_dashboard.text.analysis_text import escaped
from semfreeze_dashboard.text.visitor_text import error_text

METRIC, PATHS, FONT = "semantic", 12, 18
# Nothing but the story: Streamlit has no setting for it. Its sizes follow the root's.
STYLE = f"""<style>
html {{ font-size: 21px }}
[data-testid=stSidebar], [data-testid=stSidebarCollapsedControl], [data-testid=stExpandSidebarButton],
header[data-testid=stHeader], [class*=st-key-{BAR}] {{ display: none }}
h1 {{ position: absolute; clip-path: inset(50%) }}
[data-testid=stMarkdown] h2 {{ font-size: 2rem }}
[data-testid=stMainBlockContainer] {{ padding-top: 1.5rem; padding-bottom: 1rem }}
</style>"""
# A link and not a button with st.switch_page, which refuses to leave a page whose link holds a widget's value.
LEAVE = "leave"
ESCAPE = f"""<script>
window.semfreezeLeave ??= addEventListener("keydown", event => {{
  if (event.key === "Escape") document.querySelector(".st-key-{LEAVE} a")?.click();
}}) || true;
</script>"""
Draw = Callable[[OpenRun, GainCurve, int], None]


def body() -> None:
    """The slide that the link names, and the keys to the next."""
    st.html(STYLE)
    try:
        opened = compute.read(server_catalog(), run_choice.open_run_name())
    except RunError as error:
        st.error(error_text(error))
        return
    page.hidden_metric(opened)
    curve = compute.curve(opened, METRIC)
    recommended = compute.comparison(opened, METRIC, None, None).rules[RULE].freeze_depth
    names = list(SLIDES)
    slide = link.slide(names)
    at = names.index(slide)
    # Above the slide, whose height changes, and before its name, whose length does: the buttons stay where they are.
    with st.container(horizontal=True, vertical_alignment="center"):
        turn = {"on_click": link.turn_to, "type": "tertiary"}
        st.button("Back", shortcut="Left", disabled=at == 0, args=(names[max(at - 1, 0)],), **turn)
        st.button("Next", shortcut="Right", disabled=slide == names[-1], args=(names[(at + 1) % len(names)],), **turn)
        with st.container(key=LEAVE, width="content"):
            st.page_link("views/home.py", label="Leave")
        st.caption(f"{escaped(opened.name)}, {at + 1} of {len(names)}: {slide}")
    st.html(ESCAPE, unsafe_allow_javascript=True)
    SLIDES[slide](opened, curve, recommended or 0)


def model_and_data(opened: OpenRun, curve: GainCurve, depth: int) -> None:
    """Model, data, and one example as it is."""
    manifest = opened.run.manifest
    model, data = manifest.model.identity, manifest.data
    asked = f"{page_text.model_name(model.source)} on {page_text.data_name(data.source)}"
    st.markdown(f"## Where to finetune: {escaped(asked)}")
    stack(curve.n_layers, None)
    for column, (title, value) in zip(
        st.columns(4),
        (
            ("Layers", str(curve.n_layers)),
            ("Parameters", parameter_count(opened.run.shape.total_parameters).removesuffix(" parameters")),
            ("Examples analyzed", f"{data.n_examples:,} of {data.n_usable:,}"),
            ("Target tokens", f"{data.n_supervised_tokens:,}"),
        ),
        strict=True,
    ):
        column.metric(title, value)
    first = opened.run.examples.iloc[0]
    left, right = st.columns(2)
    left.caption("A prompt")
    left.code(terminal_text(str(first["prompt"])[-600:]), language=None, wrap_lines=True)
    right.caption("Its completion")
    right.code(terminal_text(str(first["completion"])[:600]), language=None, wrap_lines=True)


def traces(opened: OpenRun, curve: GainCurve, depth: int) -> None:
    """The states on their way, played by its own button."""
    display = opened.run.display
    st.markdown(f"## {escaped(distance_sentence(display, curve, depth))}")
    if display is None:
        parts_panel.projection_to_come(opened)
        return
    points = projections.pca_points(display, 2)
    figure = projected.projection(opened, points, "label", METRIC, PATHS, (), depth, depth, curve)
    picture("projection", figure, page_text.pca_caption(display, len(points.positions), depth, True))


def gains(opened: OpenRun, curve: GainCurve, depth: int) -> None:
    """How much of the gain stays trained."""
    st.markdown(f"## {escaped(contribution_sentence(curve, depth))}")
    figure = curves.draw_coverage(curve, compute.scores(opened), depth)
    picture("coverage", figure, f"{curve.n_examples} examples; {CI}, bootstrap over examples.")


def cost(opened: OpenRun, curve: GainCurve, depth: int) -> None:
    """What the depth saves."""
    setup = default_setup(opened.run)
    table = estimates.depth_costs(opened, setup, LoraSetup(LORA_RANK))
    chosen, half = table.depths[depth], curve.n_layers // 2
    st.markdown(f"## {escaped(' '.join(depth_summary(depth, curve.n_layers, chosen)))}")
    st.markdown(escaped(page_text.alternative_line(table, depth)))
    alternatives = {
        f"freeze {depth}": chosen,
        "full finetuning": table.full,
        f"freeze half, {half}": table.depths[half],
    }
    alternatives[lora_name(table, LORA_RANK)] = table.lora
    left, right = st.columns(2)
    with left:
        picture("memory", costs.draw_memory_beside(alternatives), f"Device memory, {table.bytes_status}.")
    with right:
        status = flop_status_word(table.flop_status)
        picture("flop", costs.draw_flop_beside(alternatives), f"FLOPs per step. {status}.")


def validation(opened: OpenRun, curve: GainCurve, depth: int) -> None:
    """What finetunes showed, the newest validation; or that none has."""
    reports = list(finetune_results.validations(opened).values())
    st.markdown(f"## {escaped(validation_text.validation_sentence(reports[-1] if reports else None))}")
    if not reports:
        return
    settings, items = reports[-1].settings, reports[-1].baseline.n_items
    sets = page_text.data_name(settings.train), page_text.data_name(settings.eval)
    caption = f"{finetune_conditions(settings, items, *sets)} Intervals: {CI}."
    picture("kept", finetunes.draw_reduction_shares(reports[-1]), caption)


def plan(opened: OpenRun, curve: GainCurve, depth: int) -> None:
    """What to do on Monday."""
    comparison = compute.comparison(opened, METRIC, None, None)
    opinion = comparison.rules[RULE]
    st.markdown(f"## {escaped(page_text.start_sentence(opened.name, comparison))}")
    stack(curve.n_layers, opinion.freeze_depth)
    lines = measured_lines(finetune_results.validations(opened), opinion.freeze_depth, curve.n_layers)
    st.markdown("  \n".join(map(escaped, lines)))
    st.code(
        f"semfreeze plan {shlex.quote(opened.name)} --out plan.json\nsemfreeze export plan.json --to hf-trainer",
        language="bash",
    )


SLIDES: dict[str, Draw] = {
    "model and data": model_and_data,
    "traces": traces,
    "gains": gains,
    "price": cost,
    "proof": validation,
    "plan": plan,
}


def stack(n_layers: int, depth: int | None) -> None:
    """The layer stack."""
    st.html(stack_html(n_layers, depth, stack_sentence(n_layers, depth)))


def picture(name: str, figure: go.Figure, caption: str) -> None:
    """A figure in large type, without tools."""
    large = go.Figure(figure)
    height = large.layout.height or 340
    large.update_layout(font={"size": FONT}, legend={"font": {"size": FONT}}, height=max(520, round(1.25 * height)))
    large.for_each_annotation(lambda label: label.update(yshift=2.7 * (label.yshift or 0)))  # clear of thicker bars
    large.update_xaxes(title={"font": {"size": FONT}})
    large.update_yaxes(title={"font": {"size": FONT}})
    drawn = go.Figure(on_page(large, page.dark_theme(), tools=False), _validate=False)
    st.plotly_chart(drawn, theme=None, key=f"slide-{name}", alt=caption, config={"displayModeBar": False})
    st.caption(escaped(caption))


draw = guarded(body)
