"""Every number as people read it: amounts, shares, durations, and estimates with their confidence interval.

The only module that rounds for display. GiB and MiB are binary; a FLOPs count is an amount, FLOP/s a rate.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeGuard

from semfreeze_core.records.interval import ci_label

CI = ci_label()  # what an interval beside an estimate is
UNKNOWN, MISSING, NOT_MEASURED = "unknown", "—", "not measured"
_FLOP_UNITS = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"))


class Estimate(Protocol):
    """An estimate with a two-sided interval; null or NaN where it is not known."""

    @property
    def estimate(self) -> float | None: ...
    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...


@dataclass(frozen=True)
class Bounded:
    """An estimate whose interval a record keeps apart."""

    estimate: float | None
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, estimate: float | None, ends: tuple[float, float] | None) -> "Bounded":
        return cls(estimate, *(ends or (None, None)))


def gib(n_bytes: float | None, decimals: int | None = None) -> str:
    """An amount of memory in GiB, with two to three digits unless told how many decimals."""
    if n_bytes is None:
        return UNKNOWN
    amount = n_bytes / 2**30
    if decimals is None:
        decimals = 2 if amount < 1 else 1 if amount < 100 else 0
    return f"{amount:,.{decimals}f} GiB"


def byte_size(n_bytes: int) -> str:
    """An amount of memory or disk in MiB, from one GiB on in GiB."""
    return f"{n_bytes / 2**20:.1f} MiB" if n_bytes < 2**30 else gib(n_bytes)


def flops(count: float, of: float | None = None) -> str:
    """A count of operations, like "587 TFLOPs", in the unit that suits `of` (the largest of its column)."""
    return _flop_amount(count, of, "FLOPs")


def flops_per_second(rate: float) -> str:
    """A rate, like "134 GFLOP/s"."""
    return _flop_amount(rate, None, "FLOP/s")


def _flop_amount(count: float, of: float | None, unit: str) -> str:
    largest = max(count, of or 0)
    factor, prefix = next(((f, p) for f, p in _FLOP_UNITS if largest >= f), _FLOP_UNITS[-1])
    amount = count / factor
    decimals = 2 if amount < 10 else 1 if amount < 100 else 0
    return f"{amount:,.{decimals}f} {prefix}{unit}"


def percent(fraction: float | None, decimals: int = 0) -> str:
    """A fraction as a percentage."""
    if not _known(fraction):
        return UNKNOWN
    return f"{number(100 * fraction, decimals)}%"


def percent_as_given(fraction: float) -> str:
    """A limit, or what is compared with one: three digits, and none that are zero."""
    return f"{100 * fraction:.3g}%"


def number(value: float | None, decimals: int = 3) -> str:
    """A plain number with so many decimals, never "-0"; a dash where there is none."""
    return MISSING if not _known(value) else f"{round(value, decimals) + 0.0:.{decimals}f}"


def signed(value: float, decimals: int = 3) -> str:
    """A difference with its sign."""
    return f"{round(value, decimals) + 0.0:+.{decimals}f}"


def nats(value: float | None) -> str:
    """A loss."""
    return MISSING if not _known(value) else f"{number(value)} nats per token"


def interval(value: Estimate, decimals: int = 3) -> str:
    """A table cell, like "0.95 [0.94, 0.95]"; the column's title says what the interval is."""
    if not _known(value.estimate):
        return NOT_MEASURED
    middle = number(value.estimate, decimals)
    if not (_known(value.low) and _known(value.high)):
        return middle  # nothing to draw replicates from
    return f"{middle} [{number(value.low, decimals)}, {number(value.high, decimals)}]"


def interval_with_ci(value: Estimate, decimals: int = 3) -> str:
    """The same in a sentence, like "0.95 (95% CI 0.94–0.95)"."""
    return _in_sentence(value, decimals, 1, "")


def percent_interval(value: Estimate, decimals: int = 0) -> str:
    """A table cell, like "102% [100, 103]"; a dash where there is no estimate."""
    if not _known(value.estimate):
        return MISSING
    middle = percent(value.estimate, decimals)
    if not (_known(value.low) and _known(value.high)):
        return middle
    return f"{middle} [{number(100 * value.low, decimals)}, {number(100 * value.high, decimals)}]"


def percent_with_ci(value: Estimate, decimals: int = 0, *, more: str = "") -> str:
    """The same in a sentence, like "102% (95% CI 100–103%)"; `more` follows the interval inside the parentheses."""
    return _in_sentence(value, decimals, 100, "%", more)


def _in_sentence(value: Estimate, decimals: int, scale: float, unit: str, more: str = "") -> str:
    if not _known(value.estimate):
        return NOT_MEASURED
    middle = f"{number(scale * value.estimate, decimals)}{unit}"
    notes = [more] if more else []
    if _known(value.low) and _known(value.high):
        notes.insert(0, f"{CI} {_range(scale * value.low, scale * value.high, decimals)}{unit}")
    return f"{middle} ({'; '.join(notes)})" if notes else middle


def _range(low: float, high: float, decimals: int) -> str:
    ends = number(low, decimals), number(high, decimals)
    return (" to " if low < 0 else "–").join(ends)  # a dash beside a minus is hard to read


def duration(seconds: float | None) -> str:
    """Seconds in the unit that suits them."""
    if not _known(seconds):
        return UNKNOWN
    for factor, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= factor:
            return f"{seconds / factor:.1f} {unit}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def duration_at(flop: float, rates: Sequence[float]) -> str:
    """Time of so many FLOPs at a rate in FLOP/s, or from the highest to the lowest, like "1.6 h to 2.9 h"."""
    if not rates:
        return UNKNOWN
    return _joined([duration(flop / rate) for rate in sorted(rates, reverse=True)])


def rate_range(rates: Sequence[float]) -> str:
    """A rate, or the lowest and highest, like "93.6 TFLOP/s to 172 TFLOP/s"."""
    return _joined([flops_per_second(rate) for rate in sorted(rates)])


def _joined(amounts: list[str]) -> str:
    return " to ".join(dict.fromkeys(amounts))


def parameter_count(n: int) -> str:
    """A number of parameters, like "135 million parameters"."""
    if n < 1e6:
        return counted(n, "parameter")
    return f"{n / 1e9:.2f} billion parameters" if n >= 1e9 else f"{n / 1e6:,.0f} million parameters"


def counted(n: int, noun: str) -> str:
    """A count with its noun, like "1 seed" or "3 seeds"."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def layer_range(first: int, behind: int) -> str:
    """Layers first..behind-1, like "layers 19–29"."""
    return f"layer {first}" if behind - first == 1 else f"layers {first}–{behind - 1}"


def _known(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)
