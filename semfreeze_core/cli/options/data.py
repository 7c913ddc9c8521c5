"""The flags that say which fields of the data hold what, defined once for every command that reads examples."""

from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from semfreeze_core.sources.data.fields import FieldMapping  # imports tokenizers, which --help does not need


@dataclass(frozen=True)
class DataFlags:
    """The fields as given, unchecked; in the order of FieldMapping's fields."""

    prompt_field: Annotated[str | None, typer.Option(help="Field with the prompt.")] = None
    completion_field: Annotated[str | None, typer.Option(help="Field with the completion.")] = None
    label_field: Annotated[str | None, typer.Option(help="Field with the class name.")] = None
    template: Annotated[str | None, typer.Option(help="Prompt built from fields, like '{instruction}\\n{input}'.")] = (
        None
    )
    messages_field: Annotated[str | None, typer.Option(help="Field with chat messages; trains on assistant turns.")] = (
        None
    )
    text_field: Annotated[str | None, typer.Option(help="Field with plain text; trains on all tokens.")] = None

    def mapping(self) -> "FieldMapping":
        """The fields as the core takes them."""
        from semfreeze_core.sources.data.fields import FieldMapping

        return FieldMapping(*astuple(self))
