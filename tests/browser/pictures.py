"""The README's pictures, of every page on the example: `python -m tests.browser.pictures [--out FOLDER]`."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from playwright.sync_api import Page

from semfreeze_core.runs.reports import list_validations
from semfreeze_core.runs.store import example_run
from semfreeze_core.storage import write_atomically
from semfreeze_dashboard.charts.losses import draw_losses
from semfreeze_dashboard.charts.theme import BELOW_AXIS, figure_html
from tests.browser.served import chromium, served

OUT = Path(__file__).parents[2] / ".github" / "pictures"
WIDTH, HEIGHT = 1400, 900
MOST_BYTES, MARGIN = 250_000, 12
MOST_MOVING_BYTES, COLORS = 2 * 2**20, 64
MOVES_FOR, FRAME, LAST_FRAME = 3600, 90, 2500  # milliseconds
RACE_FRAME = 120  # as on the page
RACE_SIZE = {"width": 960, "height": 460}
SHOW_FRAME = """name => Plotly.animate(document.querySelector('.js-plotly-plot'), [name],
    { mode: 'immediate', frame: { duration: 0, redraw: true }, transition: { duration: 0 } })"""


@dataclass(frozen=True)
class Picture:
    """One page, and which part of it.

    Attributes:
        name: of its file.
        link: what is opened.
        figure: beginning of the title of a chart that has to be drawn; "" where there is none.
        top: words that the picture begins at; "" begins where the page does.
        last: selector of what the picture ends below; "" ends where the window does.
    """

    name: str
    link: str
    figure: str = ""
    top: str = ""
    last: str = ""


PICTURES = (
    Picture("home", "", last="[class*=st-key-onward-first]"),  # below it a folder of this machine is named
    Picture(
        "analyze",
        "analyze",
        "Hidden states in one projection",
        top="Hidden states in one projection, layer by layer",
        last="[class*=st-key-projection-PCA-0-numbers]",
    ),
    Picture("decide", "decide", "Device memory by part"),
)


def taken(page: Page, picture: Picture) -> bytes:
    """The picture as PNG, once its figure, the server's last word and the fonts are there and nothing changes more."""
    page.get_by_role("img", name="Layer stack").wait_for()
    if picture.figure:
        page.get_by_role("figure", name=picture.figure).locator(".main-svg").first.wait_for()
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")
    page.evaluate("document.fonts.ready.then(() => null)")
    if picture.top:
        box = page.get_by_text(picture.top, exact=True).first.bounding_box()
        assert box is not None
        page.locator("[data-testid=stMain]").evaluate("(main, y) => main.scrollBy(0, y)", box["y"] - MARGIN)
    before, now = b"", page.screenshot()
    while now != before:
        page.wait_for_timeout(700)
        before, now = now, page.screenshot()
    if not picture.last:
        return now
    end = page.locator(picture.last).first.bounding_box()
    assert end is not None
    return page.screenshot(clip={"x": 0, "y": 0, "width": WIDTH, "height": end["y"] + end["height"] + MARGIN})


def moving(page: Page) -> bytes:
    """The stack of Home as it freezes, as an animated GIF; frame by frame, however slow the machine is."""
    stack = page.locator(".sf-moving")
    stack.wait_for()
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")
    page.evaluate("document.fonts.ready.then(() => null)")
    frames = []
    for milliseconds in range(0, MOVES_FOR, FRAME):
        stack.evaluate(
            """(stack, time) => stack.getAnimations({subtree: true}).forEach(
                animation => { animation.pause(); animation.currentTime = time })""",
            milliseconds,
        )
        frames.append(stack.screenshot(animations="allow"))
    return animated(frames, FRAME)


def race(page: Page) -> bytes:
    """The race of the example's validation, played once, as an animated GIF; the figure of the page Prove by itself."""
    (report,) = list_validations(example_run()).values()
    figure = draw_losses(report, "seconds")
    figure.layout.updatemenus = ()
    figure.update_layout(margin={"b": BELOW_AXIS}, **RACE_SIZE)
    page.set_viewport_size(RACE_SIZE)  # type: ignore[arg-type]  # width and height
    page.set_content(f"<style>body {{ margin: 0 }}</style>{figure_html(figure, include_plotlyjs=True)}")
    chart = page.locator(".js-plotly-plot")
    chart.locator(".main-svg").first.wait_for()
    frames = []
    for frame in figure.frames:
        page.evaluate(SHOW_FRAME, frame.name)
        frames.append(chart.screenshot())
    return animated(frames, RACE_FRAME)


def animated(screenshots: Sequence[bytes], milliseconds: int) -> bytes:
    """Screenshots as an animated GIF that stands still at its end for a while, then begins again."""
    frames = [Image.open(BytesIO(png)).convert("RGB").quantize(COLORS, dither=Image.Dither.NONE) for png in screenshots]
    durations = [milliseconds] * (len(frames) - 1) + [LAST_FRAME]
    file = BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0, optimize=True)
    return file.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT)
    chosen = parser.parse_args()
    with TemporaryDirectory() as folder, served(Path(folder)) as address, chromium() as browser:
        for picture in PICTURES:
            page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
            page.goto(f"{address}/{picture.link}")
            png = taken(page, picture)
            page.close()
            if len(png) > MOST_BYTES:
                raise SystemExit(f"{picture.name}.png has {len(png):,} bytes, more than {MOST_BYTES:,}")
            write_atomically(chosen.out / f"{picture.name}.png", png)
            print(f"{picture.name}.png {len(png):,} bytes")
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.goto(address)
        for name, gif in (("home", moving(page)), ("race", race(page))):
            if len(gif) > MOST_MOVING_BYTES:
                raise SystemExit(f"{name}.gif has {len(gif):,} bytes, more than {MOST_MOVING_BYTES:,}")
            write_atomically(chosen.out / f"{name}.gif", gif)
            print(f"{name}.gif {len(gif):,} bytes")


if __name__ == "__main__":
    main()
