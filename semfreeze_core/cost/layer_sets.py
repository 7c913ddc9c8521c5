"""Any set of trained layers, not only the last ones: how it is written, and which parts it trains."""

import re

from semfreeze_core.errors import PlanError
from semfreeze_core.records.model import ModelShape
from semfreeze_core.records.training import TrainableParts

_RANGE = re.compile(r"(\d{1,6})(?:-(\d{1,6}))?")


def read_layers(text: str, n_layers: int) -> tuple[int, ...]:
    """The layers that ranges name, ascending: "0-3,26-29" names 0 to 3 and 26 to 29.

    Raises:
        PlanError: no such ranges, a layer that the model does not have, or every layer.
    """
    layers: set[int] = set()
    for part in text.split(","):
        match = _RANGE.fullmatch(part.strip())
        if match is None:
            raise PlanError(f"layers {text[:80]!a}: expected ranges such as 0-3,{n_layers - 1}, counted from 0.")
        first, last = int(match[1]), int(match[2] or match[1])
        if first > last:
            raise PlanError(f"layers {text[:80]!a}: {part.strip()} ends before it begins.")
        if last >= n_layers:
            raise PlanError(f"layers {text[:80]!a}: the model has layers 0 to {n_layers - 1}.")
        layers.update(range(first, last + 1))
    if len(layers) == n_layers:
        raise PlanError(f"layers {text[:80]!a} are all of them: full finetuning is freeze depth 0.")
    return tuple(sorted(layers))


def parts_of_layers(
    shape: ModelShape,
    layers: tuple[int, ...],
    embeddings: bool | None = None,
    final_norm: bool | None = None,
    head: bool | None = None,
    lora: bool = False,
) -> TrainableParts:
    """The parts trained with a set of layers: what is left unset is trained as above a frozen prefix.

    Trained embeddings send the gradient back through every layer, so they are trained only when they are asked for.

    Args:
        shape: the counted model.
        layers: numbers of the layers that are trained.
        embeddings: whether the embeddings are trained.
        final_norm: whether the norm before the head is trained.
        head: whether the head is trained.
        lora: whether the layers get adapters in place of their own weights.

    Raises:
        PlanError: a final norm is to be trained where there is none, or the head or the embeddings of a model where
            they are one parameter.
    """
    has_norm = shape.final_norm_parameters > 0
    if final_norm and not has_norm:
        raise PlanError("this model has no norm between its layers and its head: leave --train-norm out")
    if shape.tied and (embeddings or head):
        raise PlanError(
            "head and embeddings of this model are tied (one parameter): leave both frozen, or use freeze depth 0"
        )
    return TrainableParts(
        layers=tuple(i in layers for i in range(shape.n_layers)),
        embeddings=bool(embeddings),
        final_norm=(has_norm and not lora) if final_norm is None else final_norm,
        head=bool(head),
    )
