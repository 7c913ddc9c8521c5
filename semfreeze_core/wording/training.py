"""Trainings as text: what finetunes will take, and what one gave."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from semfreeze_core.records.defaults import LOOK_STEPS, PADDING_WORTH_SAVING
from semfreeze_core.wording.numbers import counted, duration, flops, gib, nats, number, percent

if TYPE_CHECKING:
    from semfreeze_core.plan.forecast import FinetuneForecast
    from semfreeze_core.records.looks import Look
    from semfreeze_core.records.validation import EvalPoint


def forecast_sentence(forecast: FinetuneForecast, whose_rate: str, search: tuple[float, float] | None = None) -> str:
    """What finetunes will take, before they start.

    Args:
        forecast: of all of them.
        whose_rate: at which rate the time was estimated, in words.
        search: least and most that searching their learning rates adds, as shares of it; None without a search.
    """
    more = ""
    if search is not None:
        least, most = (percent(share) for share in search)
        more = f" Searching learning rates adds {least} to {most}, evaluation not included."
    time = "time unknown (no finetune of this run was timed)"
    if forecast.seconds is not None:
        time = f"about {duration(forecast.seconds)} at the rate {whose_rate}, evaluation not included"
    return (
        f"Estimated: {flops(forecast.flop)}, {time}.{more} Largest variant, full finetuning: "
        f"{gib(forecast.peak_bytes)} of memory (if it does not fit, fewer examples are processed at a time)."
    )


def padding_note(at_random: int, by_length: int) -> str:
    """What batches of like length would save; "" where that is less than PADDING_WORTH_SAVING.

    Args:
        at_random, by_length: mean tokens of an example in a batch of either kind, padding included.
    """
    saved = 1 - by_length / at_random
    if saved < PADDING_WORTH_SAVING:
        return ""
    return (
        f"With padding, an example takes {at_random:,} tokens on the average in random batches, and {by_length:,} in "
        f"batches of like length: --batches by-length trains the same number of steps on {percent(saved)} fewer tokens."
    )


def look_sentence(look: Look) -> str:
    """What a trial gave that decides whether a finetune freezes deeper."""
    unchanged = "Freezing deeper loses too much, or the trial cannot tell. It continues as before"
    decided = "Freezing deeper loses nothing, so it does from there on" if look.deeper else unchanged
    return (
        f"Trial after step {look.step:,}: {LOOK_STEPS} steps give eval loss {number(look.wide_loss)} as it trains now, "
        f"{nats(look.deep_loss)} frozen deeper. {decided}."
    )


def trained_lines(steps: int, losses: Sequence[float], before: EvalPoint | None, after: EvalPoint | None) -> list[str]:
    """What a training gave: train loss, and eval loss and accuracy where there are eval examples.

    Args:
        steps: of the training.
        losses: train loss of each step since the start or resumption, nats per token; none when all had been made.
        before, after: evaluations before and after it; None without eval examples.
    """
    how = f"train loss {number(losses[0])} -> {nats(losses[-1])}" if losses else "all trained before this start"
    lines = [f"{counted(steps, 'step')}; {how}"]
    if after is not None and after.loss is not None:
        was = "" if before is None or before.loss is None else f"{number(before.loss)} -> "
        lines.append(f"eval loss {was}{nats(after.loss)}")
        if after.accuracy is not None:
            was = "" if before is None or before.accuracy is None else f"{percent(before.accuracy)} -> "
            lines.append(f"accuracy {was}{percent(after.accuracy)}")
    return lines
