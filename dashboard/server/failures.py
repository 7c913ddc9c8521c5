"""What a page says when something goes wrong: a sentence and an id; the traceback goes to a log on disk."""

import logging
import secrets
import sys
from collections.abc import Callable
from functools import wraps

import streamlit as st

from semfreeze_core.errors import InputError
from semfreeze_core.storage import home

from ..text.analysis_text import in_the_form


def guarded(body: Callable[[], None]) -> Callable[[], None]:
    """The function with its errors turned into sentences on the page; Streamlit's own interruptions pass."""

    @wraps(body)
    def safe() -> None:
        try:
            body()
        except InputError as error:
            st.error(in_the_form(str(error)))
        except Exception as error:
            st.error(told(error))

    return safe


def told(error: Exception) -> str:
    """The sentence for a fault of ours; its traceback is logged under the id the sentence names."""
    name = secrets.token_hex(4)
    place = home() / "logs" / "dashboard.log"
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        handler: logging.Handler = logging.FileHandler(place, encoding="utf-8")
        where = str(place)
    except OSError:
        handler, where = logging.StreamHandler(sys.stderr), "the server's terminal"
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    record = logging.LogRecord(
        "semfreeze.dashboard", logging.ERROR, __file__, 0, "failure %s", (name,), sys.exc_info(), None
    )
    handler.emit(record)
    handler.close()
    return f"This page failed ({type(error).__name__}). The log has it under the id {name}: {where}"
