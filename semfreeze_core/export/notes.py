"""Comments and notes that several targets share."""

import textwrap

from semfreeze_core.cost.setup import stock_trainer
from semfreeze_core.export.request import ExportRequest
from semfreeze_core.version import __version__
from semfreeze_core.wording.escaping import comment_lines
from semfreeze_core.wording.numbers import percent
from semfreeze_core.wording.rates import learning_rate


def comments(lines: list[str], mark: str = "#") -> str:
    """Lines as comments, long ones wrapped; whatever a line contains stays inside the comment and can be seen."""
    wrapper = textwrap.TextWrapper(110, break_long_words=False, break_on_hyphens=False)
    wrapped: list[str] = []
    for piece in (piece for line in lines for piece in comment_lines(line)):
        wrapper.subsequent_indent = "  " if piece.startswith("-") else ""
        wrapped += wrapper.wrap(piece)
    return "\n".join(f"{mark} {line}" for line in wrapped)


def header(request: ExportRequest, how_to_run: str, notes: list[str]) -> str:
    """The comment at the top: what is trained of which model, how to run it, and what differs from the plan."""
    plan = request.plan
    adapters = "adapters on " if request.setup.lora else ""
    compute = ""
    if request.cost is not None:
        compute = f" (estimated here: {percent(request.cost.relative_flop)} of full finetuning's compute)"
    return comments(
        [
            f"{plan.model.source}: trains {adapters}{request.parts.summary}{compute}.",
            f"Written by semfreeze {__version__} from a freeze plan (rule {plan.rule}).",
            how_to_run,
            *(["Notes:", *(f"- {note}" for note in notes)] if notes else []),
        ]
    )


def cost_notes(request: ExportRequest, *, quantizes: bool = False) -> list[str]:
    """What the plan's cost estimate assumes and this trainer does not do.

    Args:
        request: the export.
        quantizes: whether the target's configuration quantizes frozen layers.
    """
    setup, target = request.setup, request.target
    notes = [_rate_note(request)]
    planned = request.plan.cost.planned
    if planned is not None and setup.loss != "fused" and setup != stock_trainer(setup):
        share = f"{percent(planned.relative_flop)} of full finetuning's compute"
        cached = "the frozen layers once per example and " if request.plan.freeze_depth else ""
        does = "does neither" if cached else "computes those of every token"
        notes.append(
            f"semfreeze train takes {share}: it computes {cached}logits for target tokens only. {target} {does}."
        )
    if setup.loss == "fused":
        notes.append(f"The plan's estimate has chunked cross-entropy, which is not configured for {target}.")
    if setup.frozen_bits is not None and not quantizes:
        notes.append(
            f"The cost estimate assumes {setup.frozen_bits}-bit frozen layers; here they keep their precision."
        )
    return notes + data_notes(request)


def passes_notes(request: ExportRequest) -> list[str]:
    """For trainers that take the examples of a pass on each device: how a step keeps its batch on several of them."""
    setup = request.setup
    if setup.passes_per_step == 1:
        return []
    return [
        f"A step has {setup.batch_size} examples, {setup.examples_per_pass} at a time on one device. On several "
        "devices, divide gradient_accumulation_steps by their number, so that a step keeps its examples."
    ]


def _rate_note(request: ExportRequest) -> str:
    rate, known = learning_rate(request.learning_rate), request.known_rate
    if known is not None:
        return f"The learning rate, {rate}, is {known.origin}. The warm-up is a default."
    return (
        f"The learning rate, {rate}, is a default that was tuned for nothing of yours: a plan has none. Search one "
        "with `semfreeze validate` or `semfreeze train`, and give it with --lr."
    )


def data_notes(request: ExportRequest) -> list[str]:
    """What to check about the data."""
    if not request.data.is_known:
        notes = ["No data was given: replace train.jsonl and its fields with your own, or export with --data FILE."]
    else:
        notes = [*request.data.notes, *_end_notes(request)]
    if request.setup.batches == "by-length":
        notes.append(
            "The plan trains on batches of like length: have your trainer group examples by length where it can (in "
            "transformers 5 train_sampling_strategy='group_by_length', before that group_by_length=True)."
        )
    return notes


def _end_notes(request: ExportRequest) -> list[str]:
    """What trainers miss in a tokenizer whose files name no token that ends texts, and pads where none does."""
    facts = request.tokenizer
    if facts is None or facts.eos is not None:
        return []
    return [
        "The model's tokenizer_config.json names no end-of-sequence token. Where its tokenizer has none, texts end "
        "without one, and most trainers have nothing to pad batches with: set eos_token and pad_token before you train."
    ]


def chat_notes(request: ExportRequest) -> list[str]:
    """For trainers that write chats with the model's own template: what that template does."""
    facts = request.tokenizer
    if request.data.fields.messages_field is None:
        return []
    if facts is None:
        return ["The model's files are not here, so its chat template was not looked at: check how it writes chats."]
    if facts.template is None:
        return ["The model has no chat template, and its chats cannot be written without: set one before you train."]
    if facts.eos is not None and not facts.ends_answers:
        return [f"The model's chat template never writes the end-of-sequence token {facts.eos} behind an answer."]
    return []


def assistant_mark_notes(request: ExportRequest) -> list[str]:
    """For targets that train the assistant's messages by TRL's assistant_only_loss: what the template lacks for it."""
    facts = request.tokenizer
    if request.data.fields.messages_field is None or (facts is not None and facts.marks_answers):
        return []
    template_note = "" if facts is None or facts.template is None else ", and this model's does not"
    return [
        "assistant_only_loss needs a chat template that marks the assistant's text with {% generation %}"
        f"{template_note}; without the marks TRL trains on nothing or stops. Set such a template, or export to trl or "
        "peft."
    ]


def bos_notes(request: ExportRequest, template: str) -> list[str]:
    """For trainers that write prompts and texts with a template of their own, which puts no token before them.

    Args:
        request: the export.
        template: what the trainer calls its template.
    """
    facts, without = request.tokenizer, f"The template {template} adds no beginning-of-sequence token."
    if facts is None:
        return [f"{without} If your model's tokenizer begins sequences with one, write it into your data."]
    if facts.bos is None:
        return []
    return [f"{without} The model's tokenizer begins sequences with {facts.bos}: write it before your prompts."]


def lost_saving(request: ExportRequest) -> str:
    """The effect of an embedding output that requires a gradient, as the end of a sentence."""
    planned, stock = request.cost, request.plan.cost.transformers_5
    if planned is None or stock is None:
        return "so every frozen layer computes the activation gradient and most of the saving is lost"
    return (
        "so every frozen layer computes the activation gradient and the plan takes "
        f"{percent(stock.relative_flop)} of full finetuning's compute instead of {percent(planned.relative_flop)}"
    )


def checkpointing_notes(request: ExportRequest, trainer: str) -> list[str]:
    """For trainers on transformers without FreezePlanCallback: what checkpointing does to the saving."""
    if request.setup.checkpointing == "none":
        return [
            f"Gradient checkpointing is off: with it on, {trainer} makes the embedding's output require a gradient, "
            f"{lost_saving(request)}."
        ]
    return [
        f"Gradient checkpointing is on, as in the cost estimate, but {trainer} then makes the embedding's output "
        f"require a gradient, {lost_saving(request)}. Turn it off, or export to "
        "hf-trainer, trl or peft, which keep the saving."
    ]
