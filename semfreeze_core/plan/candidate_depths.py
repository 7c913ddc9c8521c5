"""Depths to finetune: those that rules and scores select, and depths spread over the layers."""

from collections.abc import Iterable
from dataclasses import dataclass

from semfreeze_core.cost import read_switch
from semfreeze_core.errors import InputError, PlanError
from semfreeze_core.plan.abstention import widest_range
from semfreeze_core.plan.opinions import UNMEASURED_RULES, Comparison
from semfreeze_core.plan.rules import depth_cap
from semfreeze_core.records.defaults import PROGRESSIVE
from semfreeze_core.records.model import ModelShape
from semfreeze_core.records.pilots import Aim, ProposedBy
from semfreeze_core.records.usual_depths import half_depth, quarter_depth, two_thirds_depth


@dataclass(frozen=True)
class Candidate:
    """The depth of a rule or score, or None when its formula gives none, and whether it recommends it."""

    depth: int | None
    recommended: bool


def candidates_of(comparison: Comparison) -> dict[str, Candidate]:
    """Every rule's and score's candidate, and `half`."""
    opinions = {n: o for n, o in (comparison.rules | comparison.scores).items() if n not in UNMEASURED_RULES}
    candidates = {name: Candidate(o.candidate_depth, o.freeze_depth is not None) for name, o in opinions.items()}
    return candidates | {"half": Candidate(half_depth(comparison.n_layers), True)}


def auto_depths(n_layers: int, candidates: Iterable[Candidate]) -> list[int]:
    """None, a quarter, half, two thirds and the most that rules freeze, and every candidate."""
    spread = {0, quarter_depth(n_layers), half_depth(n_layers), two_thirds_depth(n_layers), depth_cap(n_layers)}
    return sorted(spread | {candidate.depth for candidate in candidates if candidate.depth is not None})


def proposal(n_layers: int, pick: int | None, aim: Aim) -> tuple[int | None, ProposedBy | None]:
    """The depth that stays in the pilots until another is significantly better, and who proposes it.

    At equal compute two thirds of the layers, where it agrees with the recommended depth within max(1, L/4): in
    sweeps it lost less than that depth (tests/benchmarks/evidence.md). Elsewhere the recommended depth.

    Args:
        n_layers: L.
        pick: depth that the coverage rule recommends; None where it abstains.
        aim: of the pilots.
    """
    if pick is None:
        return None, None
    usual = two_thirds_depth(n_layers)
    if aim == "compute" and abs(pick - usual) <= widest_range(n_layers):
        return usual, "sweeps"
    return pick, "reading"


def parse_depths(text: str, n_layers: int) -> tuple[int, ...]:
    """Depths written as "8,16,20", in order.

    Raises:
        InputError: another form, none to freeze, one given twice, or one out of range.
    """
    try:
        depths = [int(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise InputError(f"--depths {text}: expected comma-separated whole numbers, or auto.") from error
    if any(not 0 <= k < n_layers for k in depths) or len(set(depths)) < len(depths) or not any(depths):
        raise InputError(f"--depths {text}: expected different depths in 0..{n_layers - 1}, one at least above 0.")
    return tuple(sorted(depths))


def depth_arms(depths: Iterable[int]) -> tuple[str, ...]:
    """Names of the arms of a sweep; full finetuning, which shares are of, is always among them."""
    return ("full", *(f"depth:{k}" for k in sorted(depths) if k))


def progressive_arm(text: str, shape: ModelShape, steps: int) -> str:
    """Name of a sweep's arm that freezes deeper after some steps, in full.

    Args:
        text: "W-K@N", as for read_switch; without W-K a quarter of the layers, then two thirds.
        shape: the counted model.
        steps: of the finetunes.

    Raises:
        PlanError: it is not so written, or not possible.
    """
    try:
        switch = read_switch(text, shape, two_thirds_depth(shape.n_layers), steps)
    except PlanError as error:
        raise PlanError(f"--progressive {text}: {error}.") from error
    if switch.measured:
        raise PlanError(
            f"--progressive {text}: only `semfreeze train` decides by trials when to freeze deeper; name a step, as in "
            f"@{switch.step}."
        )
    return f"{PROGRESSIVE}:{switch.wide_depth}-{switch.deep_depth}@{switch.step}"
