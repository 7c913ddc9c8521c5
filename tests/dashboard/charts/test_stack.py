"""The layer stack says which layers are frozen, to those who see it and to those who do not."""

import re

import pytest

from semfreeze_dashboard.charts.stack import stack_html
from semfreeze_dashboard.charts.theme import FROZEN, GRAY, TRAINED


def cells(html):
    """State and style of every cell."""
    return re.findall(r'title="layer \d+: (\w+)" style="([^"]*)"', html)


def numbers(html):
    return re.findall(r">(\d+)<", html)


def test_stack_has_a_cell_a_layer_in_its_color_and_one_line_between():
    drawn = cells(stack_html(4, 1, "words"))
    assert [state for state, _ in drawn] == ["frozen", "trained", "trained", "trained"]
    assert [color in style for (_, style), color in zip(drawn, (FROZEN, *[TRAINED] * 3), strict=True)] == [True] * 4
    assert ["box-shadow" in style for _, style in drawn] == [False, True, False, False]


@pytest.mark.parametrize(("depth", "color"), [(None, GRAY), (0, TRAINED), (4, FROZEN)])
def test_stack_of_one_kind_of_layers_has_no_line(depth, color):
    html = stack_html(4, depth, "words")
    assert all(color in style for _, style in cells(html))
    assert "box-shadow" not in html


def test_stack_says_its_ends_and_what_they_hold():
    assert "input side: 1 frozen<" in stack_html(4, 1, "words")
    assert "3 trained, output side<" in stack_html(4, 1, "words")
    assert "frozen" not in stack_html(4, None, "words")


@pytest.mark.parametrize(("n_layers", "step"), [(1, 1), (12, 1), (13, 2), (30, 5), (80, 10), (2000, 2000)])
def test_stack_numbers_few_layers_and_the_first(n_layers, step):
    assert numbers(stack_html(n_layers, 0, "words")) == [str(layer) for layer in range(0, n_layers, step)]


def test_stack_tells_its_words_and_nothing_else_with_them():
    assert 'role="img" aria-label="a &quot;b&quot; &lt;c&gt;"' in stack_html(4, 1, 'a "b" <c>')
