"""The frontier's points are the core's savings and coverage, and what is clicked carries its depth."""

from dataclasses import replace

import numpy as np
import pytest

from semfreeze_core.cost import cost_table
from semfreeze_core.plan import curve_of
from semfreeze_core.plan.decide import RULES
from semfreeze_core.plan.make import default_setup
from semfreeze_core.plan.opinions import gather_opinions
from semfreeze_dashboard.charts.frontier import draw_frontier, draw_selection, draw_slices


@pytest.fixture(scope="module")
def parts(example):
    run = example.run
    return cost_table(run.shape, default_setup(run)), curve_of(run, "semantic").coverage, gather_opinions(run).rules


@pytest.mark.parametrize(("saving", "field"), [("FLOP", "relative_flop"), ("memory", "relative_bytes")])
def test_draw_frontier_has_a_point_a_depth(parts, saving, field):
    prices, coverage, rules = parts
    points = draw_frontier(prices, coverage, rules, 12, saving).data[0]
    np.testing.assert_allclose(points.x, [100 * (1 - getattr(price, field)) for price in prices])
    np.testing.assert_allclose(points.y, coverage.mean)
    assert [k for k, _, _ in points.customdata] == list(range(len(prices)))


def test_draw_frontier_marks_every_rule_and_the_current_depth(parts):
    prices, coverage, rules = parts
    marks = {trace.name: trace for trace in draw_frontier(prices, coverage, rules, 12, "FLOP").data[1:]}
    for name, opinion in rules.items():
        assert marks[f"rule {name}: {opinion.candidate_depth}"].customdata[0][0] == opinion.candidate_depth
    assert marks["the current depth: 12"].x[0] == pytest.approx(100 * (1 - prices[12].relative_flop))


def test_draw_frontier_gives_every_rule_a_mark_of_its_own(parts):
    prices, coverage, rules = parts
    opinions = dict.fromkeys(RULES, rules["coverage"])
    marks = [t for t in draw_frontier(prices, coverage, opinions, 12, "FLOP").data if t.name.startswith("rule ")]
    assert len({(mark.marker.symbol, mark.marker.color) for mark in marks}) == len(RULES)


def test_draw_frontier_of_an_abstaining_rule_is_open(parts):
    prices, coverage, rules = parts
    doubtful = {"coverage": replace(rules["coverage"], freeze_depth=None)}
    mark = draw_frontier(prices, coverage, doubtful, 0, "FLOP").data[1]
    assert "no recommendation" in mark.name
    assert mark.marker.symbol.endswith("-open")


def test_draw_frontier_is_none_where_the_memory_is_not_known(parts):
    prices, coverage, rules = parts
    unknown = [replace(price, relative_bytes=None) for price in prices]
    assert draw_frontier(unknown, coverage, rules, 0, "memory") is None


def test_draw_slices_and_draw_selection_draw_what_they_are_given(parts):
    _, coverage, _ = parts
    drawn = draw_slices({"a": coverage, "b": coverage}, 3).data
    assert [trace.name for trace in drawn] == ["a", "b"]
    assert [t.name for t in draw_selection(coverage, None, "semantic", 3).data if t.name] == ["selected"]
