"""Comments and notes that several targets share."""

import textwrap

from semfreeze_core.export.request import ExportRequest
from semfreeze_core.version import __version__
from semfreeze_core.wording.numbers import percent


def comments(lines: list[str], mark: str = "#") -> str:
    """Lines as comments, long ones wrapped; whatever a line holds, nothing of it gets out of the comment."""
    wrapper = textwrap.TextWrapper(110, break_long_words=False, break_on_hyphens=False)
    wrapped: list[str] = []
    for piece in (piece for line in lines for piece in line.splitlines()):
        wrapper.subsequent_indent = "  " if piece.startswith("-") else ""
        wrapped += wrapper.wrap(piece)
    return "\n".join(f"{mark} {line}" for line in wrapped)


def header(request: ExportRequest, how_to_run: str, notes: list[str]) -> str:
    """The comment on top: what is trained of which model, how to run it, and what is not carried over."""
    plan = request.plan
    adapters = "adapters on " if request.setup.lora else ""
    price = ""
    if plan.cost.planned is not None:
        price = f" ({percent(plan.cost.planned.relative_flop)} of full finetuning's compute, as the plan estimates)"
    return comments(
        [
            f"{plan.model.source}: trains {adapters}{request.parts.words}{price}.",
            f"Written by semfreeze {__version__} from a freeze plan (rule {plan.rule}).",
            how_to_run,
            *(["Not carried over, or to know:", *(f"- {note}" for note in notes)] if notes else []),
        ]
    )


def price_notes(request: ExportRequest, *, quantises: bool = False) -> list[str]:
    """What the plan's price counts on and this trainer does not do.

    Args:
        request: what is exported.
        quantises: whether the target is told to quantise frozen layers.
    """
    setup, target = request.setup, request.target
    notes = ["The learning rate and its warm-up are those of semfreeze train; a plan has none."]
    if setup.prefix_cache:
        notes.append(f"The price counts on a prefix cache; {target} has none. semfreeze train has.")
    if setup.loss != "materialised":
        notes.append(f"The price counts on a {setup.loss} loss; {target} is not told to compute one.")
    if setup.frozen_bits is not None and not quantises:
        notes.append(f"The price counts on frozen layers in {setup.frozen_bits} bits; here they keep their precision.")
    return notes + data_notes(request)


def data_notes(request: ExportRequest) -> list[str]:
    """What is not sure of the data."""
    if not request.data.is_known:
        return ["No data was named: put your own file and fields in place of train.jsonl, or export with --data FILE."]
    return list(request.data.notes)


def lost_saving(request: ExportRequest) -> str:
    """What it means that the embedding's output requires a gradient, in half a sentence."""
    planned, stock = request.plan.cost.planned, request.plan.cost.transformers_5
    if planned is None or stock is None:
        return "so that each frozen layer carries the activation gradient and most of the saving is lost"
    return (
        f"so that each frozen layer carries the activation gradient and the plan takes "
        f"{percent(stock.relative_flop)} of full finetuning's compute instead of {percent(planned.relative_flop)}"
    )


def checkpointing_notes(request: ExportRequest, trainer: str) -> list[str]:
    """For trainers on transformers without a boundary of ours: what checkpointing does to the saving."""
    if request.setup.checkpointing == "none":
        return [
            f"Gradient checkpointing stays off: with it on, {trainer} makes the embedding's output require a gradient, "
            f"{lost_saving(request)}."
        ]
    return [
        f"Gradient checkpointing is on, as in the plan's price, but {trainer} then makes the embedding's output "
        f"require a gradient, {lost_saving(request)}. Turn it off, or export to "
        "hf-trainer, trl or peft, which keep the saving."
    ]
