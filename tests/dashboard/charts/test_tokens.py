"""The heatmap of an example's tokens: a line where freezing ends, and a cell that can be clicked."""

import pandas as pd
import pytest

from semfreeze_dashboard.charts.theme import ink
from semfreeze_dashboard.charts.tokens import CELL, draw_tokens

TABLE = pd.DataFrame(
    {
        "token": ["1: a"] * 4,
        "space": range(4),
        "deviation": [0.9, 0.8, 0.5, 0.1],
        "truth": "a",
        "first read": "b",
        "read": "b  a",
        "truth among them": True,
    }
)


@pytest.mark.parametrize(("depth", "drawn"), [(2, [{"space": 2}]), (0, []), (3, [{"space": 3}])])
def test_a_line_stands_where_freezing_ends(depth, drawn):
    spec = draw_tokens(TABLE, depth, "semantic", dark=False).to_dict()
    cells, edges, line = spec["layer"]
    for rule in (edges, line):
        assert rule["mark"]["type"] == "rule"
        assert rule["encoding"]["x"]["bandPosition"] == 0  # the left edge of the first trained layer's space
        assert spec["datasets"][(rule.get("data") or spec["data"])["name"]] == drawn
    assert line["mark"]["strokeWidth"] < edges["mark"]["strokeWidth"]
    assert cells["mark"]["type"] == "rect"
    assert [p["name"] for p in spec.get("params", cells.get("params", []))] == [CELL]


def test_the_line_is_in_the_ink_of_the_page_and_its_edges_are_not():
    inks = [[r["mark"]["color"] for r in draw_tokens(TABLE, 2, "semantic", dark).to_dict()["layer"][1:]]
            for dark in (False, True)]  # fmt: skip
    assert inks == [[ink(True), ink(False)], [ink(False), ink(True)]]
