"""A server of the dashboard and a Chromium that looks at it, one of each for all tests."""

import importlib.metadata
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from semfreeze_core.sources.models.embedded import PACKAGE
from tests.core.saved_models import save_tiny

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright, of the extra `dev`")
from tests.browser.served import BROWSERS, FLAGS, served  # noqa: E402 - needs playwright

# Runs in every window. Animations, as the bones that Streamlit shows while a page computes, draw sixty frames a second
# and take most of a machine without a graphics card.
IN_EVERY_WINDOW = """
    window.lastChange = performance.now()
    new MutationObserver(changes => {  // a panel that looks for news each second is no change until there are some
        if (changes.some(change => change.attributeName !== 'data-test-script-state'))
            window.lastChange = performance.now()
    }).observe(document, { subtree: true, childList: true, attributes: true, characterData: true })
    document.addEventListener('DOMContentLoaded', () => {
        const still = document.createElement('style')
        still.textContent = '*, *::before, *::after { animation: none !important; transition: none !important }'
        document.head.append(still)
    })
"""
# Streamlit shows a bone while the script that draws an element is fetched, and Plotly an empty box before it draws.
SETTLED = """
    document.querySelector('[data-testid=stApp][data-test-script-state=notRunning]')
        && !document.querySelector('[data-testid=stSkeleton]')
        && !document.querySelector('[data-testid=stPlotlyChart]:not(:has(.main-svg))')
        && performance.now() - window.lastChange > 300
"""
# Windows of one site share a process, which has compiled the dashboard's scripts: half of what opening a window takes.
ONE_PROCESS = "--process-per-site"
# Streamlit looks for its own end points below the page's path first, and finds them at the root.
EXPECTED = "Failed to load resource: the server responded with a status of 404"
PATIENCE = 120_000  # milliseconds; far beyond what any step takes
sync_api.expect.set_options(timeout=PATIENCE)


LONGEST = Path(__file__).with_name("test_prove.py")


def pytest_collection_modifyitems(items):
    """The longest walk first: begun last, it would keep one of two processes waiting for the other."""
    assert LONGEST.exists()
    items.sort(key=lambda item: item.path != LONGEST)


@pytest.fixture(scope="session")
def address(tmp_path_factory) -> Iterator[str]:
    """Where the dashboard listens, on an empty folder of runs."""
    folder = tmp_path_factory.mktemp("dashboard")
    # A form that is opened looks at the embedded model, whose conversion would take the first test half a minute.
    save_tiny(folder / "cache" / "embedded" / f"{PACKAGE}-{importlib.metadata.version(PACKAGE)}")
    with served(folder) as listening:
        yield listening


@pytest.fixture(scope="session")
def browser():
    """The Chromium that is installed, headless."""
    executable = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if executable is None:
        pytest.skip(f"needs one of {', '.join(BROWSERS)} on the path")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable, args=[*FLAGS, ONE_PROCESS])
        yield chromium
        chromium.close()


class Reader:
    """A person at the dashboard: one window, and everything it complained of."""

    def __init__(self, window, address: str) -> None:
        self.window, self.address = window, address
        self.complaints: list[str] = []
        window.on("console", self._hear)
        window.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _hear(self, message) -> None:
        if message.type == "error" and not message.text.startswith(EXPECTED):
            self.complaints.append(message.text)

    def open(self, link: str) -> None:
        self.window.goto(f"{self.address}/{link}")
        self.window.get_by_role("img", name="Layer stack").wait_for()
        self.settle()

    def settle(self) -> None:
        """Wait until the server has answered, charts are drawn, and nothing on the page has changed for 0.3 seconds."""
        self.window.evaluate("window.lastChange = performance.now()")  # what was just done shows its effect later
        self.window.wait_for_function(SETTLED, polling=50)

    def open_jobs(self) -> None:
        """Show the jobs, which stand under a button above every page."""
        self.window.get_by_test_id("stPopover").get_by_role("button", name="Jobs").click()

    def go_to_top(self) -> None:
        """Scroll up to the bar above the page, with which what it has opened scrolls away."""
        self.window.get_by_test_id("stMain").evaluate("main => main.scrollTo(0, 0)")

    @property
    def sentence(self) -> str:
        return self.window.locator("h2").first.inner_text()

    def chart(self, title: str):
        """The figure whose alt text begins with a title."""
        return self.window.get_by_role("figure", name=title)


@pytest.fixture(scope="session")
def context(browser):
    """One profile for all windows, so that the dashboard's scripts are fetched and compiled once."""
    profile = browser.new_context(accept_downloads=True)
    profile.set_default_timeout(PATIENCE)
    keeper = profile.new_page()  # the process ends with its last window: this one, which shows nothing, stays open
    keeper.route("**", lambda route: route.fulfill(body=""))
    keeper.goto("http://127.0.0.1/")
    profile.add_init_script(IN_EVERY_WINDOW)
    yield profile
    profile.close()


@pytest.fixture
def reader(context, address, request):
    """A new window, light and wide unless a test says otherwise."""
    look = {"theme": "light", "width": 1400} | getattr(request, "param", {})
    window = context.new_page()
    window.emulate_media(color_scheme=look["theme"])
    window.set_viewport_size({"width": look["width"], "height": 900})
    yield Reader(window, address)
    window.close()
