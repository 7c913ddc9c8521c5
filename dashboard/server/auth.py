"""A password before anything is shown, where the server requires one."""

import hmac
import os
import time
from dataclasses import dataclass, field

import streamlit as st

PASSWORD_VARIABLE = "SEMFREEZE_DASHBOARD_PASSWORD"
MAX_WRONG, LOCKOUT_SECONDS = 10, 60.0
_LOGGED_IN = "let in"


@dataclass
class LoginThrottle:
    """Recent wrong passwords of all visitors together, so that a new session is not a new chance.

    Attributes:
        wrong: when each was entered, in seconds of a monotonic clock.
    """

    wrong: list[float] = field(default_factory=list)

    def retry_after(self, now: float) -> float:
        """Seconds until the next try counts; 0 when it does now."""
        self.wrong = [when for when in self.wrong if now - when < LOCKOUT_SECONDS]
        return 0.0 if len(self.wrong) < MAX_WRONG else LOCKOUT_SECONDS - (now - self.wrong[0])

    def check(self, entered: str, password: str, now: float) -> bool:
        """Whether it is the password; a wrong one is remembered."""
        matches = hmac.compare_digest(entered.encode(), password.encode())
        if not matches:
            self.wrong.append(now)
        return matches


@st.cache_resource
def _throttle() -> LoginThrottle:
    return LoginThrottle()


def logged_in() -> bool:
    """Whether this visitor may see anything."""
    return not os.environ.get(PASSWORD_VARIABLE) or bool(st.session_state.get(_LOGGED_IN))


def require_login() -> bool:
    """Whether this visitor may go on; asks for the password otherwise."""
    if logged_in():
        return True
    password = os.environ[PASSWORD_VARIABLE]
    throttle, now = _throttle(), time.monotonic()
    with st.form("password", width=420):
        entered = st.text_input("Password of this dashboard", type="password", autocomplete="current-password")
        submitted = st.form_submit_button("Open", type="primary")
    if not submitted:
        st.caption("Ask the person who started the server.")
    elif (wait := throttle.retry_after(now)) > 0:
        st.error(f"Too many wrong passwords. Try again in {wait:.0f} seconds.")
    elif throttle.check(entered, password, now):
        st.session_state[_LOGGED_IN] = True
        st.rerun()
    else:
        st.error("Wrong password.")
    return False
