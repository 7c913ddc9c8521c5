"""Runs side by side in words: which depth each says, and where curves differ for sure."""

import numpy as np

from semfreeze_core.gains.difference import Difference
from semfreeze_core.plan.compare import Quantity, RunColumn, SideBySide
from semfreeze_core.wording.numbers import percent


def depths_words(found: SideBySide) -> str:
    """What the plans say, together."""
    told = [f"{_plan(column)} ({column.name})" for column in found.columns]
    shares = [column.relative_depth for column in found.columns]
    known = [share for share in shares if share is not None]
    if len(known) < 2:
        end = "fewer than two recommend a depth, so there is nothing to agree on."
    elif max(known) - min(known) <= 0.1:
        end = "those that recommend one agree within a tenth of the layers."
    else:
        end = f"from {percent(min(known))} to {percent(max(known))} of the layers: one depth does not fit all."
    return f"Freeze {', '.join(told)}; {end}"


def difference_words(name: str, first: str, quantity: Quantity, found: Difference) -> str:
    """Where one run's curve lies above or below the first's for sure, and by how much at most."""
    at = found.largest
    if at is None:
        return f"{quantity} of {name} and of {first} are not both measured anywhere."
    basis = "the same examples, paired" if found.paired else "different examples"
    if not found.surely:
        return (
            f"{quantity.capitalize()} of {name} and {first} ({basis}): the 95 % band includes 0 at every depth, so no "
            f"difference is shown; the largest is {_signed(found, at)}."
        )
    where = ", ".join(_stretch(*ends) for ends in found.surely)
    sure = np.where((found.band.low > 0) | (found.band.high < 0), np.abs(found.band.mean), -1.0)
    return (
        f"{quantity.capitalize()} of {name} and {first} ({basis}) differ for sure at {where} of the depth, most at "
        f"{percent(float(found.depth[sure.argmax()]))}: {_signed(found, int(sure.argmax()))}."
    )


def _plan(column: RunColumn) -> str:
    depth = column.opinion.freeze_depth
    return "nothing for sure" if depth is None else f"{depth} of {column.curve.n_layers}"


def _stretch(start: float, end: float) -> str:
    return percent(start) if start == end else f"{100 * start:.0f} to {percent(end)}"


def _signed(found: Difference, at: int) -> str:
    mean, low, high = (float(part[at]) for part in (found.band.mean, found.band.low, found.band.high))
    return f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"
