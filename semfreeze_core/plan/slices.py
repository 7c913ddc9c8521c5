"""Groups of a run's examples, each analyzed separately: where one freeze depth does not fit all.

Examples are grouped by their label, by another column of the task file that the run has kept, or by length.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from semfreeze_core.errors import PlanError
from semfreeze_core.gains import gain_curve
from semfreeze_core.plan.rules import Decision, decide_by_coverage
from semfreeze_core.records.defaults import MAX_SLICES, MIN_SLICE
from semfreeze_core.records.gain import GainCurve, Interval
from semfreeze_core.records.run import GROUP_PREFIX, Run
from semfreeze_core.records.trace import SwappedPairs, TransitionTrace

LABEL = "label"
_LENGTHS = ("prompt length", "completion length")


@dataclass(frozen=True)
class Slice:
    """One group of a run's examples, analyzed separately.

    Attributes:
        name: what its examples share.
        curve: from its rows alone.
        decision: the coverage rule's result for it.
    """

    name: str
    curve: GainCurve
    decision: Decision

    @property
    def pick(self) -> tuple[int, int]:
        """PICK_PERCENTILES of the rule's depth over replicates."""
        return self.decision.pick_interval or (0, 0)

    def contradicts(self, depth: int) -> bool:
        """Whether the rule, over replicates, freezes this group less deep than `depth` nearly always."""
        return self.pick[1] < depth

    def coverage_at(self, depth: int) -> Interval:
        return self.curve.coverage.at(depth)


def kept_columns(run: Run) -> list[str]:
    """Columns of the task file beside its fields that the run's examples can be grouped by; none in older runs."""
    columns = [name.removeprefix(GROUP_PREFIX) for name in run.examples.columns if name.startswith(GROUP_PREFIX)]
    return [name for name in columns if name not in (LABEL, *_LENGTHS)]


def groupings(run: Run) -> list[str]:
    """What the run's examples can be grouped by: their label first, where there is one."""
    return [*([LABEL] if run.examples[LABEL].notna().any() else []), *kept_columns(run), *_LENGTHS]


def slices(run: Run, metric: str, by: str = LABEL) -> tuple[list[Slice], int]:
    """The groups of examples, largest first but lengths from the shortest, and how many are too small.

    Args:
        run: a finished analysis.
        metric: deviation the gains come from.
        by: one of `groupings`; LABEL of a run without labels gives no group.

    Raises:
        PlanError: the run cannot be grouped by that; names what it can be grouped by.
    """
    groups = _groups(run, by)
    counts = groups.value_counts(sort=by not in _LENGTHS)
    large = [str(name) for name, count in counts.items() if count >= MIN_SLICE]
    groups_shown = []
    for name in large[:MAX_SLICES]:
        rows = np.flatnonzero((groups == name).to_numpy(dtype=bool, na_value=False))
        groups_shown.append(_slice_of(run, metric, rows, name))
    return groups_shown, len(counts) - len(groups_shown)


def slice_of_examples(run: Run, metric: str, rows: npt.NDArray[np.int64]) -> Slice | None:
    """Chosen examples as a group of their own; None for fewer than MIN_SLICE.

    Args:
        run: a finished analysis.
        metric: deviation the gains come from.
        rows: of the run's table of examples, each once.
    """
    return _slice_of(run, metric, rows, "chosen examples") if len(rows) >= MIN_SLICE else None


def _slice_of(run: Run, metric: str, rows: npt.NDArray[np.int64], name: str) -> Slice:
    # Which prompts the task null swapped is not kept by example, so a group is analyzed without it.
    nothing = SwappedPairs(metric, run.pairs[metric].own[:0], run.pairs[metric].own[:0], "not split by group")
    curve = gain_curve(
        _rows_of(run.traces[metric], rows), nothing, tied=run.shape.tied, seed=run.manifest.settings.seed
    )
    return Slice(name, curve, decide_by_coverage(curve))


def _groups(run: Run, by: str) -> "pd.Series[Any]":
    """Each example's group; missing where it has none."""
    if by == LABEL:
        return run.examples[LABEL]
    if by not in groupings(run):
        raise PlanError(f"The run cannot be grouped by {by!r}. Available groups: {', '.join(groupings(run))}.")
    if by not in _LENGTHS:
        return run.examples[GROUP_PREFIX + by]
    supervised = run.examples["n_supervised"]
    return _thirds(supervised if by == "completion length" else run.examples["n_tokens"] - supervised)


def _thirds(lengths: "pd.Series[int]") -> "pd.Series[Any]":
    """Examples of the shortest, middle and longest third, named by their range; equal lengths stay together."""
    edges = np.unique(np.quantile(lengths, [1 / 3, 2 / 3], method="lower"))
    third = pd.Series(np.searchsorted(edges, lengths, side="left"), index=lengths.index)
    names = {
        i: f"{part.min()} to {part.max()} tokens" if part.min() < part.max() else f"{part.min()} tokens"
        for i, part in lengths.groupby(third)
    }
    return third.map(names).astype(pd.CategoricalDtype([names[i] for i in sorted(names)], ordered=True))


def _rows_of(trace: TransitionTrace, rows: npt.NDArray[np.int64]) -> TransitionTrace:
    names = ("deviation", "null", "first_deviation", "first_null", "later_deviation", "later_null")
    return replace(trace, **{name: getattr(trace, name)[rows] for name in names})
