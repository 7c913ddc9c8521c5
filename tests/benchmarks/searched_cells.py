"""One task's finetunes at searched learning rates: what is kept of them, and what they say."""

from pathlib import Path

import numpy as np

from semfreeze_core.gains.noninferiority import Floats, draw, improvement_kept
from semfreeze_core.gains.regret import regret
from semfreeze_core.records.interval import Interval
from semfreeze_core.records.provenance import Document, Provenance
from semfreeze_core.records.rates import RateSearch
from semfreeze_core.records.task_checks import TaskChecks
from semfreeze_core.records.validation import ValidationSettings

RESULTS = Path(__file__).parent / "results" / "searched"


class Reading(Document):
    """The losses of the eval items at a point of a training; of the first ones alone before its end."""

    step: int
    flop: int
    seconds: float
    item_losses: list[float]


class Cell(Document):
    """A variant with one seed; `relative_flop` is FLOPs over full finetuning's at the same steps, without search."""

    variant: str
    seed: int
    freeze_depth: int
    status: str
    reason: str
    rate: float
    search: RateSearch | None
    readings: list[Reading]
    relative_flop: float
    peak_bytes: int


class Task(Document):
    """Everything measured of one task.

    `completion_tokens` are the eval items' supervised tokens, `checks` the free checks of both sets, `picks` the depth
    that each rule recommends from the analysis, null where it recommends none.
    """

    task: str
    checks: TaskChecks
    picks: dict[str, int | None]
    settings: ValidationSettings
    n_layers: int
    before: list[float]
    completion_tokens: list[int]
    cells: list[Cell]
    provenance: Provenance

    def cell(self, variant: str) -> Cell | None:
        """A variant's finetune with the first seed; None where it is not there or did not end."""
        cells = (cell for cell in self.cells if cell.variant == variant and cell.seed == 0 and cell.status == "done")
        return next(cells, None)

    @property
    def variants(self) -> list[str]:
        """Those that ended, in the order in which they were trained."""
        return [name for name in self.settings.arms if self.cell(name) is not None]

    def after(self, variant: str) -> Floats:
        """Every eval item's loss after a variant's last step, (1, n_items), nats."""
        return np.array([self._done(variant).readings[-1].item_losses])

    def kept_at_steps(self, variant: str) -> Interval:
        """A variant's loss reduction over full finetuning's after the same steps."""
        return _reduction_share(np.array(self.before), self.after("full"), self.after(variant))

    def kept_at_compute(self, variant: str) -> Interval:
        """A variant's loss reduction over full finetuning's where that has taken the same FLOPs, search left out.

        Between two readings of full finetuning an item's loss is taken to fall in a straight line; over the items that
        were read between the marks. NaN where the variant takes more FLOPs than full finetuning.
        """
        full, last = self._done("full"), self._done(variant).readings[-1]
        n = min(len(reading.item_losses) for reading in full.readings if reading.item_losses)
        read = [(0, self.before[:n]), *((r.flop, r.item_losses[:n]) for r in full.readings if r.step and r.item_losses)]
        flop, losses = [flop for flop, _ in read], np.array([losses for _, losses in read])
        if last.flop > flop[-1]:
            return Interval(float("nan"), float("nan"), float("nan"))
        between = np.array([np.interp(last.flop, flop, item) for item in losses.T])
        return _reduction_share(np.array(self.before[:n]), between[None], np.array([last.item_losses[:n]]))

    def regret(self, variant: str) -> Interval:
        """What a variant's loss reduction lacks of the best one's, over the best one's, after the same steps."""
        before = np.array(self.before)
        best = min(self.variants, key=lambda name: float(self.after(name).mean()))
        return regret(before, self.after(best), self.after(variant), draw(1, len(before)))

    def _done(self, variant: str) -> Cell:
        cell = self.cell(variant)
        assert cell is not None, f"{self.task} has no {variant}"
        return cell


def read_all(folder: Path = RESULTS) -> list[Task]:
    """Every task whose full finetuning ended."""
    tasks = [Task.model_validate_json(path.read_text()) for path in sorted(folder.glob("*.json"))]
    return [task for task in tasks if task.cell("full") is not None]


def _reduction_share(before: Floats, full: Floats, other: Floats) -> Interval:
    return improvement_kept(before, full, other, draw(*full.shape))
