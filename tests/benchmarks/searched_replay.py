"""Rules replayed on finetunes that were made: what each would have taken on a task, and at what price."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from semfreeze_core.gains.race import RaceLosses, choose_balanced
from semfreeze_core.gains.rates import best_trial
from semfreeze_core.plan.auto import variant_name
from semfreeze_core.records.defaults import MARGIN, PROGRESSIVE
from semfreeze_core.records.usual_depths import quarter_depth
from tests.benchmarks.searched_cells import Cell, Task

RUN_STEPS = 600  # of the finetune that a race's price is set against


@dataclass(frozen=True)
class Taken:
    """What a rule takes.

    Attributes:
        variant: the one it trains.
        price: FLOPs of finding it, over those of RUN_STEPS steps of full finetuning.
    """

    variant: str
    price: float = 0.0


def quarter(task: Task) -> str:
    """The variant that freezes a quarter of the layers."""
    return variant_name(quarter_depth(task.n_layers))


def two_thirds(task: Task) -> str:
    """The variant that freezes two thirds of them."""
    return variant_name(2 * task.n_layers // 3)


def half(task: Task) -> str:
    """The variant that freezes half of them."""
    return variant_name(task.n_layers // 2)


def race(task: Task) -> Taken | None:
    """The rule auto's race over full finetuning, a quarter and two thirds, replayed at the step of the search."""
    return race_of(task, ("full", quarter(task), two_thirds(task)), quarter(task))


def race_of(task: Task, variants: Sequence[str], safe: str) -> Taken | None:
    """A race of these variants, replayed at the step of the search.

    None where one of them has no trial that lowered the loss. Its price holds the whole search of all, and the steps of
    the best rates that it does not go on with, over full finetuning's.

    Args:
        task: its finetunes.
        variants: that are raced.
        safe: taken where the race cannot tell.
    """
    full = task.cell("full")
    cells = {name: task.cell(name) for name in variants}
    if full is None or any(cell is None or _best_losses(cell) is None for cell in cells.values()):
        return None
    raced = {name: cell for name, cell in cells.items() if cell is not None}
    after = {name: np.array(_best_losses(cell)) for name, cell in raced.items()}
    n = min(len(losses) for losses in after.values())
    losses = RaceLosses(
        before=np.array(task.before[:n]),
        tokens=np.array(task.completion_tokens[:n], dtype=float),
        after={name: losses[:n] for name, losses in after.items()},
        flop={name: cell.readings[-1].flop for name, cell in raced.items()},
    )
    chosen = choose_balanced(losses, safe).variant
    spent = sum(_search_flop(cell, goes_on=name == chosen) for name, cell in raced.items())
    return Taken(chosen, spent / (full.readings[-1].flop * RUN_STEPS / task.settings.steps))


def by_coverage(task: Task, least: float) -> Taken:
    """A quarter where completions are newer than `least`, else two thirds."""
    covered = task.checks.bigram_coverage
    return Taken(two_thirds(task) if covered is not None and covered >= least else quarter(task))


def rules(tasks: Sequence[Task]) -> Iterator[tuple[str, Callable[[Task], Taken | None]]]:
    """Every rule by its name; those that read nothing last."""
    yield "auto: the race", race
    yield "a race of a quarter and half", lambda task: race_of(task, (quarter(task), half(task)), quarter(task))
    yield "a race of half and two thirds", lambda task: race_of(task, (half(task), two_thirds(task)), half(task))
    yield (
        "auto: free checks, threshold from the other tasks",
        lambda task: by_coverage(task, best_threshold([t for t in tasks if t is not task])),
    )
    for name in tasks[0].picks:
        yield f"{name}, at the nearest trained depth", lambda task, name=name: _nearest(task, task.picks[name])
    for name, variant in (
        ("a quarter", quarter),
        ("half", half),
        ("two thirds", two_thirds),
        (
            "a quarter, then two thirds",
            lambda task: next((v for v in task.variants if v.startswith(PROGRESSIVE)), PROGRESSIVE),
        ),
        ("LoRA", lambda task: "lora"),
        ("full finetuning", lambda task: "full"),
    ):
        yield (
            name,
            lambda task, variant=variant: Taken(variant(task)) if task.cell(variant(task)) is not None else None,
        )


def is_safe_deep(task: Task) -> bool:
    """Whether two thirds keeps all of full finetuning's loss reduction but the margin."""
    return task.kept_at_steps(two_thirds(task)).estimate >= 1 - MARGIN


def best_threshold(tasks: Sequence[Task]) -> float:
    """The coverage that tells tasks where two thirds is safe from the others with the fewest errors.

    Between two tasks' coverages; of equally good ones the highest, which freezes least.
    """
    known = sorted((t.checks.bigram_coverage, is_safe_deep(t)) for t in tasks if t.checks.bigram_coverage is not None)
    covered = [coverage for coverage, _ in known]
    between = [0.0, *((low + high) / 2 for low, high in pairwise(covered)), 1.0]
    return max(between, key=lambda at: (sum((coverage >= at) == safe for coverage, safe in known), at))


def _nearest(task: Task, depth: int | None) -> Taken | None:
    """The trained depth nearest to a rule's; full finetuning where it makes no recommendation."""
    cells = [task.cell(name) for name in task.variants if name == "full" or name.startswith("depth:")]
    wanted = depth or 0
    nearest = min((cell for cell in cells if cell is not None), key=lambda cell: abs(cell.freeze_depth - wanted))
    return Taken(nearest.variant)


def _best_losses(cell: Cell) -> list[float] | None:
    search = cell.search
    best = None if search is None else best_trial(search.trials, search.loss_before)
    return None if best is None else best.losses


def _search_flop(cell: Cell, *, goes_on: bool) -> int:
    assert cell.search is not None
    flop = next(trial.flop for trial in cell.search.trials if trial.rate == cell.search.rate)
    return cell.search.spent_flop + (0 if goes_on else flop)
