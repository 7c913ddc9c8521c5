"""Every page for every eye: at no width does anything lie on anything else, and axe's rules hold, in light and dark."""

import pytest

axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe, of the extra `dev`")
PAGES = [
    "",
    "data",
    "data?do=New+analysis",
    "analyze?controls=true&law=true&groups=true",
    "analyze?space=3-D",
    "estimate?gpu=RTX+4090&freeze=21",
    "decide?rules=true&frontier=true&gpus=true",
    "prove?prove=true&figures=true",
    "use?trainer=axolotl",
    "library",
    "present",
]
WIDTHS = (420, 600, 800, 1000, 1200, 1400)
# In pixels: how far two words of a chart may reach into each other's line, which has room above and below its letters.
FAULTS = """
() => {
    const faults = [], [across, down, least] = [1, 2, 120]
    const root = document.documentElement, main = document.querySelector('[data-testid=stMain]')
    for (const [name, part] of [['window', root], ['page', main]])
        if (part.scrollWidth > part.clientWidth) faults.push(`the ${name} scrolls sideways`)
    const inSight = part => part.checkVisibility({visibilityProperty: true})
    for (const choices of [...document.querySelectorAll('[role=radiogroup]')].filter(inSight))
        if (choices.scrollWidth > choices.clientWidth + 1) faults.push(`cut off: ${choices.innerText}`)
    for (const metric of document.querySelectorAll('[data-testid=stMetric] *'))
        if (metric.scrollWidth > metric.clientWidth + 1 && getComputedStyle(metric).textOverflow === 'ellipsis')
            faults.push(`cut off: ${metric.innerText}`)
    for (const chart of document.querySelectorAll('.js-plotly-plot')) {
        if (chart.closest('details:not([open])')) continue  // closed, and drawn at its last width
        const frame = chart.getBoundingClientRect()
        const visible = text => text.getBoundingClientRect().width && getComputedStyle(text).visibility !== 'hidden'
        const shown = [...chart.querySelectorAll('text')].filter(text => text.textContent.trim() && visible(text))
        const words = shown.map(text => [text.textContent, text.getBoundingClientRect()])
        for (const drag of chart.querySelectorAll('.nsewdrag')) {
            const plot = drag.getBoundingClientRect()
            if (plot.width < least) faults.push(`a plot of ${plot.width} pixels`)
            const legend = chart.querySelector('.legend')?.getBoundingClientRect()
            if (legend && legend.bottom > plot.top + down && legend.top < plot.bottom) faults.push('a legend on a plot')
        }
        words.forEach(([text, box], i) => {
            if (box.left < frame.left - across || box.right > frame.right + across) faults.push(`cut off: ${text}`)
            for (const [other, its] of words.slice(i + 1)) {
                const wide = Math.min(box.right, its.right) - Math.max(box.left, its.left)
                const high = Math.min(box.bottom, its.bottom) - Math.max(box.top, its.top)
                if (wide > across && high > down) faults.push(`${text} lies on ${other}`)
            }
        })
    }
    return faults
}
"""

# Colors of Streamlit's own highlighting of code, which a theme does not reach.
LEFT_OUT = {"exclude": [[".token"]]}


def faults(reader):
    """What is wrong with the page, and still is once a slow machine had time to draw it."""
    reader.settle()
    if overlaps := reader.window.evaluate(FAULTS):
        reader.window.wait_for_timeout(1000)
        reader.settle()
        overlaps = reader.window.evaluate(FAULTS)
    return overlaps


def broken_rules(reader, options):
    """Of axe's rules, those that the page breaks: about contrast, labels and roles."""
    reader.settle()
    violations = axe.Axe().run(reader.window, context=LEFT_OUT, options=options).response["violations"]
    return [(rule["id"], rule["nodes"][0]["html"][:120]) for rule in violations]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_nothing_lies_on_anything_else_at_any_width_and_no_rule_of_axe_is_broken(reader, page):
    window, problems = reader.window, []
    window.goto(f"{reader.address}/{page}")
    shown = window.get_by_role("heading").or_(window.get_by_role("button", name="Analyze")).first
    shown.wait_for()
    for width in reversed(WIDTHS):  # one window made narrower and wider again: charts have to be drawn anew each time
        window.set_viewport_size({"width": width, "height": 900})
        problems += [(width, fault) for fault in faults(reader)]
    window.set_viewport_size({"width": WIDTHS[-1], "height": 900})
    problems += [("wide again", fault) for fault in faults(reader)]
    if page.startswith("decide"):
        window.get_by_text("Training setup", exact=True).click()
        window.get_by_text("Default", exact=True).hover()  # the lit preset, as it looks under the pointer
    problems += broken_rules(reader, {})
    window.emulate_media(color_scheme="dark")
    window.reload()  # Streamlit keeps the ink of buttons where the theme changes under an open page
    shown.wait_for()
    problems += broken_rules(reader, {"runOnly": ["color-contrast"]})
    assert problems == []
    assert reader.complaints == []
