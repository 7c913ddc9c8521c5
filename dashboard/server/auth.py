"""A password before anything is shown, where the server was told to ask for one."""

import hmac
import os
import time
from dataclasses import dataclass, field

import streamlit as st

PASSWORD_VARIABLE = "SEMFREEZE_DASHBOARD_PASSWORD"
MOST_WRONG, SECONDS_SHUT = 10, 60.0
_IN = "let in"


@dataclass
class Door:
    """Wrong passwords lately, of all visitors together, so that a new session is no new chance.

    Attributes:
        wrong: when each was given, in seconds of a clock that nobody sets.
    """

    wrong: list[float] = field(default_factory=list)

    def shut_for(self, now: float) -> float:
        """Seconds until the next try counts; 0 when it does now."""
        self.wrong = [when for when in self.wrong if now - when < SECONDS_SHUT]
        return 0.0 if len(self.wrong) < MOST_WRONG else SECONDS_SHUT - (now - self.wrong[0])

    def fits(self, given: str, password: str, now: float) -> bool:
        """Whether it is the password; a wrong one is remembered."""
        right = hmac.compare_digest(given.encode(), password.encode())
        if not right:
            self.wrong.append(now)
        return right


@st.cache_resource
def _door() -> Door:
    return Door()


def let_in() -> bool:
    """Whether this visitor may go on; draws the question for one who may not yet."""
    password = os.environ.get(PASSWORD_VARIABLE)
    if not password or st.session_state.get(_IN):
        return True
    door, now = _door(), time.monotonic()
    with st.form("password", width=420):
        given = st.text_input("Password of this dashboard", type="password", autocomplete="current-password")
        sent = st.form_submit_button("Open", type="primary")
    if not sent:
        st.caption("Whoever started the server was shown it.")
    elif (wait := door.shut_for(now)) > 0:
        st.error(f"Too many wrong passwords were given. Try again in {wait:.0f} seconds.")
    elif door.fits(given, password, now):
        st.session_state[_IN] = True
        st.rerun()
    else:
        st.error("That is not the password.")
    return False
