"""Rules replayed on finetunes that were made: what each would have taken on a task, and at what price."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from semfreeze_core.gains.race import RaceLosses, choose_balanced
from semfreeze_core.gains.race_price import race_rows
from semfreeze_core.gains.rates import best_trial, is_behind, later_half, next_rate, too_high_rate
from semfreeze_core.plan.auto import variant_name
from semfreeze_core.records.defaults import LEAST_BIGRAM_COVERAGE, MARGIN, PROGRESSIVE
from semfreeze_core.records.rates import RateSearch, RateTrial
from semfreeze_core.records.usual_depths import quarter_depth
from tests.benchmarks.searched_cells import Cell, Task

RUN_STEPS = 600  # of the finetune that a race's price is set against
FORWARD = 1 / 3  # of a step's FLOPs with every layer trained


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


Check = Callable[[Task], float | None]
Pick = Callable[[Task], str]  # a variant's name


def race(task: Task) -> Taken | None:
    """The race of `semfreeze finetune`, replayed at the step of the search."""
    return race_of(task, (half(task), quarter(task)), quarter(task))


def race_of(task: Task, variants: Sequence[str], safe: str) -> Taken | None:
    """A race of these variants, replayed at the step of the search.

    None where one of them was not trained, or where the losses at the rate that its race would choose are not known.
    Its price is what a race adds to a training at a known rate: the rates that lose, the steps of the variants that
    lose, and the evaluations of all and of the model before training.

    Args:
        task: its finetunes.
        variants: that are raced, the one that trains fewest layers first.
        safe: taken where the race cannot tell.
    """
    cells = {name: task.cell(name) for name in variants}
    raced = {name: cell for name, cell in cells.items() if cell is not None}
    after = {name: _losses_at(raced[name], search.rate) for name, search in searches(raced).items()}
    if len(after) < len(variants) or any(losses is None for losses in after.values()):
        return None
    known = {name: np.array(losses) for name, losses in after.items()}
    n = min(len(losses) for losses in known.values())
    losses = RaceLosses(
        before=np.array(task.before[:n]),
        tokens=np.array(task.completion_tokens[:n], dtype=float),
        after={name: losses[:n] for name, losses in known.items()},
        flop={name: cell.readings[-1].flop for name, cell in raced.items()},
    )
    if not losses.learned():
        return None
    chosen = choose_balanced(losses, safe).variant
    batch = task.settings.setup.batch_size
    readings = (len(raced) + 1) * race_rows(RUN_STEPS, batch, len(raced)) / batch * FORWARD * _step_flop(task, "full")
    made = searches(raced)
    lost = sum(search.steps * _step_flop(task, name) for name, search in made.items() if name != chosen)
    searched = sum(search.spent_flop for search in made.values())
    return Taken(chosen, _share_of_full(task, searched + lost + readings))


def always(task: Task, variant: str) -> Taken | None:
    """The same variant on every task, at the rate of a search of its own; None where it was not trained."""
    cell = task.cell(variant)
    if cell is None:
        return None
    search = searches({variant: cell}).get(variant)
    return None if search is None else Taken(variant, _share_of_full(task, search.spent_flop))


def searches(cells: Mapping[str, Cell]) -> dict[str, RateSearch]:
    """The searches that `semfreeze finetune` makes of these variants, replayed on the trials that were recorded.

    Each goes by the losses of the training's own batches, and begins where the one before it ended. A trial that was
    not recorded, or only to its half, counts as stopped half-way. Only variants with a search are in the result.

    Args:
        cells: by variant, the one that trains fewest layers first.
    """
    done: dict[str, RateSearch] = {}
    before: RateSearch | None = None
    for name, cell in cells.items():
        if cell.search is None:
            continue
        done[name] = before = _search(cell.search, before)
    return done


def _search(recorded: RateSearch, before: RateSearch | None) -> RateSearch:
    start = recorded.start if before is None or before.rate is None else before.rate
    too_high = None if before is None else too_high_rate(before)
    trials: list[RateTrial] = []
    lower_first = before is not None
    while (rate := next_rate(trials, start, None, lower_first=lower_first, too_high=too_high)) is not None:
        trials.append(_trial(rate, recorded, best_trial(trials, None)))
    best = best_trial(trials, None)
    lost = [trial.flop for trial in trials if best is None or trial.rate != best.rate]
    return recorded.model_copy(
        update={
            "rate": None if best is None else best.rate,
            "start": start,
            "trials": trials,
            "spent_flop": sum(lost),
            "too_high": too_high,
            "compared_on": "training batches",
        }
    )


def _trial(rate: float, recorded: RateSearch, best: RateTrial | None) -> RateTrial:
    """A rate's trial as a search on training batches makes it."""
    steps = recorded.steps
    made = next((trial for trial in recorded.trials if trial.rate == rate), None)
    flop = max(trial.flop / trial.steps for trial in recorded.trials)
    losses = [] if made is None else made.train_losses
    half_losses = later_half(losses[: steps // 2])
    behind = (
        best is not None and best.half_losses is not None and is_behind(half_losses, best.half_losses, on_batches=True)
    )
    whole = len(losses) >= steps and not behind
    taken = steps if whole else steps // 2
    return RateTrial(
        rate=rate,
        end="read" if whole else "behind",
        steps=taken,
        half_losses=half_losses,
        losses=later_half(losses[:steps]) if whole else None,
        train_losses=losses[:taken],
        flop=round(taken * flop),
        seconds=0.0,
    )


def bigram_coverage(task: Task) -> float | None:
    """Share of the token pairs in eval completions that training completions hold."""
    return task.checks.bigram_coverage


def loss_before(task: Task) -> float:
    """Mean loss of the eval items before training, nats."""
    return float(np.mean(task.before))


def by_check(task: Task, check: Check, least: float, deep: Pick) -> Taken | None:
    """The deep variant where a free check gives at least `least`, else a quarter."""
    value = check(task)
    return always(task, deep(task) if value is not None and value >= least else quarter(task))


CHECKS: dict[str, Check] = {"pairs covered": bigram_coverage, "loss before": loss_before}


def rules(tasks: Sequence[Task]) -> Iterator[tuple[str, Callable[[Task], Taken | None]]]:
    """Every rule by its name; those that read nothing last."""
    yield (
        f"auto without a race: two thirds where {LEAST_BIGRAM_COVERAGE} of the pairs are covered, else a quarter",
        lambda task: by_check(task, bigram_coverage, LEAST_BIGRAM_COVERAGE, two_thirds),
    )
    yield "a race of a quarter and half", lambda task: race_of(task, (half(task), quarter(task)), quarter(task))
    yield (
        "a race of a quarter and two thirds",
        lambda task: race_of(task, (two_thirds(task), quarter(task)), quarter(task)),
    )
    yield (
        "a race of a quarter, half and two thirds",
        lambda task: race_of(task, (two_thirds(task), half(task), quarter(task)), quarter(task)),
    )
    yield "a race of half and two thirds", lambda task: race_of(task, (two_thirds(task), half(task)), half(task))
    for check_name, check in CHECKS.items():
        for deep_name, deep in (("half", half), ("two thirds", two_thirds)):
            yield (
                f"{deep_name} by {check_name}, threshold from the other tasks",
                lambda task, check=check, deep=deep: by_check(
                    task, check, best_threshold([t for t in tasks if t is not task], check, deep), deep
                ),
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
        yield name, lambda task, variant=variant: always(task, variant(task))


def is_safe(task: Task, deep: Pick) -> bool:
    """Whether a variant keeps all of full finetuning's loss reduction but the margin."""
    return task.kept_at_steps(deep(task)).estimate >= 1 - MARGIN


def best_threshold(tasks: Sequence[Task], check: Check, deep: Pick) -> float:
    """The value of a check that tells tasks where `deep` is safe from the others with the fewest errors.

    Between two tasks' values; of equally good ones the highest, which freezes least.
    """
    known = sorted((value, is_safe(t, deep)) for t in tasks if t.cell(deep(t)) and (value := check(t)) is not None)
    values = [value for value, _ in known]
    between = [0.0, *((low + high) / 2 for low, high in pairwise(values)), math.inf]
    return max(between, key=lambda at: (sum((value >= at) == safe for value, safe in known), at))


def _nearest(task: Task, depth: int | None) -> Taken | None:
    """The trained depth nearest to a rule's; full finetuning where it makes no recommendation."""
    cells = [task.cell(name) for name in task.variants if name == "full" or name.startswith("depth:")]
    wanted = depth or 0
    nearest = min((cell for cell in cells if cell is not None), key=lambda cell: abs(cell.freeze_depth - wanted))
    return always(task, nearest.variant)


def _losses_at(cell: Cell, rate: float | None) -> list[float] | None:
    """The eval items' losses after the steps of the search, at a rate; None where they were not read."""
    assert cell.search is not None
    return next((trial.losses for trial in cell.search.trials if trial.rate == rate), None)


def _step_flop(task: Task, variant: str) -> float:
    cell = task.cell(variant)
    assert cell is not None
    return cell.readings[-1].flop / task.settings.setup.steps


def _share_of_full(task: Task, flop: float) -> float:
    """FLOPs over those of RUN_STEPS steps of full finetuning."""
    return flop / (RUN_STEPS * _step_flop(task, "full"))
