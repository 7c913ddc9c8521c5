"""The password: nothing is shown without it, and guessing is slow."""

import pytest

from semfreeze_dashboard.server import auth
from semfreeze_dashboard.server.auth import LOCKOUT_SECONDS, MAX_WRONG, PASSWORD_VARIABLE, LoginThrottle
from tests.dashboard.test_pages import opened, sentence


@pytest.fixture
def asked(monkeypatch):
    monkeypatch.setenv(PASSWORD_VARIABLE, "open sesame")
    auth._throttle.clear()
    return opened("decide")


def give(app, password):
    app.text_input[0].set_value(password)
    return app.button[0].click().run()


def test_nothing_is_shown_before_the_password(asked):
    assert not asked.exception
    assert [field.label for field in asked.text_input] == ["Password of this dashboard"]
    assert not asked.markdown
    assert not asked.get("plotly_chart")
    assert not asked.sidebar.selectbox


def test_the_right_password_opens_and_is_asked_for_once(asked):
    give(asked, "open sesame")
    assert sentence(asked)
    asked.run()
    assert sentence(asked)


def test_a_wrong_password_is_refused(asked):
    give(asked, "open barley")
    assert [error.value for error in asked.error] == ["Wrong password."]
    give(asked, "")
    assert asked.error
    assert not asked.markdown


def test_the_tenth_wrong_password_shuts_the_door_for_every_session(asked, monkeypatch):
    for _ in range(MAX_WRONG):
        give(asked, "wrong")
    other = opened("decide")
    give(other, "open sesame")
    assert "Too many wrong passwords." in other.error[0].value
    assert not other.markdown


def test_the_door_opens_again_after_a_while():
    throttle = LoginThrottle()
    assert all(not throttle.check("wrong", "right", float(second)) for second in range(MAX_WRONG))
    assert throttle.retry_after(10.0) == LOCKOUT_SECONDS - 10
    assert throttle.retry_after(LOCKOUT_SECONDS + 0.5) == 0
    assert throttle.check("right", "right", LOCKOUT_SECONDS + 1)


def test_without_a_password_nothing_is_asked():
    assert sentence(opened("decide"))
