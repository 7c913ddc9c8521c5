"""The hidden states of shown positions on their way through the model, the selection among them, and their tokens."""

from typing import get_args

import pandas as pd
import streamlit as st

from semfreeze_core.wording.escaping import terminal_text
from semfreeze_core.wording.numbers import CI

from ..charts import frontier, tokens
from ..charts.projection import Coloring
from ..data import compute, link, position_table, projected, projections, selections
from ..text import page_text
from ..text.tooltips import TOOLTIPS
from . import page, parts_panel, umap_panel

PROJECTION, ROWS, CELLS = "projection", "rows", "cells"
KINDS, AXES = ("PCA", "UMAP"), ("2-D", "3-D")
FEW, MOST_PATHS = 12, 40


def projection_chart(ctx: page.PageContext, depth: int) -> None:
    """The projection, opened where the reader was when the selection was made."""
    display, selected = ctx.opened.run.display, selections.selection(ctx.opened.name)
    title, term = "Hidden states in one projection, layer by layer", "projection"
    with ctx.choices:
        kind = kind_choice()
        if kind == "UMAP":
            umap, axes = umap_panel.umap_settings(), "2-D"
        else:
            umap, axes = None, axes_choice()
        color, paths = color_choice(), paths_choice()
    with page.hidden("projection"):  # the other kind's
        if kind == "UMAP":
            link.keep_choice("space", AXES)
        else:
            umap_panel.keep_umap_settings()
    if display is None:
        st.markdown(f"**{title}**", help=TOOLTIPS[term])
        parts_panel.projection_to_come(ctx.opened)
        return
    space = selected.space if selected and selected.depth == depth else depth
    flat = axes == "2-D"
    if umap is not None:
        projection = umap_panel.umap_or_offer(ctx.opened, umap)
        if projection is None:
            return
        points, caption = projections.umap_points(projection), page_text.umap_caption(display, projection, space)
        title, term = "Hidden states laid out by UMAP, layer by layer", "umap"
    else:
        points = projections.pca_points(display, 2 if flat else 3)
        caption = page_text.pca_caption(display, len(points.positions), space, flat)
    chosen = selected.positions if selected else ()
    curve = page.selected_curve(ctx)
    figure = projected.projection(ctx.opened, points, color, ctx.metric, paths, chosen, space, depth, curve)
    name = f"{PROJECTION}-{kind}-{selections.selections_made()}"

    def keep_selection() -> None:
        clicked = [point for point in selections.clicked(page.chart_key(name)) if point.get("customdata")]
        if clicked:
            chosen = sorted({int(point["customdata"][0]) for point in clicked})
            first = clicked[0]
            at = points.space_of(int(first["customdata"][0]), first["x"], first["y"])
            selections.keep_selection(selections.Selection(ctx.opened.name, tuple(chosen), at, depth))

    select = {"on_select": keep_selection, "selection_mode": ("lasso", "box")} if flat else {}
    page.chart(name, title, caption, figure, term, **select)


def kind_choice() -> str:
    """How states are projected."""
    return str(
        st.segmented_control(
            "Projection", KINDS, default=KINDS[0], required=True, help=TOOLTIPS["projection kind"],
            **link.in_link("projection"),
        )
    )  # fmt: skip


def axes_choice() -> str:
    """How many components are drawn."""
    return str(st.segmented_control("Axes", AXES, default=AXES[0], required=True, **link.in_link("space")))


def color_choice() -> Coloring:
    """What colors mean."""
    colorings = get_args(Coloring)
    chosen: Coloring = st.segmented_control(
        "Color", colorings, default="label", required=True, help=TOOLTIPS["color"], **link.in_link("colour")
    )
    return chosen


def paths_choice() -> int:
    """How many positions have their way drawn."""
    return int(
        st.number_input("Trajectories", 0, MOST_PATHS, FEW, width=150, help=TOOLTIPS["paths"], **link.in_link("paths"))
    )


def keep_choices() -> None:
    """Hold on to the panel's widgets in the link."""
    link.keep_choice("projection", KINDS)
    umap_panel.keep_umap_settings()
    link.keep_choice("space", AXES)
    link.keep_choice("colour", get_args(Coloring))
    link.keep_number("paths", 0, MOST_PATHS, FEW)


def selection(ctx: page.PageContext, depth: int) -> None:
    """The selected positions' own curve and rows; or all that were read out, once they are there."""
    run, display = ctx.opened.run, ctx.opened.run.display
    if display is None:
        return
    selected = selections.selection(ctx.opened.name)
    chosen = selected.positions if selected else ()
    if chosen:
        bands = compute.selection_bands(ctx.opened, ctx.metric, chosen)
        caption = (
            f"{len(chosen):,} selected of {len(display.example):,} shown positions; {CI}, bootstrap over the "
            "examples they are of."
        )
        figure = frontier.draw_selection(*bands, ctx.metric, depth)
        page.chart("selection", "Deviation of the selection", caption, figure, "deviation")
        st.markdown("**Selected positions: click a row for its example**")
    else:
        st.markdown("**Target tokens, and what the model predicts: click a row for its example**")
    shown = chosen or list(range(len(display.read_top)))
    rows = position_table.position_rows(run, ctx.metric, shown)
    picked = st.dataframe(rows, key=ROWS, hide_index=True, height=260, on_select="rerun", selection_mode="single-row",
                          alt="Positions with their example, truth and what the model says")  # fmt: skip
    st.download_button("CSV", rows.to_csv(index=False), "semfreeze-positions.csv", "text/csv", on_click="ignore")
    row = picked.selection.rows[0] if picked.selection.rows else 0
    example = int(display.example[shown[min(row, len(shown) - 1)]])
    drill_down(ctx, depth, example)


def drill_down(ctx: page.PageContext, depth: int, example: int) -> None:
    """One example: prompt and reference, and its tokens through all spaces."""
    run, display = ctx.opened.run, ctx.opened.run.require_display()
    positions = position_table.read_out_positions(display, example)
    example_row = run.examples.iloc[example]
    st.markdown(
        f"**Example {example} (row {example_row['row']} of the data), token by token**",
        help=TOOLTIPS["space"],
    )
    left, right = st.columns(2)
    left.caption("Prompt")
    left.code(terminal_text(example_row["prompt"]), language=None, wrap_lines=True)
    right.caption("Reference completion")
    right.code(terminal_text(example_row["completion"]), language=None, wrap_lines=True)
    if not len(positions):
        read = len(pd.unique(display.example[: len(display.read_top)]))
        st.info(f"This example's tokens were not read out; those of {read} examples were. Click another row.")
        return
    table = tokens.token_table(display, positions, ctx.metric)
    st.altair_chart(
        tokens.draw_tokens(table, depth, ctx.metric, page.dark_theme()),
        key=CELLS,
        on_select="rerun",
        selection_mode=tokens.CELL,
        alt="Deviation of each token at each hidden state",
    )
    st.caption(
        f"The first {len(positions)} target tokens. Brighter is nearer the target; freezing ends at the "
        "line. Click a cell."
    )
    for cell in selections.clicked(CELLS, tokens.CELL):
        matches = table[(table["token"] == cell["token"]) & (table["space"] == cell["space"])]
        for _, cell_row in matches.iterrows():
            st.markdown(page_text.cell_sentence(cell_row))
