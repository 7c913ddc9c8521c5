"""The one table of shapes that task files are published in, each recognized by the names of its columns.

A file that has a schema's columns, and none that could be read in another way, is read by that schema. Names are
compared without regard to case.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from semfreeze_core.records.fields import FieldMapping


@dataclass(frozen=True)
class Schema:
    """One published shape of rows.

    Attributes:
        name: as notes call it.
        prompt: columns of the prompt in reading order; one that ends in "?" may be missing from a file and empty in a
            row.
        completion, messages, text: the column with the targets; one of the three is given.
        repeats: columns that repeat the others' text, and do not make the file ambiguous.
    """

    name: str
    prompt: tuple[str, ...] = ()
    completion: str | None = None
    messages: str | None = None
    text: str | None = None
    repeats: tuple[str, ...] = ()

    def mapping(self, columns: Mapping[str, str]) -> FieldMapping | None:
        """The fields of a file by this schema, or None where a column is missing.

        Args:
            columns: the file's, by their names in lower case.
        """
        if self.target not in columns or any(name not in columns for name in self.prompt if not name.endswith("?")):
            return None
        if self.completion is None:
            return FieldMapping(
                messages_field=columns[self.target] if self.messages else None,
                text_field=columns[self.target] if self.text else None,
            )
        parts = [name for name in self.prompt if name.removesuffix("?") in columns]
        if len(parts) == 1:
            return FieldMapping(prompt_field=columns[parts[0]], completion_field=columns[self.target])
        shown = [columns[name.removesuffix("?")] + "?" * name.endswith("?") for name in parts]
        if any("{" in name or "}" in name for name in shown):
            return None
        template = "".join(f"{{{name}}}\n" for name in shown)
        return FieldMapping(template=template, completion_field=columns[self.target])

    @property
    def target(self) -> str:
        """The column with the targets."""
        return self.completion or self.messages or self.text or ""

    @property
    def columns(self) -> set[str]:
        """Every column that the schema accounts for, in lower case."""
        return {self.target, *(name.removesuffix("?") for name in self.prompt), *self.repeats}


SCHEMAS: tuple[Schema, ...] = (
    Schema("ShareGPT", messages="conversations", repeats=("prompt", "instruction", "input")),
    Schema("chat messages", messages="messages", repeats=("prompt", "instruction", "input")),
    Schema("Alpaca", prompt=("system?", "history?", "instruction", "input?"), completion="output", repeats=("text",)),
    Schema("Dolly", prompt=("system?", "instruction", "context?"), completion="response", repeats=("text",)),
    Schema("prompt and completion", prompt=("system?", "context?", "prompt"), completion="completion"),
    Schema("question and answer", prompt=("system?", "context?", "question"), completion="answer"),
    Schema("plain text", text="text"),
)

# What a column is guessed to be, alone, where no schema fits.
CANDIDATES: dict[str, tuple[str, ...]] = {
    "prompt_field": ("prompt", "question", "instruction", "input", "query"),
    "completion_field": ("completion", "answer", "output", "response", "target"),
    "messages_field": ("messages", "conversations"),
    "text_field": ("text",),
    "label_field": ("label",),
}

# A column of earlier turns, as pairs of a prompt and its answer.
HISTORY_COLUMN = "history"

# Two columns of answers, the better and the worse: preferences, which are no targets.
PREFERENCE_COLUMNS = {"chosen", "rejected"}

# Columns beside a chat that its template is given with the messages.
SYSTEM_COLUMN, TOOLS_COLUMN = "system", "tools"

# Columns that may hold a part of the prompt: one of them that is not read is named in a note.
PROMPT_PARTS = ("system", "system_prompt", "context", "history", "tools", "functions", "input", "instruction")


def recognized(columns: Sequence[str]) -> tuple[Schema, FieldMapping] | None:
    """The schema of a file and its fields, or None where none fits or the columns could be read in another way too."""
    by_name = {column.casefold(): column for column in columns}
    if len(by_name) < len(columns):
        return None
    readable = {name for field, names in CANDIDATES.items() if field != "label_field" for name in names}
    for schema in SCHEMAS:
        mapping = schema.mapping(by_name)
        if mapping is not None and not (readable & set(by_name)) - schema.columns:
            return schema, mapping
    return None


def proposed_fields(columns: Sequence[str]) -> FieldMapping:
    """For each way of reading, the column that most likely holds what it needs: where a form starts.

    Unlike a guess, a proposal is shown before it is used, so that it may be wrong.
    """
    match = recognized(columns)
    known = match[1] if match else FieldMapping()
    likely = {
        field: next((column for name in names for column in columns if column.casefold() == name), None)
        for field, names in CANDIDATES.items()
    }
    completion = known.completion_field or likely["completion_field"]
    prompt = known.prompt_field or likely["prompt_field"]
    if prompt is None:
        prompt = next((column for column in columns if column != completion), None)
    template = known.template or ("" if prompt is None else f"{{{prompt}}}\n")
    return FieldMapping(
        prompt_field=prompt,
        completion_field=completion,
        label_field=likely["label_field"],
        template=template.replace("\n", "\\n"),
        messages_field=known.messages_field or likely["messages_field"],
        text_field=known.text_field or likely["text_field"],
    )
