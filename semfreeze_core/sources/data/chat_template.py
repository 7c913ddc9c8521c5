"""A model's chat template run within bounds: it is a program that came with the model, and may loop or grow for ever.

Jinja's sandbox keeps templates from files and attributes, but not from time and memory. So here each rendering has a
budget of steps, counted in loops and macros, and of characters, counted where texts are joined, multiplied and padded.
"""

import functools
import inspect
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from semfreeze_core.errors import DataError
from semfreeze_core.sources.data.messages import Message

_Rendered = TypeVar("_Rendered")

# Far above what templates need, which go over the messages a few times. Text is counted each time it is copied.
_STEPS, _STEPS_PER_CHARACTER = 200_000, 20
_CHARACTERS, _COPIES = 10_000_000, 500
_MOST_BITS = 4096  # of a whole number
_WIDEST, _WIDE_FIELD = 100_000, re.compile(r"\d{6}")  # characters that a text is padded to


class _OverBudget(Exception):  # noqa: N818 - never leaves this file
    """The template took more than it may."""


class _Budget(threading.local):
    """What the rendering of this thread may still take."""

    steps = 0
    characters = 0

    def step(self) -> bool:
        self.steps -= 1
        if self.steps < 0:
            raise _OverBudget("loops on and on")
        return True

    def copy(self, characters: int) -> None:
        self.characters -= characters
        if self.characters < 0:
            raise _OverBudget("writes more and more text")


_budget = _Budget()
_count_step = _budget.step


def render_template(
    tokenizer: Any, messages: Sequence[Message], tools: list[dict[str, Any]] | None = None, opened: bool = False
) -> str:
    """A conversation as the tokenizer's chat template writes it.

    Args:
        tokenizer: with a chat template.
        messages: of the conversation.
        tools: descriptions of what may be called, for templates that show them.
        opened: whether what has an answer written follows.

    Raises:
        DataError: as run_template.
    """

    def render() -> str:
        return str(
            tokenizer.apply_chat_template(list(messages), tools=tools, tokenize=False, add_generation_prompt=opened)
        )

    return run_template(render, messages)


def run_template(render: Callable[[], _Rendered], messages: Sequence[Message]) -> _Rendered:
    """What a call that renders a conversation returns, within the budget of that conversation.

    Raises:
        DataError: the template refuses the conversation, has a fault, or takes more time or memory than templates do.
    """
    from jinja2 import TemplateError  # comes with transformers' chat templates, needed nowhere else

    length = sum(len(message["content"]) + 100 for message in messages)
    try:
        with _bounded(length):
            return render()
    except _OverBudget as error:
        raise DataError(
            f"the model's chat template {error}: it was stopped. Expected one that writes each message once; check the "
            "chat_template in its tokenizer_config.json or chat_template.jinja"
        ) from error
    except TemplateError as error:  # templates refuse with this, e.g. when roles do not alternate
        roles = [message["role"] for message in messages]
        shown = ", ".join(roles[:10]) + (f", and {len(roles) - 10} more" if len(roles) > 10 else "")
        raise DataError(f"the model's chat template refuses the conversation ({error}); its roles: {shown}") from error
    except Exception as error:  # it is a program, which can fail in any way
        detail = " ".join(str(error).split())[:200]
        raise DataError(
            f"the model's chat template fails on the conversation ({type(error).__name__}: {detail}). Check the "
            "chat_template in its tokenizer_config.json or chat_template.jinja"
        ) from error


def end_of_turn(tokenizer: Any) -> int | None:
    """The id of the special token that the chat template writes behind an answer; None when there is none."""
    if not getattr(tokenizer, "chat_template", None):
        return None
    answer = "semfreeze"
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": answer}]
    try:
        text = render_template(tokenizer, messages)
    except DataError:  # it refuses conversations like this one, or any
        return None
    behind = text.rpartition(answer)[2].lstrip()
    ids: list[int] = tokenizer(behind, add_special_tokens=False).input_ids[:1]
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    return ids[0] if behind and ids and ids[0] in special else None


class _bounded:  # noqa: N801 - a context manager
    """Make transformers render in the bounded environment, within the budget of one conversation."""

    _lock = threading.RLock()

    def __init__(self, length: int) -> None:
        self.length = length

    def __enter__(self) -> None:
        from transformers.utils import chat_template_utils

        self._lock.acquire()
        _budget.steps = _STEPS + _STEPS_PER_CHARACTER * self.length
        _budget.characters = _CHARACTERS + _COPIES * self.length
        self.module, self.compile = chat_template_utils, chat_template_utils._compile_jinja_template
        self.module._compile_jinja_template = _compile

    def __exit__(self, *_: object) -> None:
        self.module._compile_jinja_template = self.compile
        self._lock.release()


@functools.lru_cache
def _compile(text: str) -> Any:
    """A template in transformers' own environment, with what grows in it bounded."""
    from jinja2 import nodes

    environment = _environment()
    tree = environment.parse(text)
    # Two texts written one behind the other (~) are joined by a function that nothing can get between.
    joined = {
        id(node): nodes.Filter(nodes.List(node.nodes), "join", [], [], None, None).set_lineno(node.lineno)
        for node in tree.find_all(nodes.Concat)
    }
    for node in list(tree.find_all((nodes.For, nodes.Macro, nodes.CallBlock))):
        step = nodes.Call(nodes.EnvironmentAttribute("count_step"), [], [], None, None)
        if isinstance(node, nodes.For) and node.test is not None:  # else the body may never run
            node.test = nodes.And(step, node.test)
        else:
            node.body.insert(0, nodes.ExprStmt(step))
    for node in tree.find_all(nodes.Node):
        node.lineno = node.lineno or 1
    for parent in [tree, *tree.find_all(nodes.Node)]:
        for name, value in parent.iter_fields():
            if isinstance(value, list):
                value[:] = [joined.get(id(entry), entry) for entry in value]
            elif id(value) in joined:
                setattr(parent, name, joined[id(value)])
    return environment.from_string(tree.set_environment(environment))


