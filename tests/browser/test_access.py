"""Pages for everybody: contrast, labels and roles by axe's rules, the keyboard alone, and a door that asks first."""

import pytest

from semfreeze_dashboard.server.auth import PASSWORD_VARIABLE
from tests.browser.conftest import Reader
from tests.browser.served import served

sync_playwright = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe, of the extra `dev`")
PAGES = [
    "",
    "data",
    "data?do=New+analysis",
    "estimate",
    "analyze?controls=true&law=true&groups=true",
    "decide",
    "prove?prove=true",
    "use?trainer=axolotl",
    "library",
    "present",
]
# Colors of Streamlit's own highlighting of code, which a theme does not reach.
LEFT_OUT = {"exclude": [[".token"]]}


@pytest.mark.slow
@pytest.mark.parametrize("reader", [{"theme": "light"}, {"theme": "dark"}], indirect=True, ids=["light", "dark"])
def test_no_page_breaks_axes_rules(reader):
    found = []
    for page in PAGES:
        reader.window.goto(f"{reader.address}/{page}")
        reader.window.get_by_role("heading").or_(reader.window.get_by_role("button", name="Analyze")).first.wait_for()
        reader.settle()
        broken = sync_playwright.Axe().run(reader.window, context=LEFT_OUT).response["violations"]
        found += [(page, rule["id"], rule["nodes"][0]["html"][:120]) for rule in broken]
    assert found == []
    assert reader.complaints == []


@pytest.mark.slow
def test_a_depth_is_chosen_and_a_page_changed_by_keyboard_alone(reader):
    reader.open("decide?depth=12")
    keyboard = reader.window.keyboard
    for _ in range(60):
        keyboard.press("Tab")
        if reader.window.evaluate("document.activeElement.getAttribute('aria-label')") == "Freeze depth k":
            break
    keyboard.press("ArrowRight")
    reader.window.wait_for_url("**depth=13**")
    for _ in range(60):
        keyboard.press("Shift+Tab")
        if reader.window.evaluate("document.activeElement.textContent").strip() == "Use":
            break
    keyboard.press("Enter")
    reader.window.wait_for_url("**/use**")


@pytest.fixture
def shut(context, tmp_path):
    """A window before a server that asks for a password."""
    with served(tmp_path, password="open sesame") as address:
        window = context.new_page()
        yield Reader(window, address)
        window.close()


@pytest.mark.slow
def test_a_wrong_password_is_refused_and_the_right_one_opens_the_page_that_the_link_names(shut):
    window = shut.window
    window.goto(f"{shut.address}/decide?depth=12")
    asked = window.get_by_label("Password of this dashboard")
    asked.fill("open barley")
    asked.press("Enter")
    window.get_by_text("Wrong password.").wait_for()
    shut.settle()
    assert window.get_by_role("slider").count() == 0
    assert PASSWORD_VARIABLE not in window.content()
    asked.fill("open sesame")
    asked.press("Enter")
    window.get_by_text("Freeze the first 12 of 30 layers").first.wait_for()
    assert shut.complaints == []
