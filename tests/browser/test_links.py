"""Depth and training setup on the way through all pages: no page drops them, and a click is one stop in the history."""

from urllib.parse import parse_qs, urlsplit

import pytest

from tests.browser.test_dashboard import go

SET = {
    "depth": ["12"],
    "metric": ["logit_z"],
    "batch": ["4"],
    "micro": ["2"],
    "optimizer": ["sgd"],
    "cache": ["false"],
    "rule": ["paper"],
    "objective": ["memory"],
    "memory": ["6"],
}
PAGES = ("Data", "Prove", "Library", "Present", "Analyze", "Use", "Decide", "Library")
LOOK, IMPATIENCE = 1500, 200  # milliseconds before a page that Back or Forward leads to is left

# What a page complains of that is left at once: its download is gone, its charts have no size any more.
LEFT_PAGES = (
    "Download Button source error",
    "<rect> attribute width: A negative value",
    '<text> attribute y: Expected length, "-Infinity"',
)


def asked(window):
    return parse_qs(urlsplit(window.url).query)


@pytest.mark.slow
@pytest.mark.parametrize("reader", [{"width": 700}], indirect=True, ids=["narrow"])  # the harder: links are hidden
def test_no_page_drops_what_another_set_and_a_click_is_one_stop(reader):
    window = reader.window
    reader.open(
        "decide?depth=12&metric=logit_z&batch=4&micro=2&optimizer=sgd&cache=false&rule=paper&objective=memory&memory=6"
    )
    stops = window.evaluate("history.length")
    way = []
    for page in PAGES:
        way.append(window.url)
        # Present and narrow windows hide the links beside the page, which are there all the same.
        window.locator(f"a[data-testid=stSidebarNavLink][href$='/{page.lower()}']").evaluate("link => link.click()")
        window.wait_for_url(f"**/{page.lower()}**")
        reader.settle()
        assert asked(window) == SET, page
        assert window.evaluate("history.length") == stops + len(way), page
    window.reload()
    window.get_by_role("img", name="Layer stack").first.wait_for()
    reader.settle()
    assert asked(window) == SET, "reloaded"
    for step in ("go_back", "go_forward"):
        for _ in way:
            getattr(window, step)()
            window.wait_for_timeout(LOOK)
            reader.settle()
            assert asked(window) == SET
    for step in ("back", "forward"):
        for _ in way:  # sooner than the server can answer
            window.evaluate(f"history.{step}()")
            window.wait_for_timeout(IMPATIENCE)
        reader.settle()
        assert asked(window) == SET, step
        assert window.get_by_role("dialog").count() == 0, step
        window.wait_for_timeout(LOOK)
        last = way[0] if step == "back" else f"{reader.address}/{PAGES[-1].lower()}"
        assert urlsplit(window.url).path == urlsplit(last).path
    for step in ("go_back", "go_forward"):  # none of the pages that were passed has lost anything
        for _ in way:
            getattr(window, step)()
            assert asked(window) == SET, window.url
            window.wait_for_timeout(IMPATIENCE)
    window.go_back()
    reader.settle()
    assert reader.sentence.startswith("Freeze the first 12 of 30 layers")
    assert window.evaluate("history.length") == stops + len(way)
    assert [line for line in reader.complaints if not any(left in line for left in LEFT_PAGES)] == []


@pytest.mark.slow
def test_links_on_pages_carry_the_depth_along_and_escape_leaves(reader):
    window = reader.window
    reader.open("?depth=12&batch=4")
    stops = window.evaluate("history.length")
    window.get_by_role("link", name="Choose how deep").click()
    window.wait_for_url("**/decide**")
    reader.settle()
    assert reader.sentence.startswith("Freeze the first 12 of 30 layers")
    window.get_by_role("link", name="Test this depth by a real finetune").click()
    window.wait_for_url("**/prove**")
    reader.settle()
    assert asked(window) == {"depth": ["12"], "batch": ["4"], "prove": ["true"]}
    assert window.get_by_role("spinbutton", name="Freeze depth").input_value() == "12"
    assert window.evaluate("history.length") == stops + 2
    go(reader, "Present")
    assert not window.get_by_role("slider").is_visible()
    window.keyboard.press("Escape")
    window.get_by_role("link", name="Prove").last.wait_for()
    reader.settle()
    assert urlsplit(window.url).path == "/"
    assert asked(window)["depth"] == ["12"]
    assert reader.complaints == []
