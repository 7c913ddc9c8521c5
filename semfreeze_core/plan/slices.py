"""Groups of a run's examples, each read by itself: where one freeze depth does not fit all."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from semfreeze_core.gains import gain_curve
from semfreeze_core.plan.rules import Decision, decide_by_coverage
from semfreeze_core.records.gain import GainCurve, Interval
from semfreeze_core.records.run import Run
from semfreeze_core.records.trace import SwappedPairs, TransitionTrace

SMALLEST_SLICE, MOST_SLICES = 16, 12


@dataclass(frozen=True)
class Slice:
    """One group of a run's examples, read by itself.

    Attributes:
        name: the label its examples share.
        curve: from its rows alone.
        decision: what the coverage rule's formula says of it.
    """

    name: str
    curve: GainCurve
    decision: Decision

    @property
    def pick(self) -> tuple[int, int]:
        """5th and 95th percentile of the rule's depth over replicates."""
        return self.decision.pick_interval or (0, 0)

    def contradicts(self, depth: int) -> bool:
        """Whether the rule, over replicates, freezes this group less deep than `depth` nearly always."""
        return self.pick[1] < depth

    def coverage_at(self, depth: int) -> Interval:
        return self.curve.coverage.at(depth)


def slices(run: Run, metric: str) -> tuple[list[Slice], int]:
    """The groups of examples that share a label, largest first, and how many groups are too small to read."""
    counts = run.examples["label"].value_counts()
    large = [str(name) for name, count in counts.items() if count >= SMALLEST_SLICE]
    found = []
    for name in large[:MOST_SLICES]:
        rows = np.flatnonzero((run.examples["label"] == name).to_numpy(dtype=bool, na_value=False))
        # Which prompts the task null swapped is not kept by example, so a group is read without it.
        nothing = SwappedPairs(metric, run.pairs[metric].own[:0], run.pairs[metric].own[:0], "not split by group")
        curve = gain_curve(
            _rows_of(run.traces[metric], rows), nothing, tied=run.shape.tied, seed=run.manifest.settings.seed
        )
        found.append(Slice(name, curve, decide_by_coverage(curve)))
    return found, len(counts) - len(found)


def _rows_of(trace: TransitionTrace, rows: npt.NDArray[np.int64]) -> TransitionTrace:
    names = ("deviation", "null", "first_deviation", "first_null", "later_deviation", "later_null")
    return replace(trace, **{name: getattr(trace, name)[rows] for name in names})
