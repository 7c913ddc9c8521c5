"""A conversation as supervised and context text, through the model's own chat template.

A template is a program, so nothing can be known about its output but the output itself: the text of an assistant turn
is what rendering with the turn adds to rendering without it.
"""

from typing import Any

from semfreeze_core.errors import DataError
from semfreeze_core.records.examples import Segment
from semfreeze_core.sources.data.chat_template import render_template


def render_chat(tokenizer: Any, messages: list[dict[str, str]]) -> tuple[Segment, ...]:
    """Alternating context and supervised segments, one supervised segment an assistant turn.

    Turn i is full_i minus prefix_i, with prefix_i = template(messages[:i], generation prompt) and
    full_i = template(messages[:i + 1]). This breaks when a template changes earlier turns once later ones follow (some
    drop the reasoning of past turns): then no text stays where it was supervised, and the conversation is refused.

    A supervised segment ends with the end-of-sequence token where the template writes it; white space behind that token
    belongs to the next context. An assistant turn that is empty, or opens the conversation and so answers nothing, is
    context. What follows the last supervised turn is dropped, as no token is predicted from it.

    Args:
        tokenizer: a transformers tokenizer with a chat template.
        messages: each with role and content.

    Returns:
        the segments; empty when no turn is supervised.

    Raises:
        DataError: no chat template, the template refuses the conversation or rewrites earlier turns.
    """
    require_chat_template(tokenizer)
    segments: list[Segment] = []
    before = ""  # the text with all turns up to the last supervised one
    n_written = 0  # characters of it that are already in a segment
    for i, message in enumerate(messages):
        if i == 0 or message["role"] != "assistant" or not message["content"].strip():
            continue
        prefix = render_template(tokenizer, messages[:i], add_generation_prompt=True)
        full = render_template(tokenizer, messages[: i + 1], add_generation_prompt=False)
        if not prefix.startswith(before) or not full.startswith(prefix):
            raise DataError(
                f"the model's chat template rewrites earlier turns when message {i} is added, so the supervised text "
                "cannot be found. Keep one assistant turn a conversation, or write the texts out and use "
                "--prompt-field and --completion-field"
            )
        end = len(prefix) + _supervised_length(full[len(prefix) :], tokenizer.eos_token)
        segments += [Segment(full[n_written : len(prefix)], supervised=False), Segment(full[len(prefix) : end], True)]
        before, n_written = full, end
    return tuple(segments)


def require_chat_template(tokenizer: Any) -> None:
    """Refuse a tokenizer without a chat template.

    Raises:
        DataError: naming the fields to use instead.
    """
    template = getattr(tokenizer, "chat_template", None)
    if isinstance(template, dict) and "default" not in template:
        raise DataError(
            f"The model has chat templates for other uses ({', '.join(sorted(map(str, template)))}), but no default: "
            'name one "default" in the chat_template of its tokenizer_config.json.'
        )
    if not template:
        raise DataError(
            "The model has no chat template (it is a base model), so chat messages cannot be rendered for it. "
            "Use --prompt-field and --completion-field, or a model finetuned for chat."
        )


def _supervised_length(turn: str, eos: str | None) -> int:
    """Characters of a turn up to and with its end-of-sequence token; all of them when it does not end with one."""
    stripped = turn.rstrip()
    return len(stripped) if eos and stripped.endswith(eos) else len(turn)
