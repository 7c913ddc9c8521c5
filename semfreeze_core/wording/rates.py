"""Sentences on the search for a learning rate."""

from collections.abc import Mapping, Sequence

from semfreeze_core.records.defaults import MIN_RATE_EXAMPLES, MIN_RATE_STEPS, RATE_TRIALS
from semfreeze_core.records.rates import RateSearch, RateTrial
from semfreeze_core.wording.numbers import counted, number, percent


def learning_rate(rate: float) -> str:
    """A rate as people write it: 3e-4."""
    mantissa, exponent = f"{rate:e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def trial_line(trial: RateTrial) -> str:
    """What one rate gave."""
    rate = learning_rate(trial.rate)
    if trial.end == "diverged":
        return f"{rate}: the loss was not a number after {counted(trial.steps, 'step')}"
    if trial.end == "behind" or trial.loss is None:
        return f"{rate}: stopped after {counted(trial.steps, 'step')}, behind"
    return f"{rate}: loss {number(trial.loss)} after {counted(trial.steps, 'step')}"


def search_line(search: RateSearch) -> str:
    """Every rate that was tried, and the one that was chosen."""
    tried = "; ".join(trial_line(trial) for trial in sorted(search.trials, key=lambda trial: trial.rate))
    chosen = "none lowered the loss" if search.rate is None else f"{learning_rate(search.rate)} has the lowest loss"
    origin = " (from an earlier search)" if search.reused else ""
    if search.too_high is not None:
        tried += f"; from {learning_rate(search.too_high)} on rates were too high with fewer layers trained"
    return f"{chosen}{origin}. Tried {tried}; {_compared_with(search)}."


def no_rate_reason(search: RateSearch) -> str:
    """Why a variant was not trained: no rate lowered its loss."""
    tried = "; ".join(trial_line(trial) for trial in search.trials)
    if search.loss_before is None:
        return f"At no learning rate was the loss a number: {tried}."
    return f"No learning rate lowered the eval loss ({number(search.loss_before)} before training): {tried}."


def _compared_with(search: RateSearch) -> str:
    if search.loss_before is None:
        return f"compared on the training batches ({counted(search.n_items, 'example')}, each before its step)"
    return f"{number(search.loss_before)} before training"


def search_price_line(variants: Sequence[str], steps: int, n_items: int, shares: tuple[float, float]) -> str:
    """What a search of rates does and costs.

    Args:
        variants: whose rates are searched.
        steps: where rates are compared.
        n_items: eval examples they are compared on.
        shares: least and most of what all finetunes together compute.
    """
    least, most = (percent(share) for share in shares)
    return (
        f"Learning rates are searched for {', '.join(variants)}: up to {RATE_TRIALS} rates each, compared after "
        f"{counted(steps, 'step')} on {counted(n_items, 'eval example')}; the best continues. The search adds {least} "
        f"to {most} to the compute of the finetunes."
    )


def rates_line(searches: Mapping[str, RateSearch | None]) -> str:
    """Which variants' rates were searched, so that a comparison is one of each at its own."""
    searched = [name for name, search in searches.items() if search is not None]
    if not searched:
        return "Learning rates as given, none searched: another rate may change the order."
    given = [name for name in searches if name not in searched]
    others = f" Given, not searched: {', '.join(given)}." if given else ""
    by_steps: dict[int, list[str]] = {}
    for name, search in searches.items():
        if search is not None:
            by_steps.setdefault(search.steps, []).append(name)
    if len(by_steps) == 1:
        return f"Each variant at the best learning rate of its own search, all searches alike.{others}"
    compared = [f"after {counted(steps, 'step')} for {', '.join(names)}" for steps, names in by_steps.items()]
    return (
        f"Each variant at the best learning rate of its own search. Rates were compared {'; '.join(compared)}.{others}"
    )


def rate_note(search: RateSearch | None, rate: float, *, given: bool) -> str:
    """Which learning rate a training took, and why."""
    if search is not None:
        return f"Learning rate: {search_line(search)}"
    if given:
        return f"Learning rate: {learning_rate(rate)}, as given."
    return (
        f"Learning rate: {learning_rate(rate)}, the default, which was tuned for nothing of yours. The best one is "
        f"searched with at least {MIN_RATE_EXAMPLES} eval examples (--eval) and {3 * MIN_RATE_STEPS} steps, or without "
        "eval examples in a longer training."
    )


def search_warnings(search: RateSearch) -> list[str]:
    """What a search's choice leaves open."""
    if search.rate is None:
        return []
    rate = learning_rate(search.rate)
    warnings = []
    if search.at_edge:
        warnings.append(f"The best learning rate, {rate}, is at the edge of those tried: a better one may lie beyond.")
    if search.unstable:
        warnings.append(
            f"At learning rate {rate} the training loss rose within the search: the rate may be too high for a longer "
            "training."
        )
    return warnings
