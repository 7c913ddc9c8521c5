"""The table beside a chart is what the chart draws."""

import numpy as np

from semfreeze_core.cost import cost_table, full_cost
from semfreeze_core.plan import curve_of
from semfreeze_core.plan.make import default_setup
from semfreeze_dashboard.charts.costs import draw_flop_beside, draw_memory_beside
from semfreeze_dashboard.charts.curves import draw_first_and_later, draw_gains, draw_law, draw_law_residuals
from semfreeze_dashboard.charts.frontier import draw_slices
from semfreeze_dashboard.charts.numbers import numbers_of
from semfreeze_dashboard.charts.theme import FROZEN, INK, TRAINED, figure_html, new_figure, on_page
from semfreeze_dashboard.panels.page import figure_file


def test_numbers_of_a_curve_have_its_interval(example):
    curve = curve_of(example.run, "semantic")
    table = numbers_of(draw_first_and_later(curve.advantage, curve.deviation, "semantic", 4))
    later = table[table["series"] == "later tokens"]
    np.testing.assert_allclose(later["semantic advantage"], curve.deviation.mean)
    np.testing.assert_allclose(later["low"], curve.deviation.low)
    np.testing.assert_allclose(later["high"], curve.deviation.high)


def test_the_file_of_a_chart_leaves_the_chart_as_it_is(example):
    figure = draw_gains(curve_of(example.run, "semantic"), 4)
    before = figure.to_json()
    page = figure_file(figure, "Gains <b>")
    assert "Gains " in page
    assert page.count("Gains ") > figure.to_html(include_plotlyjs=False).count("Gains ")
    assert figure.to_json() == before


def test_a_file_of_a_chart_has_the_ground_and_lines_that_a_page_gives_it():
    figure = new_figure("", "")
    assert '"paper_bgcolor":"white"' in figure_html(figure, include_plotlyjs=False)
    assert "paper_bgcolor" not in figure.to_json()


def test_numbers_name_series_as_people_named_them(example):
    curve = curve_of(example.run, "semantic")
    name = "a <b> & c\u202e"
    figure = draw_slices({name: curve.coverage}, 4)
    assert [trace.name for trace in figure.data if trace.showlegend is None] == [r"a &lt;b&gt; &amp; c\u202e"]
    assert set(numbers_of(figure)["series"]) == {r"a <b> & c\u202e"}


def test_numbers_of_bars_have_their_whiskers(example):
    curve = curve_of(example.run, "semantic")
    table = numbers_of(draw_gains(curve, 4))
    trained = table[table["series"] == "contribution, layer trained"]
    np.testing.assert_allclose(trained["low"], curve.gain.low[4:])
    np.testing.assert_allclose(trained["high"], curve.gain.high[4:])


def test_numbers_of_alternatives_add_up_to_their_totals(example):
    setup = default_setup(example.run)
    named = {"freeze 3": cost_table(example.run.shape, setup)[3], "full": full_cost(example.run.shape, setup)}
    memory = numbers_of(draw_memory_beside(named)).groupby("y")["projected memory, GiB"].sum()
    flop = numbers_of(draw_flop_beside(named)).groupby("y")["first step, TFLOPs"].sum()
    for name, cost in named.items():
        np.testing.assert_allclose(memory[name], cost.bytes.total / 2**30)
        np.testing.assert_allclose(flop[name], cost.step_flop.total / 1e12)


def test_draw_law_shows_what_the_law_leaves_over(example):
    curve = curve_of(example.run, "semantic")
    drawn = {trace.name: trace.y for trace in draw_law(curve, 4).data if trace.name}
    left_over = {trace.name: trace.y for trace in draw_law_residuals(curve, 4).data if trace.name}
    np.testing.assert_allclose(drawn["scaling law"][1:] + left_over["measured - fitted"], curve.advantage.mean[1:])


def test_on_page_turns_the_ink_light_on_a_dark_page_and_keeps_frozen_and_trained():
    figure = new_figure("", "").add_bar(y=[1, 1], marker_color=[FROZEN, TRAINED])
    light, dark = on_page(figure, False), on_page(figure, True)
    assert light["layout"]["font"]["color"] == INK
    assert dark["layout"]["font"]["color"] != INK
    assert light["data"] == dark["data"]
