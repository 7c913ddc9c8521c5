"""Pages for everybody: by the keyboard alone, and behind a door that asks first."""

import pytest

from semfreeze_dashboard.server.auth import PASSWORD_VARIABLE
from tests.browser.conftest import Reader
from tests.browser.served import served


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
