"""Speed of the dashboard as a person at it meets it: an installed Chromium on the shipped example.

`python -m tests.benchmarks.dashboard_speed [--repeats 9] [--out FILE]` starts servers of its own on an empty folder of
runs and times, on the page's own clock:

    listening             from starting the server until it answers
    first paint, cold     from navigation to the conclusion and the layer stack: a fresh server, an empty profile
    first paint, second   the same for the next visitor: a used server, an empty profile
    first paint, again    the same in the profile of the second, which has the scripts
    paint, PAGE           the same for another page, in a profile that has the scripts, on a used server
    slider, answered      Decide: from the browser's message to the last of the server's answer
    slider, sentence      Decide: from the key to the changed conclusion
    slider, redrawn       Decide: from the key to the last of the charts
    play                  Analyze: from the click until all hidden states were shown
    play, drawn           Analyze: pictures a second while playing in which a point had moved
    lasso                 Analyze: from letting go of about 800 points, counted below it, to their curve

Chromium has no GPU here and shares the cores with the server; the machine's load before and after is reported.
One JSON document goes to FILE, a table to stdout.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import time
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import Browser, BrowserContext, Page

from semfreeze_core.storage import write_atomically
from tests.browser.served import chromium, served

RESULTS = Path(__file__).parent / "results" / "dashboard_speed.json"
PACKAGES = ("streamlit", "plotly", "playwright")
# Without the flags of the tests, whose emulated card is slow: the first chart took 6.0 s with them, 3.5 s without.
FLAGS = ["--no-sandbox"]
SPACES, LASSOED, MOVES = 31, 800, 9
UNITS = {"play, drawn": "pictures per second", "lasso, points": "points"}
CONCLUSION = "document.querySelector('h2')?.textContent"
STACK = '[role=img][aria-label^="Layer stack"]'
# The stack that can be dragged stands in a tree of its own, which a query of the page does not enter.
PAINTED = (
    f"{CONCLUSION} && (document.querySelector('{STACK}')"
    f" || [...document.querySelectorAll('.st-key-layer-stack *')].some(e => e.shadowRoot?.querySelector('{STACK}')))"
)
PAGES = {"data": CONCLUSION, "analyze": PAINTED, "decide": PAINTED, "prove": PAINTED, "use": PAINTED}

# On every page, before its own scripts: when a condition came true, and when messages went and came.
WATCH = """
window.since = (moment, condition) => new Promise(done => {
    const look = setInterval(() => {
        if (!condition()) return;
        clearInterval(look);
        requestAnimationFrame(() => done((performance.now() - moment) / 1000));
    }, 4);
});
window.messages = {sent: 0, received: 0};
const Plain = window.WebSocket;
window.WebSocket = class extends Plain {
    constructor(...to) {
        super(...to);
        this.addEventListener('message', () => { window.messages.received = performance.now(); });
    }
    send(data) {
        window.messages.sent = performance.now();
        super.send(data);
    }
};
"""

MOVE = """
() => {
    const before = document.querySelector('h2').textContent;
    const state = () => document.querySelector('[data-testid=stApp]').dataset.testScriptState;
    let redrawn = 0;  // when a chart was last touched
    const watch = new MutationObserver(changes => {
        if (changes.some(change => change.target.closest?.('[role=figure]'))) redrawn = performance.now();
    });
    watch.observe(document.querySelector('[data-testid=stMain]'), {subtree: true, childList: true, attributes: true});
    window.messages.sent = 0;
    window.move = new Promise(done => document.addEventListener('keydown', async () => {
        const pressed = performance.now();
        const sentence = await window.since(pressed, () => document.querySelector('h2').textContent !== before);
        await window.since(pressed, () => redrawn && state() === 'notRunning' && performance.now() - redrawn > 600);
        watch.disconnect();
        const {sent, received} = window.messages;
        done({answered: (received - sent) / 1000, sentence, redrawn: (redrawn - pressed) / 1000});
    }, {capture: true, once: true}));
}
"""

PLAY = """
cloud => {
    const label = () => cloud.querySelector('.slider-label').textContent;
    const place = () => cloud.querySelector('.scatterlayer .point').getAttribute('transform');
    let drawn = 0, before = place(), frames = 0;
    const plot = cloud.querySelector('.js-plotly-plot') ?? cloud;
    plot.on('plotly_animatingframe', () => { frames += 1; });
    window.played = new Promise(done => cloud.addEventListener('click', () => {
        const clicked = performance.now();
        const look = () => {
            const now = place();
            if (now !== before) { drawn += 1; before = now; }
            requestAnimationFrame(look);
        };
        look();
        plot.on('plotly_animated', () => {
            const seconds = (performance.now() - clicked) / 1000;
            done({seconds, drawn: drawn / seconds, frames});
        });
    }, {capture: true, once: true}));
}
"""

# Corners of a box around the leftmost `count` of all points, in the window's pixels.
CORNERS = """
([cloud, count]) => {
    const plot = cloud.querySelector('.js-plotly-plot') ?? cloud;
    const {xaxis, yaxis} = plot._fullLayout, box = cloud.querySelector('.draglayer .nsewdrag').getBoundingClientRect();
    const points = plot._fullData.filter(trace => trace.mode === 'markers' && trace.customdata);
    const x = points.flatMap(trace => [...trace.x]).sort((a, b) => a - b);
    const right = box.x + xaxis.l2p((x[count - 1] + x[count]) / 2);
    return [box.x + 2, box.y + 2, right, box.bottom - 2];
}
"""

LET_GO = """
() => {
    window.lassoed = new Promise(done => document.addEventListener('mouseup', async () => {
        const curve = '[role=figure][aria-label^="Deviation of the selection"] .main-svg .trace';
        done(await window.since(performance.now(), () => document.querySelector(curve)));
    }, {capture: true, once: true}));
}
"""


def opened(context: BrowserContext, address: str, link: str) -> Page:
    """A page with charts that has come to rest."""
    page = context.new_page()
    page.goto(f"{address}/{link}")
    page.wait_for_selector("[role=figure] .main-svg .trace")
    settle(page)
    return page


def settle(page: Page) -> None:
    page.wait_for_timeout(300)
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")
    page.wait_for_timeout(700)


def profile(browser: Browser) -> BrowserContext:
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    context.add_init_script(WATCH)
    return context


def first_paint(context: BrowserContext, address: str, painted: str = PAINTED) -> float:
    page = context.new_page()
    page.goto(address, wait_until="commit")
    seconds = page.evaluate(f"() => window.since(0, () => {painted})")
    settle(page)
    page.close()
    return float(seconds)


def paints(browser: Browser, taken: dict[str, list[float]]) -> None:
    """One fresh server, and three visits to it."""
    with TemporaryDirectory() as folder:
        begun = time.perf_counter()
        with served(Path(folder)) as address:
            taken["listening"].append(time.perf_counter() - begun)
            with profile(browser) as first:
                taken["first paint, cold"].append(first_paint(first, address))
            with profile(browser) as second:
                taken["first paint, second"].append(first_paint(second, address))
                taken["first paint, again"].append(first_paint(second, address))


def pages(context: BrowserContext, address: str, repeats: int, taken: dict[str, list[float]]) -> None:
    for name, painted in PAGES.items():
        for visit in range(repeats + 1):
            seconds = first_paint(context, f"{address}/{name}", painted)
            if visit:  # the first fetches scripts that Home has no use for
                taken[f"paint, {name}"].append(seconds)


def slider(context: BrowserContext, address: str, repeats: int, taken: dict[str, list[float]]) -> None:
    page = opened(context, address, "decide?depth=13")
    for number in range(repeats + 1):
        page.evaluate(MOVE)
        page.get_by_role("slider", name="Freeze depth k").press("ArrowLeft" if number % 2 else "ArrowRight")
        moved = page.evaluate("window.move")
        if number:  # the first builds what later ones find
            for name, seconds in moved.items():
                taken[f"slider, {name}"].append(seconds)
    page.close()


def play(context: BrowserContext, address: str, repeats: int, taken: dict[str, list[float]]) -> None:
    for _ in range(repeats):
        page = opened(context, address, "analyze?depth=0")
        cloud = page.get_by_role("figure", name="Hidden states in one projection")
        cloud.evaluate(PLAY)
        cloud.locator(".updatemenu-button").first.click()
        played = page.evaluate("window.played")
        if played["frames"] != SPACES:
            raise SystemExit(f"played {played['frames']} frames, not {SPACES}")
        taken["play"].append(played["seconds"])
        taken["play, drawn"].append(played["drawn"])
        page.close()


def lasso(context: BrowserContext, address: str, repeats: int, taken: dict[str, list[float]]) -> None:
    page = opened(context, address, "analyze")
    for _ in range(repeats):
        cloud = page.get_by_role("figure", name="Hidden states in one projection")
        cloud.scroll_into_view_if_needed()
        left, top, right, bottom = page.evaluate(CORNERS, [cloud.element_handle(), LASSOED])
        page.evaluate(LET_GO)
        page.mouse.move(left, top)
        page.mouse.down()
        for corner in ((right, top), (right, bottom), (left, bottom), (left, top)):
            page.mouse.move(*corner, steps=5)
        page.mouse.up()
        taken["lasso"].append(page.evaluate("window.lassoed"))
        caption = page.get_by_text("selected of 1,000 shown positions").first.inner_text()
        taken["lasso, points"].append(int(caption.split()[0]))
        page.get_by_role("button", name="Clear selection").click()
        settle(page)
    page.close()


def summary(name: str, values: list[float]) -> dict[str, object]:
    return {
        "unit": UNITS.get(name, "seconds"),
        "n": len(values),
        "median": round(statistics.median(values), 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--repeats", type=int, default=9)
    chosen = parser.parse_args()

    taken: dict[str, list[float]] = defaultdict(list)
    load = [os.getloadavg()[0]]
    with chromium(FLAGS) as browser:
        for _ in range(chosen.repeats):
            paints(browser, taken)
        with TemporaryDirectory() as folder, served(Path(folder)) as address, profile(browser) as context:
            pages(context, address, chosen.repeats, taken)
            slider(context, address, max(MOVES, chosen.repeats), taken)
            play(context, address, chosen.repeats, taken)
            lasso(context, address, chosen.repeats, taken)
        version = browser.version
    load.append(os.getloadavg()[0])

    measured = {name: summary(name, values) for name, values in taken.items()}
    document = {
        "machine": {"cores": os.cpu_count(), "architecture": platform.machine(), "load_before_and_after": load},
        "versions": {"python": platform.python_version(), "chromium": version}
        | {name: importlib.metadata.version(name) for name in PACKAGES},
        "measured": measured,
    }
    write_atomically(chosen.out, json.dumps(document, indent=1) + "\n")
    for name, milliseconds in measured.items():
        values = "  ".join(f"{key} {milliseconds[key]:6.2f}" for key in ("median", "min", "max"))
        print(f"{name:22} n {milliseconds['n']:2}  {values}  {milliseconds['unit']}")
    print(f"load {load[0]:.1f} before, {load[1]:.1f} after, on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
