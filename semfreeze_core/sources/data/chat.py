"""A conversation as supervised and context text, through the model's own chat template.

The conversation is rendered once, as far as its last target, and that text is what is tokenized. Which of it are
targets follows from the marks that a template puts around answers (`{% generation %}`), or else from where the same
template's text of the conversation before an answer ends.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from semfreeze_core.errors import DataError
from semfreeze_core.records.examples import Segment
from semfreeze_core.sources.data.chat_template import render_template, run_template
from semfreeze_core.sources.data.messages import UNTRAINED, Message, is_target

Span = tuple[int, int]  # characters, end excluded
_Render = Callable[[Sequence[Message], bool], str]  # messages, with the prompt of an answer

_MARKS = re.compile(r"{%-?\+?\s*generation\s*[-+]?%}")
_REASONING_KEYS = ("reasoning_content", "thinking", "reasoning")  # transformers gives a template each by any name
_FEW_TARGETS, _MANY_TARGETS = 24, 200  # found one by one at once, or at all: each takes a rendering of all before it


def render_chat(
    tokenizer: Any, messages: Sequence[Message], tools: list[dict[str, Any]] | None = None
) -> tuple[Segment, ...]:
    """Alternating context and supervised segments, one supervised segment an assistant turn.

    Joined, the segments are the template's text of the messages up to the last target. A supervised segment ends with
    the end-of-sequence token where the template writes it; white space behind that token belongs to the next context.
    An assistant turn is context where it is empty, opens the conversation and so answers nothing, or is marked
    `UNTRAINED`. What follows the last target is dropped, as no token is predicted from it.

    Args:
        tokenizer: a transformers tokenizer with a chat template.
        messages: each with role and content, as `read_messages` gives them.
        tools: descriptions of tools, for a template that shows them.

    Returns:
        the segments; empty when no turn is supervised.

    Raises:
        DataError: no chat template; the template refuses the conversation, shows no reasoning or tool calls though a
            message has them, or writes an answer in a way in which it cannot be found.
    """
    require_chat_template(tokenizer)
    targets = [i for i, message in enumerate(messages) if i > 0 and is_target(message)]
    if not targets:
        return ()
    rendered = [{key: value for key, value in m.items() if key != UNTRAINED} for m in messages[: targets[-1] + 1]]
    _require_shown(tokenizer, rendered)
    tools = tools if shows_tools(tokenizer) else None
    if _MARKS.search(_template_text(tokenizer)):
        text, spans = _marked_spans(tokenizer, rendered, targets, tools)
    else:

        def render(part: Sequence[Message], opened: bool) -> str:
            return _render(tokenizer, part, tools, opened)

        text = render(rendered, False)
        spans = _target_spans(render, text, rendered, targets)
        spans = [(start, start + _supervised_length(text[start:end], tokenizer.eos_token)) for start, end in spans]
    segments: list[Segment] = []
    n_written = 0
    for start, end in spans:
        segments += [Segment(text[n_written:start], supervised=False), Segment(text[start:end], supervised=True)]
        n_written = end
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


def shows_tools(tokenizer: Any) -> bool:
    """Whether the chat template has a place for descriptions of tools."""
    return "tools" in _template_text(tokenizer)


def _require_shown(tokenizer: Any, messages: Sequence[Message]) -> None:
    """Refuse messages with parts that the template would leave out without a word."""
    template = _template_text(tokenizer)
    for i, message in enumerate(messages):
        reasoning = next((key for key in _REASONING_KEYS if key in message), None)
        if reasoning is not None and not any(key in template for key in _REASONING_KEYS):
            raise DataError(
                f"message {i} has {reasoning!r}, which the model's chat template does not show. Write the reasoning "
                "into the content, or leave it out"
            )
        if "tool_calls" in message and "tool_calls" not in template:
            raise DataError(
                f"message {i} calls tools, which the model's chat template does not show. Write the call into the "
                "content, or use a model that is trained for tools"
            )


def _template_text(tokenizer: Any) -> str:
    """The template, or all of them where a tokenizer has several by name."""
    template = tokenizer.chat_template
    return "\n".join(map(str, template.values())) if isinstance(template, dict) else str(template)


def _marked_spans(
    tokenizer: Any, messages: Sequence[Message], targets: Sequence[int], tools: list[dict[str, Any]] | None
) -> tuple[str, list[Span]]:
    """The text and the answers in it, from the template's own marks."""
    from transformers.utils import chat_template_utils

    render_marked: Any = chat_template_utils.render_jinja_template  # its annotation names one of two results

    def render() -> tuple[list[str], list[list[Span]]]:
        return render_marked(  # type: ignore[no-any-return]
            conversations=[list(messages)],
            tools=tools,
            chat_template=tokenizer.get_chat_template(tools=tools),
            return_assistant_tokens_mask=True,
            **tokenizer.special_tokens_map,
        )

    (text,), (marked,) = run_template(render, messages)
    answers = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
    if len(marked) == len(answers):
        marked = [span for i, span in zip(answers, marked, strict=True) if i in set(targets)]
    elif len(answers) != len(targets):
        raise DataError(
            f"the model's chat template marks {len(marked)} answers in a conversation of {len(answers)}, so it is not "
            "known which one is not to be trained on. Leave such conversations out"
        )
    spans = [(start, end) for start, end in marked if end > start]
    if not spans:
        raise DataError("the model's chat template marks no text as an answer")
    return text, spans