@functools.cache
def _environment() -> Any:
    from transformers.utils import chat_template_utils

    # Made for a text that nobody has, as others may use theirs.
    environment = chat_template_utils._cached_compile_jinja_template("{# bounded #}").environment
    environment.intercepted_binops = frozenset(_CHECKS)
    for operator, check in _CHECKS.items():
        environment.binop_table[operator] = _checked(environment.binop_table[operator], check)
    environment.concat, environment.count_step = _join, _count_step
    environment.globals.pop("lipsum", None)  # writes any amount of text
    for name, function in list(environment.filters.items()):
        environment.filters[name] = _checked(function, functools.partial(_check_call, name))
    environment.call = functools.partial(_call, environment.call)
    return environment


def _checked(function: Callable[..., Any], check: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)  # with the marks by which Jinja knows what to give a filter
    def checked(*args: Any, **kwargs: Any) -> Any:
        args, kwargs = check(args, kwargs)
        return function(*args, **kwargs)

    return checked


def _call(call: Callable[..., Any], context: Any, function: Any, /, *args: Any, **kwargs: Any) -> Any:
    if function is _count_step:
        return _count_step()
    function_inside = inspect.unwrap(function)  # the sandbox wraps str.format
    owner = getattr(function_inside, "__self__", None)
    if isinstance(owner, _SEQUENCES):  # a method that may pad, repeat or replace
        (_, *args), kwargs = _check_call(getattr(function_inside, "__name__", ""), (owner, *args), kwargs)  # type: ignore[assignment]
    return call(context, function, *args, **kwargs)


_SEQUENCES = (str, list, tuple, range)
_Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def _size(value: Any) -> int:
    """Characters in a text, or in the texts of a list or a dictionary, with 10 for each entry."""
    if isinstance(value, dict):
        return _size(list(value.values()))
    if isinstance(value, list | tuple):
        return sum(10 + (len(entry) if isinstance(entry, str) else 0) for entry in value)
    return len(value) if isinstance(value, str) else 10 * len(value) if isinstance(value, range) else 1


def _check_call(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Arguments:
    """Of a filter or a method of texts and lists: the longest result it can have."""
    if name == "join":  # what is joined may be made while it is
        args = tuple(list(value) if isinstance(value, Iterator) else value for value in args)
    sequences = [value for value in args if isinstance(value, _SEQUENCES)]
    if not sequences:
        _budget.copy(max([0, *(value for value in args if isinstance(value, int))]) if name == "center" else 1)
        return args, kwargs
    others = [value for value in (*args, *kwargs.values()) if value is not sequences[0]]
    widest = max((value for value in others if isinstance(value, int)), default=0)
    text = sequences[0] if isinstance(sequences[0], str) else ""
    if widest > _WIDEST or (name.startswith("format") and _WIDE_FIELD.search(text)):
        raise _OverBudget("writes more and more text")
    match name:
        case "replace":
            copies = text.count(next((value for value in others if isinstance(value, str)), ""))
        case "join":
            copies = max(len(value) for value in sequences)
        case "format" | "format_map":
            copies = 1 + text.count("{") + text.count("%")
        case "indent" | "expandtabs" | "tojson":
            copies = 1 + text.count("\n") + text.count("\t")
        case _:
            copies = 1
    _budget.copy(_size(sequences[0]) + copies * max([widest, *(_size(value) for value in others)]))
    return args, kwargs


def _check_sum(args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Arguments:
    if isinstance(args[0], _SEQUENCES):
        _budget.copy(sum(map(_size, args)))
    return args, kwargs


def _check_product(args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Arguments:
    for value, times in (args, args[::-1]):
        if isinstance(value, _SEQUENCES) and isinstance(times, int):
            _budget.copy(_size(value) * max(times, 0))
    if all(isinstance(value, int) for value in args) and sum(value.bit_length() for value in args) > _MOST_BITS:
        raise _OverBudget("computes with ever larger numbers")
    return args, kwargs


def _check_power(args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Arguments:
    if all(isinstance(value, int) for value in args) and args[0].bit_length() * abs(args[1]) > _MOST_BITS:
        raise _OverBudget("computes with ever larger numbers")
    return args, kwargs


def _check_format(args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Arguments:
    if isinstance(args[0], str):
        if _WIDE_FIELD.search(args[0]) or "*" in args[0]:
            raise _OverBudget("writes more and more text")
        _budget.copy(_size(args[0]) + args[0].count("%") * _size(args[1]))
    return args, kwargs


_CHECKS = {"+": _check_sum, "*": _check_product, "**": _check_power, "%": _check_format}


def _join(pieces: Iterable[str]) -> str:
    """What a template or a block in it writes, joined piece by piece within the budget."""
    written = []
    for piece in pieces:
        _budget.copy(len(piece))
        written.append(piece)
    return "".join(written)
