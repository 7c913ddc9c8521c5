"""What a finetune is to be good at, as it is written on the command line."""

import math
import re

from semfreeze_core.errors import InputError
from semfreeze_core.records.race import Objective

_WRITTEN = re.compile(r"(balanced|quality|memory|time)(?:[ =](\d+(?:\.\d+)?) ?([A-Za-z]*))?")
_UNITS = {
    "memory": {"": 2**30, "gib": 2**30, "gb": 10**9},
    "time": {"min": 60, "m": 60, "h": 3600, "d": 86400},
}


def parse_objective(text: str) -> Objective:
    """An objective, from "balanced", "quality", "memory 16" (GiB) or "time 2h" (or "time 90min").

    Raises:
        InputError: another word, a limit that is missing, zero or in no known unit.
    """
    match = _WRITTEN.fullmatch(text.strip())
    if match is None:
        raise InputError(
            f"--objective {text}: expected balanced, quality, 'memory 16' (GiB of device memory) or 'time 2h'."
        )
    kind, number, unit = match.groups()
    if kind in ("balanced", "quality"):
        if number is not None:
            raise InputError(f"--objective {text}: {kind} takes no limit. Choose memory or time for one.")
        return Objective(kind=kind)  # type: ignore[arg-type]  # a word of the pattern
    factor = _UNITS[kind].get((unit or "").lower())
    example = "'memory 16' (GiB)" if kind == "memory" else "'time 2h' or 'time 90min'"
    if number is None or factor is None or not 0 < float(number) < math.inf:
        raise InputError(f"--objective {text}: expected a limit above 0 with its unit, like {example}.")
    return Objective(kind=kind, limit=float(number) * factor)  # type: ignore[arg-type]  # a word of the pattern
