"""Groups of options, each defined once as a dataclass and given to every command that takes them."""

import inspect
from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from typing import Any, get_type_hints

Command = Callable[..., None]


def with_flags(**groups: type[Any]) -> Callable[[Command], Command]:
    """Decorate a command so that it has one option for each field of a dataclass in place of one parameter.

    Typer reads options from a function's signature, so the signature is rewritten; the function itself gets one value.

    Args:
        groups: the dataclass by the name of the command's parameter that takes it.
    """

    def decorate(command: Command) -> Command:
        own = inspect.signature(command)
        parameters: list[inspect.Parameter] = []
        for parameter in own.parameters.values():
            group = groups.get(parameter.name)
            parameters += [parameter] if group is None else _options(group)

        @wraps(command)
        def merged(**given: Any) -> None:
            told = {name: group(**{f.name: given.pop(f.name) for f in fields(group)}) for name, group in groups.items()}
            command(**given, **told)

        merged.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]  # what inspect looks for
        return merged

    return decorate


def _options(group: type[Any]) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=hints[f.name])
        for f in fields(group)
    ]
