"""Library: the open run held against others, predicted against measured over all of them, and the runs in order."""

import streamlit as st

from semfreeze_core.plan.compare import MOST_RUNS
from semfreeze_core.records.defaults import RULE
from semfreeze_core.wording.calibration import BUNDLED_CALIBRATION, calibration_sentence
from semfreeze_core.wording.comparison import (
    BAND_NOTE,
    COST_NOTE,
    comparison_table,
    depths_sentence,
    difference_sentence,
)
from semfreeze_core.wording.numbers import CI, counted
from semfreeze_core.wording.plan import stack_sentence
from semfreeze_dashboard.charts import compared
from semfreeze_dashboard.charts.stack import stack_html
from semfreeze_dashboard.data import compute, finetune_results, link
from semfreeze_dashboard.data.run_folder import server_catalog
from semfreeze_dashboard.panels import page
from semfreeze_dashboard.panels.runs_panel import runs_panel
from semfreeze_dashboard.text import page_text
from semfreeze_dashboard.text.analysis_text import escaped
from semfreeze_dashboard.text.tooltips import TOOLTIPS
from semfreeze_dashboard.text.visitor_text import error_text, visitor_file, visitor_text

PLACES = f"{CI}, bootstrap over examples; diamonds: the depth of each plan."
ALL_AT_ONCE = f"{BAND_NOTE} Where a band excludes 0, the runs differ significantly."


def body() -> None:
    """Who is compared, what they say, their curves, then calibration and the runs."""
    ctx = page.page_context()
    others = [name for name in server_catalog().names if name != ctx.opened.name]
    chosen = st.multiselect(
        "Compare with", others, max_selections=MOST_RUNS - 1, width=520, help=TOOLTIPS["compare"],
        placeholder="other runs", **link.in_link("with"),
    )  # fmt: skip
    if chosen:
        side_by_side(ctx, chosen)
    else:
        depth = compute.comparison(ctx.opened, ctx.metric, None, None).rules[RULE].freeze_depth
        page.header(ctx, depth, f"Compare {ctx.opened.name} with other runs.")
        st.info(page_text.COMPARE_WITH if others else page_text.NOTHING_TO_COMPARE)
    calibration()
    runs_panel()


def side_by_side(ctx: page.PageContext, chosen: list[str]) -> None:
    """Depths as layer stacks, the table, the curves, and where they differ."""
    names = [ctx.opened.name, *chosen]
    comparison = compute.side_by_side(server_catalog(), tuple(names), ctx.metric)
    with ctx.top:
        page.conclusion(depths_sentence(comparison))
        for column in comparison.columns:
            depth = column.opinion.freeze_depth
            st.caption(f"**{escaped(column.name)}**: {escaped(page_text.run_sentence(column.run))}")
            st.html(stack_html(column.curve.n_layers, depth, stack_sentence(column.curve.n_layers, depth)))
    models = [column.run.manifest.model.identity.source for column in comparison.columns]
    for warning in comparison.warnings:
        st.warning(escaped(visitor_text(visitor_file(warning, models))))
    validations = {
        column.name: finetune_results.named_validations(server_catalog(), column.name) for column in comparison.columns
    }
    rows = [
        {title: visitor_text(cell) for title, cell in row.items()}
        for row in comparison_table(comparison, validations).dicts()
    ]
    st.dataframe(rows, hide_index=True, alt="The plan of every run, its estimated cost, and what finetunes measured")
    st.caption(COST_NOTE)

    left, right = st.columns(2)
    with left:
        figure = compared.draw_coverages(comparison.columns)
        page.chart(
            "coverages",
            "Coverage: the share of the layer contributions that stays trained",
            PLACES,
            figure,
            "gain coverage",
        )
    with right:
        figure = compared.draw_advantages(comparison.columns)
        page.chart("advantages", "How far each run's states are from chance", PLACES, figure, "advantage")
    quantity = st.segmented_control(
        "Difference of", ("gain coverage", "advantage"), default="gain coverage", required=True,
        help=TOOLTIPS["difference"], **link.in_link("difference"),
    )  # fmt: skip
    differences = {name: pair[quantity or "gain coverage"] for name, pair in comparison.differences.items()}
    first = comparison.columns[0].name
    figure = compared.draw_differences(differences, str(quantity))
    page.chart("differences", f"Less {first}'s", ALL_AT_ONCE, figure, "difference")
    for name, difference in differences.items():
        st.markdown(escaped(difference_sentence(name, first, quantity or "gain coverage", difference)))


def calibration() -> None:
    """Predicted against measured over every finetune that is kept."""
    folder = server_catalog().folder
    st.markdown("### Were predictions right?")
    report = finetune_results.calibration_of_example() if folder is None else finetune_results.calibration(folder)
    for problem in report.problems:
        st.warning(error_text(problem))
    origin = "of the bundled example" if folder is None else f"kept in {visitor_text(str(folder))}"
    if folder is not None and not report.pairs:
        st.info(page_text.NO_FINETUNES)
        st.markdown(BUNDLED_CALIBRATION)
        report, origin = finetune_results.calibration_of_example(), "of the bundled example"
    shares = [pair for pair in report.pairs if pair.quantity.startswith("coverage")]
    n = len({pair.finetune for pair in shares})
    caption = f"{len(shares)} shares from {counted(n, 'finetune')} {origin}. Each finetune is one look, not many."
    if not shares:
        st.info(page_text.NO_SHARES)
    else:
        page.chart(
            "calibration",
            "Loss reduction kept: predicted and measured",
            caption,
            compared.draw_calibration(shares),
            "kept",
        )
    for fit in report.calibrations:
        st.markdown(escaped(calibration_sentence(fit)))


draw = page.as_fragment(body)
