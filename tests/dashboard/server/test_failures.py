"""A failure is a sentence with an id; the traceback is in the log and nowhere else."""

import re

from semfreeze_core.storage import home
from semfreeze_dashboard.server.failures import failure_message


def failing():
    try:
        raise ZeroDivisionError("secret detail")
    except ZeroDivisionError as error:
        return failure_message(error)


def test_failure_message_names_the_kind_and_an_id_whose_traceback_is_on_disk():
    sentence = failing()
    assert "secret" not in sentence
    assert "ZeroDivisionError" in sentence
    (name,) = re.findall(r"error ID ([0-9a-f]{8})", sentence)
    log = (home() / "logs" / "dashboard.log").read_text()
    assert name in log
    assert "secret detail" in log
    assert "Traceback" in log


def test_failure_message_falls_back_to_the_terminal_where_nothing_can_be_written(capsys):
    home().parent.mkdir(parents=True, exist_ok=True)
    home().write_text("a file where the folder should be")
    assert "terminal" in failing()
    assert "secret detail" in capsys.readouterr().err