def _target_spans(render: _Render, text: str, messages: Sequence[Message], targets: Sequence[int]) -> list[Span]:
    """The answers in the text, from the texts of the conversation before each."""
    if len(targets) > _FEW_TARGETS:
        try:
            return _spans_by_exchange(render, text, messages, targets)
        except DataError:
            if len(targets) > _MANY_TARGETS:
                raise
    spans = []
    for i in targets:
        start = _start(render, text, messages[: i + 1], i)
        end = len(text) if i == targets[-1] else _end(render, text, messages[: i + 1], start, i)
        spans.append((start, end))
    return spans


def _start(render: _Render, text: str, messages: Sequence[Message], i: int) -> int:
    """Where the answer begins: behind what the template writes to have one written.

    Some templates open an answer with a mark of reasoning that they do not write where the answer has none; then the
    opening counts up to where the answer's own text follows.
    """
    opened = render(messages[:-1], True)
    if text.startswith(opened):
        return len(opened)
    before = render(messages[:-1], False)
    if text.startswith(before):
        for length in range(len(opened) - len(before), 0, -1):
            header = opened[: len(before) + length]
            if text.startswith(header) and any(text.startswith(a, len(header)) for a in _answers(messages[-1])):
                return len(header)
    raise _rewritten(i)


def _end(render: _Render, text: str, messages: Sequence[Message], start: int, i: int) -> int:
    """Where an answer that others follow ends."""
    alone = render(messages, False)
    if text.startswith(alone) and len(alone) > start:
        return len(alone)
    for answer in _answers(messages[-1]):  # the template leaves the reasoning of an earlier answer out
        at = alone.rfind(answer)
        if at >= 0 and text.startswith(alone[at:], start):
            return start + len(alone) - at
    raise _rewritten(i)


def _answers(message: Message) -> list[str]:
    """What a template may write of an answer: all of it, or what follows its reasoning."""
    content = message["content"]
    texts = [content, content.strip(), content.rpartition("</think>")[2].strip()]
    return [answer for answer in dict.fromkeys(texts) if answer.strip()]


def _spans_by_exchange(render: _Render, text: str, messages: Sequence[Message], targets: Sequence[int]) -> list[Span]:
    """The same for a long conversation, in time that grows with its length alone.

    Two exchanges at a time are rendered; that the pieces make up the whole text shows that the template writes an
    exchange in the same way wherever it stands.
    """
    head = [message for message in messages[:1] if message["role"] in ("system", "developer")]
    opened, whole = render(messages[: targets[0]], True), render(messages[: targets[0] + 1], False)
    if not whole.startswith(opened) or not text.startswith(whole):
        raise _rewritten(targets[0])
    cursor = len(whole)
    spans = [(len(opened), cursor)]
    for k in range(1, len(targets)):
        previous = [*head, *messages[max(len(head), targets[k - 2] + 1 if k > 1 else 0) : targets[k - 1] + 1]]
        window = [*previous, *messages[targets[k - 1] + 1 : targets[k] + 1]]
        before, opened, whole = render(previous, False), render(window[:-1], True), render(window, False)
        piece = whole[len(before) :]
        if not opened.startswith(before) or not whole.startswith(opened) or not text.startswith(piece, cursor):
            raise _rewritten(targets[k])
        spans.append((cursor + len(opened) - len(before), cursor + len(piece)))
        cursor += len(piece)
    if cursor != len(text):
        raise _rewritten(targets[-1])
    return spans


def _rewritten(i: int) -> DataError:
    return DataError(
        f"the model's chat template rewrites earlier turns when message {i} is added, so the supervised text "
        "cannot be found. Keep one assistant turn a conversation, or write the texts out and use "
        "--prompt-field and --completion-field"
    )


def _supervised_length(turn: str, eos: str | None) -> int:
    """Characters of a turn up to and with its end-of-sequence token; all of them when it does not end with one."""
    stripped = turn.rstrip()
    return len(stripped) if eos and stripped.endswith(eos) else len(turn)


def _render(tokenizer: Any, messages: Sequence[Message], tools: list[dict[str, Any]] | None, opened: bool) -> str:
    if not messages:
        return ""

    return render_template(tokenizer, messages, tools, opened)
