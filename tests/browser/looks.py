"""Every page on the example as a picture, to be looked at, in both themes and several widths; nothing is compared.

Usage: python -m tests.browser.looks FOLDER [--pages home data] [--themes dark] [--widths 420]
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import Browser, Page

from tests.browser.served import chromium, served

LINKS = {
    "home": "",
    "data": "data",
    "analyze": "analyze",
    "decide": "decide",
    "prove": "prove?prove=true",
    "use": "use",
    "library": "library",
    "estimate": "estimate?gpu=RTX+4090",
    "new": "data?do=New+analysis",
}
THEMES, WIDTHS = ("light", "dark"), (420, 1440, 1920)
FOLD, TALLEST = 900, 6000  # pixels: of a window, and of a page that is shown whole
PATIENCE = 300_000  # milliseconds: a form that is opened first converts the bundled model
STILL = """
    document.querySelector('[data-testid=stApp][data-test-script-state=notRunning]')
        && !document.querySelector('[data-testid=stSkeleton]')
        && !document.querySelector('[data-testid=stPlotlyChart]:not(:has(.main-svg))')
"""
CONTENT_HEIGHT = "document.querySelector('[data-testid=stMainBlockContainer]').scrollHeight"


def pictures(browser: Browser, address: str, chosen: argparse.Namespace) -> Iterator[tuple[str, bytes]]:
    """Each page as PNG from top to bottom, by what is shown."""
    for name in chosen.pages:
        for theme in chosen.themes:
            page = browser.new_page(viewport={"width": max(chosen.widths), "height": FOLD}, color_scheme=theme)
            page.set_default_timeout(PATIENCE)
            page.goto(f"{address}/{LINKS[name]}")
            page.locator("h2").first.wait_for()
            for width in chosen.widths:
                yield f"{name}-{theme}-{width}", whole(page, width)
            page.close()


def whole(page: Page, width: int) -> bytes:
    """The page in a window so high that nothing scrolls, once nothing on it changes."""
    height = FOLD
    for _ in range(3):  # a higher window may hold more
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_function(STILL, polling=100)
        page.wait_for_timeout(400)
        height = max(FOLD, min(TALLEST, int(page.evaluate(CONTENT_HEIGHT))))
    return page.screenshot(animations="disabled")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--pages", nargs="+", choices=LINKS, default=list(LINKS))
    parser.add_argument("--themes", nargs="+", choices=THEMES, default=THEMES)
    parser.add_argument("--widths", nargs="+", type=int, default=WIDTHS)
    chosen = parser.parse_args(arguments)
    chosen.out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder, served(Path(folder)) as address, chromium() as browser:
        for name, png in pictures(browser, address, chosen):
            (chosen.out / f"{name}.png").write_bytes(png)
            print(name, flush=True)


if __name__ == "__main__":
    main()
