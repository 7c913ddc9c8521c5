"""The raw cells of one task, as they are kept in the repository."""

from pydantic import Field

from semfreeze_core.records.provenance import Document, Provenance
from semfreeze_core.records.validation import Budget, ValidationSettings


class Cell(Document):
    """One depth with one seed: each eval item's loss in nats after training, at equal steps and at equal compute.

    `curve` has step, FLOP so far and the mean loss of the first 64 items; `readings` those items' losses at each of its
    points, empty in cells from before they were kept.
    `relative_flop` is FLOP at equal steps over full finetuning's, `flop` and `seconds` of the whole run, cache pass
    included.
    """

    freeze_depth: int
    seed: int
    losses: dict[Budget, list[float]]
    curve: list[tuple[int, int, float]]
    readings: list[list[float]] = Field(default_factory=list)
    flop: int
    relative_flop: float
    seconds: float
    steps: int


class Pick(Document):
    """A rule's or score's depth, null where its formula gives none, and whether it recommends it."""

    depth: int | None
    recommended: bool


class TaskCells(Document):
    """Everything measured of one task.

    `picks` and `coverage`, R(k) for k = 0..L with null where there is none, are by deviation metric, and so
    are the reading's verdicts on the task and, as a control, on it with its completions shuffled between rows.
    `coverage_low` is R(k)'s 10th percentile over bootstrap replicates, all that the coverage rule needs at any weight
    and threshold. `model` says in words which model it is when it is not the embedded one as released. `contrary` is a
    task whose input side matters: it is told apart, and counts in no mean.
    """

    task: str
    about: str
    model: str
    contrary: bool
    settings: ValidationSettings
    n_layers: int
    before: list[float]
    cells: list[Cell]
    n_cells_asked: int
    picks: dict[str, dict[str, Pick]]
    coverage: dict[str, list[float | None]]
    coverage_low: dict[str, list[float | None]]
    verdicts: dict[str, str]
    shuffled: dict[str, str]
    provenance: Provenance
