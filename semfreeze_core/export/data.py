"""The training data as a trainer gets it: a file, and what its fields contain."""

from collections.abc import Collection
from dataclasses import dataclass

from semfreeze_core.errors import DataError
from semfreeze_core.records.fields import FieldMapping
from semfreeze_core.sources.data import formats
from semfreeze_core.sources.data.compression import compression_of
from semfreeze_core.sources.data.fields import resolve_fields
from semfreeze_core.sources.data.rows import open_rows
from semfreeze_core.sources.data.samples import resolve_data

FileKind = str  # a format's kind in sources.data.formats, where new ones are added


@dataclass(frozen=True)
class TaskFile:
    """Training data.

    Attributes:
        path: as the trainer gets it.
        kind: what the file's extension says.
        fields: every needed field named; prompt and completion, chat messages, or plain text.
        message_keys: the keys of a chat message for its role and its text; None without chats.
        is_known: False when nobody said which file it is, so that path and fields are only an example.
        notes: which fields were guessed.
    """

    path: str
    kind: FileKind
    fields: FieldMapping
    message_keys: tuple[str, str] | None = None
    is_known: bool = True
    notes: tuple[str, ...] = ()


UNKNOWN_FILE = TaskFile(
    "train.jsonl",
    "json lines",
    FieldMapping(prompt_field="prompt", completion_field="completion"),
    is_known=False,
)


def task_file(source: str, mapping: FieldMapping) -> TaskFile:
    """Look into a file and name its fields; those not said are guessed where only one can be meant.

    Args:
        source: a file in one of `formats.FORMATS`, or "sample:NAME".
        mapping: fields the user named.

    Raises:
        DataError: a hub dataset, an unreadable file, or fields that are not clear.
    """
    if source.startswith("hf:"):
        raise DataError(f"{source} is a Hub dataset, but an export needs a file. Save it as JSONL for --data.")
    rows = open_rows(resolve_data(source))
    fields, notes = resolve_fields(mapping, rows.columns())
    keys = None
    if fields.messages_field is not None:
        keys = _message_keys(next(iter(rows))[1].get(fields.messages_field))  # open_rows has seen a row
    path = str(rows.path)
    file_format = formats.format_of(path)
    if file_format is None:
        raise DataError(
            f"{path} is a folder, but an export needs one file that ends in one of {', '.join(formats.suffixes())}. "
            "Join its files."
        )
    kind = file_format.kind if compression_of(path) is None else f"compressed {file_format.kind}"
    return TaskFile(path, kind, fields, keys, notes=tuple(notes))


def _message_keys(messages: object) -> tuple[str, str]:
    """The keys of the first chat's messages, in ShareGPT's words or in OpenAI's."""
    first = messages[0] if isinstance(messages, list) and messages else {}
    return ("from", "value") if "from" in first else ("role", "content")


def require_readable(data: TaskFile, trainer: str, kinds: Collection[FileKind]) -> None:
    """Refuse what a trainer that reads the file itself cannot use.

    Raises:
        DataError: a prompt made by a template, or a file of another kind.
    """
    if data.kind not in kinds:
        raise DataError(
            f"{trainer} does not read {data.kind} files. Save {data.path} as {formats.stem_of(data.path)}.jsonl."
        )
    if data.fields.template is not None:
        raise DataError(
            f"{trainer} cannot use prompts made by --template ({data.fields.template!r}). Write the prompts into their "
            "own field, or export to hf-trainer, trl or peft."
        )
