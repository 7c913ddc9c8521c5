"""Groups of options, each defined once as a dataclass and given to every command that takes them."""

import inspect
from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from typing import Annotated, Any, get_args, get_type_hints

import typer

from semfreeze_core.records.options import Option, TrainingOptions
from semfreeze_core.records.training import TrainingSetup

Command = Callable[..., None]


def with_flags(unset: str | None = None, /, **groups: type[Any]) -> Callable[[Command], Command]:
    """Decorate a command so that it has one option for each field of a dataclass instead of one parameter.

    Typer reads options from a function's signature, so the signature is rewritten; the function itself gets one value.

    Args:
        unset: what an unset option of training means here, for its help; None is the default of TrainingSetup.
        groups: the dataclass by the name of the command's parameter that takes it.
    """

    def decorate(command: Command) -> Command:
        signature = inspect.signature(command)
        parameters: list[inspect.Parameter] = []
        for parameter in signature.parameters.values():
            group = groups.get(parameter.name)
            parameters += [parameter] if group is None else _options(group, unset)

        @wraps(command)
        def merged(**given: Any) -> None:
            values = {
                name: group(**{f.name: given.pop(f.name) for f in fields(group)}) for name, group in groups.items()
            }
            command(**given, **values)

        merged.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # what inspect looks for
        return merged

    return decorate


def _options(group: type[Any], unset: str | None) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    kind = inspect.Parameter.KEYWORD_ONLY
    return [
        inspect.Parameter(f.name, kind, default=f.default, annotation=_annotation(f.name, hints[f.name], unset))
        for f in fields(group)
    ]


def _annotation(name: str, hint: Any, unset: str | None) -> Any:
    """The hint with the core's Option as Typer's."""
    option = next((part for part in get_args(hint) if isinstance(part, Option)), None)
    if option is None:
        return hint
    text = option.help
    if name in TrainingOptions.__dataclass_fields__:
        text = f"{text.removesuffix('.')} (default: {unset or option.unset or _shown(getattr(TrainingSetup, name))})."
    return Annotated[get_args(hint)[0], typer.Option(*option.flags, help=text, metavar=option.metavar)]


def _shown(value: Any) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)
