"""A training tells its losses, and no evaluation that was not made."""

from semfreeze_core.wording import training as wording


def test_trained_lines_leave_out_what_was_not_evaluated():
    assert wording.trained_lines(3, [2.5, 2.0, 1.5], None, None) == [
        "3 steps; train loss 2.500 -> 1.500 nats per token"
    ]
