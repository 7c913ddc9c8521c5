"""One estimate with its interval: as a value, and as it is written down."""

from dataclasses import dataclass

from semfreeze_core.records import defaults
from semfreeze_core.records.provenance import Document


@dataclass(frozen=True)
class Interval:
    """One estimate with a two-sided interval at `defaults.CONFIDENCE`; NaN where it is not defined."""

    estimate: float
    low: float
    high: float


class IntervalEntry(Document):
    """An estimate with its two-sided interval at `defaults.CONFIDENCE`; null where it is not defined."""

    estimate: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, interval: Interval) -> "IntervalEntry":
        """The same, with null for NaN."""
        return cls(
            estimate=null_if_nan(interval.estimate), low=null_if_nan(interval.low), high=null_if_nan(interval.high)
        )


def null_if_nan(value: float) -> float | None:
    """The value as a document holds it: null for NaN."""
    return value if value == value else None


def ci_label() -> str:
    """What stands before the two ends of an interval in a sentence, such as "95% CI"."""
    return f"{100 * defaults.CONFIDENCE:.3g}% CI"
