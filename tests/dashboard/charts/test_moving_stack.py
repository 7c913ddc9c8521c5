"""The stack in motion ends as the still one: so many layers frozen, and bars as long as the shares."""

import re

from semfreeze_dashboard.charts.moving_stack import Meter, moving_stack_html
from semfreeze_dashboard.charts.theme import FROZEN, TRAINED

METERS = [Meter("Freeze 1", "2 h", "30 min", 0.25), Meter("Freeze 1", "8 GiB", "<b>", 1.5)]


def test_layers_below_the_depth_freeze_one_after_another():
    html = moving_stack_html(3, 2, [], "", "words")
    layers = re.findall(r'class="(sf-layer[^"]*)" title="layer (\d)" style="animation-delay:([\d.]+)s"', html)
    assert [(kind, layer) for kind, layer, _ in layers] == [
        ("sf-layer sf-frozen", "0"),
        ("sf-layer sf-frozen", "1"),
        ("sf-layer", "2"),
    ]
    delays = [float(delay) for *_, delay in layers]
    assert delays == sorted(delays)
    assert f"from {{ background: {TRAINED} }} to {{ background: {FROZEN} }}" in html
    assert "1 trained, output side" in html
    assert "2 frozen, input side" in html


def test_bars_are_as_long_as_the_shares_and_never_longer_than_full_finetunings():
    html = moving_stack_html(3, 1, METERS, "a < b", 'say "so"')
    assert re.findall(r"width:(\d+)%", html.split("<style>")[0]) == ["25", "100"]
    assert "<b>" not in html
    assert "a &lt; b" in html
    assert 'aria-label="say &quot;so&quot;"' in html


def test_those_who_ask_for_less_motion_see_how_it_ends():
    assert "@media (prefers-reduced-motion: reduce) { .sf-moving * { animation: none !important } }" in (
        moving_stack_html(3, 0, [], "", "")
    )
