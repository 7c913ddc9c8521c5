"""A training tells its losses, and no evaluation that was not made."""

from semfreeze_core.wording import training as wording


def test_trained_lines_leave_out_what_was_not_evaluated():
    assert wording.trained_lines(3, [2.5, 2.0, 1.5], None, None) == [
        "3 steps; train loss 2.500 -> 1.500 nats per token"
    ]


def test_padding_note_names_the_tokens_and_what_batches_of_like_length_save():
    assert wording.padding_note(160, 88) == (
        "With padding, an example takes 160 tokens on the average in random batches, and 88 in batches of like length: "
        "--batches by-length trains the same number of steps on 45% fewer tokens."
    )
    assert wording.padding_note(100, 86) == wording.padding_note(50, 50) == ""
    assert wording.padding_note(100, 85) != ""
