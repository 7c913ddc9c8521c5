"""Sets of layers as text."""

from collections.abc import Sequence

from semfreeze_core.records.training import TrainableParts


def layer_ranges(trained: Sequence[bool]) -> str:
    """The layers whose flag is set, as ranges: "0-3,26-29"; as `read_layers` in `semfreeze_core/cost` reads them."""
    numbers = [i for i, flag in enumerate(trained) if flag]
    starts = [n for n in numbers if n - 1 not in numbers]
    ends = [n for n in numbers if n + 1 not in numbers]
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True))


def set_of(parts: TrainableParts | None) -> str | None:
    """The trained layers as ranges where they are not the last ones; None where a freeze depth says it all."""
    return None if parts is None or parts.is_suffix else layer_ranges(parts.layers)


def set_headline(parts: TrainableParts) -> str:
    """What a set of layers trains, in one sentence."""
    n_trained, n_layers = sum(parts.layers), len(parts.layers)
    return f"Train layers {layer_ranges(parts.layers)} of {n_layers} and freeze the other {n_layers - n_trained}."
