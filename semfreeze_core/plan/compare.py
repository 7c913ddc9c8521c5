"""Several runs side by side: of other models, checkpoints, or data; what each recommends, and where curves differ."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from semfreeze_core.errors import PlanError
from semfreeze_core.gains.bootstrap import replicate_means, resampling_weights
from semfreeze_core.gains.difference import Difference, difference
from semfreeze_core.plan.make import curve_of
from semfreeze_core.plan.opinions import Opinion, gather_opinions
from semfreeze_core.records.gain import GainCurve
from semfreeze_core.records.run import Run

MOST_RUNS = 6
Quantity = Literal["gain coverage", "advantage"]


@dataclass(frozen=True)
class RunColumn:
    """One of the runs.

    Attributes:
        name: of the run.
        run: the analysis.
        curve: its gain curve.
        opinion: the coverage rule's result, with the cost of the default finetune on its own data.
    """

    name: str
    run: Run
    curve: GainCurve
    opinion: Opinion

    @property
    def relative_depth(self) -> float | None:
        """Share of the layers that the plan freezes; None when it abstains."""
        return None if self.opinion.freeze_depth is None else self.opinion.freeze_depth / self.curve.n_layers


@dataclass(frozen=True)
class SideBySide:
    """Runs compared.

    Attributes:
        metric: deviation that everything comes from.
        columns: the runs in the order they were given.
        differences: each later run's curves minus the first's, by its name and quantity.
        warnings: what keeps these runs from being compared in full.
    """

    metric: str
    columns: tuple[RunColumn, ...]
    differences: dict[str, dict[Quantity, Difference]]
    warnings: tuple[str, ...]


def side_by_side(runs: Mapping[str, Run], metric: str = "semantic") -> SideBySide:
    """Compare runs.

    Args:
        runs: two to MOST_RUNS analyses by name.
        metric: "semantic" or "logit_z"; every run must have it.

    Raises:
        PlanError: too few or too many runs, or one without the metric, which is named.
    """
    if not 2 <= len(runs) <= MOST_RUNS:
        raise PlanError(f"Expected 2 to {MOST_RUNS} different runs to compare, found {len(runs)}.")
    columns = []
    for name, run in runs.items():
        try:
            opinion = gather_opinions(run, metric=metric).rules["coverage"]
            columns.append(RunColumn(name, run, curve_of(run, metric), opinion))
        except PlanError as error:
            raise PlanError(f"{name}: {error}") from error
    first, *others = columns
    differences = {other.name: _differences(other, first) for other in others}
    return SideBySide(metric, tuple(columns), differences, tuple(_warnings(columns)))


def _differences(one: RunColumn, other: RunColumn) -> dict[Quantity, Difference]:
    paired = _sample(one.run) == _sample(other.run)

    def compared(mine: tuple[np.ndarray, np.ndarray], theirs: tuple[np.ndarray, np.ndarray]) -> Difference:
        # Draws of other examples have nothing to do with each other, but both may come from the same seed.
        drawn = theirs[1] if paired else np.roll(theirs[1], 1, axis=0)
        return difference(mine[0], theirs[0], mine[1], drawn, paired=paired)

    coverages = [(c.curve.coverage.mean, c.curve.coverage_replicates) for c in (one, other)]
    return {"gain coverage": compared(*coverages), "advantage": compared(_advantage(one), _advantage(other))}


def _advantage(column: RunColumn) -> tuple[np.ndarray, np.ndarray]:
    """The advantage and its replicates; NaN below the space that is measured first, where a tied head reads itself."""
    values = column.run.traces[column.curve.metric].advantage
    weights = resampling_weights(len(values), column.run.manifest.settings.seed)
    means, replicates = column.curve.advantage.mean.copy(), replicate_means(values, weights)
    means[: column.curve.start] = replicates[:, : column.curve.start] = np.nan
    return means, replicates


def _sample(run: Run) -> tuple[str, int, int]:
    """What two runs share when they analyzed the same tokens in the same order and draw replicates alike."""
    return run.manifest.data.tokens_digest, run.manifest.data.n_examples, run.manifest.settings.seed


def _warnings(columns: list[RunColumn]) -> list[str]:
    warnings = []
    vocabularies = {c.run.manifest.model.identity.source: c.run.manifest.model.real_vocab_rows for c in columns}
    if len(set(vocabularies.values())) > 1:
        sizes = ", ".join(f"{source} {size:,}" for source, size in vocabularies.items())
        warnings.append(
            f"Vocabularies differ ({sizes} tokens), so distances are measured in different spaces and on different "
            "tokens. Compare shares and shapes, not heights."
        )
    depths = {c.curve.n_layers for c in columns}
    if len(depths) > 1:
        counts = ", ".join(map(str, sorted(depths)))
        warnings.append(f"Models have {counts} layers: depths are compared as shares of the layers.")
    doubtful = [c.name for c in columns if c.curve.evidence.verdict == "no evidence"]
    if doubtful:
        warnings.append(
            f"No evidence that the layers do the task in {', '.join(doubtful)}: these curves may be due to chance."
        )
    return warnings
