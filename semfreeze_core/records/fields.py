"""Which fields of a row to read, as flags, forms and scripts name them."""

from dataclasses import asdict, dataclass
from typing import Annotated

from semfreeze_core.records.options import Option


@dataclass(frozen=True)
class FieldMapping:
    """Names of the fields to read; None means not given.

    Attributes:
        prompt_field: the prompt, never supervised.
        completion_field: the completion, supervised. It follows the prompt as it stands, with no separator.
        label_field: the class, in any mode.
        template: in place of prompt_field, e.g. "{instruction}\\n{input?}\\n"; braces hold column names, doubled braces
            are braces, and a backslash followed by n (as a shell passes it on) is a line break. Where a column marked
            with "?" is empty, the line break after it is left out too.
        messages_field: a list of {role, content} or {from, value}; assistant turns are supervised. Columns called
            "system" and "tools" belong to the chat.
        text_field: plain text, supervised whole.
    """

    prompt_field: Annotated[str | None, Option("Field with the prompt.")] = None
    completion_field: Annotated[str | None, Option("Field with the completion.")] = None
    label_field: Annotated[str | None, Option("Field with the class name.")] = None
    template: Annotated[
        str | None, Option("Prompt built from fields, like '{instruction}\\n{input?}\\n' (?: may be empty).")
    ] = None
    messages_field: Annotated[str | None, Option("Field with chat messages; trains on assistant turns.")] = None
    text_field: Annotated[str | None, Option("Field with plain text; trains on all tokens.")] = None

    @property
    def columns(self) -> set[str]:
        """Columns that are one of these fields; those that a template only shows are not among them."""
        return {name for field, name in asdict(self).items() if field != "template" and name is not None}
