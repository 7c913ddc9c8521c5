"""Sentences on the search for a learning rate."""

from semfreeze_core.records.rates import RateSearch, RateTrial
from semfreeze_core.wording.numbers import counted, number


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
    return f"{chosen}{origin}. Tried {tried}; {number(search.loss_before)} before training."


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
