"""Numbers as people read them: GiB, TFLOP, percent, intervals. The only place of the command line that rounds."""

import math

from semfreeze_core.gains.calibration import corrected
from semfreeze_core.records.gain import Interval
from semfreeze_core.records.prediction_error import Calibration
from semfreeze_core.records.preview import MemoryForecast
from semfreeze_core.records.training import TrainingSetup


def gib(n_bytes: int | None) -> str:
    return "unknown" if n_bytes is None else f"{n_bytes / 2**30:.2f} GiB"


def size(n_bytes: int) -> str:
    return f"{n_bytes / 2**20:.1f} MiB" if n_bytes < 2**30 else gib(n_bytes)


def flop(count: int, of: int | None = None) -> str:
    """A FLOP count, in the unit that suits `of` (say the largest of a row) or the count itself."""
    for factor, unit in ((1e18, "EFLOP"), (1e15, "PFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP")):
        if max(count, of or 0) >= factor:
            return f"{count / factor:.2f} {unit}"
    return f"{count / 1e6:.2f} MFLOP"


def percent(fraction: float | None) -> str:
    return "unknown" if fraction is None or not math.isfinite(fraction) else f"{100 * fraction:.0f} %"


def interval(value: Interval, digits: int = 3) -> str:
    if not math.isfinite(value.estimate):
        return "not measured"
    if not math.isfinite(value.low):
        return _rounded(value.estimate, digits)  # nothing it could be drawn again from
    return f"{_rounded(value.estimate, digits)} [{_rounded(value.low, digits)}, {_rounded(value.high, digits)}]"


def _rounded(value: float, digits: int) -> str:
    return f"{round(value, digits) + 0.0:.{digits}f}"  # + 0.0 turns -0.0 into 0.0


def duration(seconds: float | None) -> str:
    """Seconds in the unit that suits them."""
    if seconds is None:
        return "unknown"
    for factor, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= factor:
            return f"{seconds / factor:.1f} {unit}"
    return f"{seconds:.1f} s"


def calibration_words(found: Calibration) -> str:
    """How far a quantity's predictions were off over the finetunes that were kept, in a sentence."""
    mean, low, high = found.error.estimate or 0.0, found.error.low, found.error.high
    unit = "points" if found.quantity.startswith("coverage") else "%"
    way = "overstated" if mean > 0 else "understated"
    count = f"{found.n_finetunes} of your finetunes" if found.n_finetunes > 1 else "one of your finetunes"
    arms = "1 arm" if found.n_arms == 1 else f"{found.n_arms} arms"
    told = f"Measured on {count} ({arms}): {found.quantity} is {way} by {abs(100 * mean):.0f}"
    if low is None or high is None or found.spread is None:
        return f"{told} {unit}; one finetune says nothing of a spread."
    unsure = ", an interval that holds 0" if low <= 0 <= high else ""
    return f"{told} ± {50 * (high - low):.0f} {unit}{unsure}; a finetune differs by {100 * found.spread:.0f} {unit}."


def corrected_words(predicted: float | None, found: Calibration | None) -> str | None:
    """What a plan's coverage becomes by what finetunes showed; None while they are too few."""
    if predicted is None or found is None or (better := corrected(predicted, found)) is None:
        return None
    span = Interval(better.estimate or 0.0, better.low or 0.0, better.high or 0.0)
    return f"{calibration_words(found)} Corrected for that, R(k) = {predicted:.2f} becomes {interval(span, 2)}."


def setup_words(setup: TrainingSetup) -> str:
    """A training setup in one line; what is left at its default and off goes unsaid."""
    words = [
        f"batch {setup.batch_size} x {setup.sequence_length} tokens",
        f"{setup.steps:,} steps",
        setup.optimizer,
        setup.precision,
        f"{setup.loss} loss",
        "prefix cache" if setup.prefix_cache else "no prefix cache",
    ]
    if setup.prefix_cache and not setup.prefix_off_device:
        words[-1] += " with the prefix kept on the device"
    if setup.frozen_bits is not None:
        words.append(f"frozen layers in {setup.frozen_bits} bit")
    if setup.lora is not None:
        words.append(f"LoRA of rank {setup.lora.rank} on {' '.join(setup.lora.targets)}")
    if setup.checkpointing != "none":
        words.append(f"{setup.checkpointing} checkpointing")
    return ", ".join(words)


def memory_words(memory: MemoryForecast) -> str:
    """What a reading needs beside what is free, and the way out when it does not fit."""
    parts = f"{gib(memory.model_bytes)} for {memory.parameters / 1e6:,.0f} M parameters in {memory.dtype}"
    parts += f", {gib(memory.states_bytes)} for states that are shown"
    if memory.process_bytes:
        parts += f", {gib(memory.process_bytes)} for the process"
    needed, free = gib(memory.needed_bytes), gib(memory.free_bytes)
    told = f"A reading needs about {needed} ({parts}); {free} are free on {memory.device}."
    if memory.fits:
        return told
    other = "a smaller model" if memory.dtype == "bfloat16" else "bfloat16, which needs half, or a smaller model"
    return f"It does not fit. {told} Use {other}, or another device."
