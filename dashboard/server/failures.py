"""What a page says when something goes wrong: a sentence and an id; the traceback goes to a log on disk."""

import logging
import secrets
import sys
from collections.abc import Callable
from functools import wraps

import streamlit as st

from semfreeze_core.errors import InputError
from semfreeze_core.storage import home
from semfreeze_core.wording.escaping import markdown_text

from ..data.run_folder import paths_allowed
from ..text.visitor_text import error_text


def guarded(body: Callable[[], None]) -> Callable[[], None]:
    """The function with its errors turned into sentences on the page; Streamlit's own interruptions pass."""

    @wraps(body)
    def safe() -> None:
        try:
            body()
        except InputError as error:
            st.error(error_text(error))
        except Exception as error:
            st.error(failure_message(error))

    return safe


def failure_message(error: Exception) -> str:
    """The message for a bug in semfreeze; its traceback is logged under the ID in the message."""
    error_id = secrets.token_hex(4)
    log = home() / "logs" / "dashboard.log"
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        handler: logging.Handler = logging.FileHandler(log, encoding="utf-8")
        where = str(log) if paths_allowed() else "the server's logs/dashboard.log"
    except OSError:
        handler, where = logging.StreamHandler(sys.stderr), "the server's terminal"
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    record = logging.LogRecord(
        "semfreeze.dashboard", logging.ERROR, __file__, 0, "failure %s", (error_id,), sys.exc_info(), None
    )
    handler.emit(record)
    handler.close()
    return markdown_text(f"This page failed ({type(error).__name__}). Details: {where}, error ID {error_id}.")
