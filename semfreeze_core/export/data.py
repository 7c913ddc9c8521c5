"""The training data as a trainer gets it: a file, and what its fields contain."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from semfreeze_core.errors import DataError
from semfreeze_core.records.fields import FieldMapping
from semfreeze_core.sources.data import formats
from semfreeze_core.sources.data.fields import RenderChat, holds_pairs_of_messages, resolve_fields
from semfreeze_core.sources.data.messages import CALL_ROLE, ROLES, TRAINED_KEYS
from semfreeze_core.sources.data.rows import open_rows
from semfreeze_core.sources.data.samples import resolve_data
from semfreeze_core.sources.data.usable_rows import check_for_trainer, first_reasons

FileKind = str  # a format's kind in sources.data.formats, where new ones are added


ChatRole = Literal["system", "user", "assistant", "observation", "function"]  # LLaMA-Factory's names of its tags
_TAGS: dict[str, ChatRole] = {  # by role of chat templates
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "observation",
}
_ROLE_OF_NAME: dict[str, ChatRole] = {
    word: "function" if word == CALL_ROLE else _TAGS[role] for word, role in ROLES.items()
}
_CHATS_READ = 1000  # of a file, to see which words it has for the roles


@dataclass(frozen=True)
class ChatShape:
    """How the chats of a file are written, by its first rows.

    Attributes:
        role_key, content_key: keys of a message.
        role_names: the file's names for each role that occurs, in the order in which they come.
        columns: the row's columns that a chat is given beside its messages ("system", "tools").
        tools_as_text: whether tools are written as JSON texts, by any row.
        untrained: whether any message says that it is no target (weight 0, train false).
    """

    role_key: str = "role"
    content_key: str = "content"
    role_names: dict[ChatRole, tuple[str, ...]] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    tools_as_text: bool = False
    untrained: bool = False

    def unknown_roles(self, known: Collection[str]) -> list[str]:
        """Names for roles that are not among these."""
        return [name for names in self.role_names.values() for name in names if name not in known]


@dataclass(frozen=True)
class TaskFile:
    """Training data.

    Attributes:
        path: as the trainer gets it.
        kind: what the file's extension says.
        fields: every needed field named; prompt and completion, chat messages, or plain text.
        chats: how chat messages are written; None without chats.
        pairs_of_messages: whether prompt and completion are lists of messages, as TRL takes them.
        is_known: False when nobody said which file it is, so that path and fields are only an example.
        notes: which fields were guessed.
    """

    path: str
    kind: FileKind
    fields: FieldMapping
    chats: ChatShape | None = None
    pairs_of_messages: bool = False
    is_known: bool = True
    notes: tuple[str, ...] = ()


UNKNOWN_FILE = TaskFile(
    "train.jsonl",
    "json lines",
    FieldMapping(prompt_field="prompt", completion_field="completion"),
    is_known=False,
)


def task_file(
    source: str, mapping: FieldMapping, chat_renderer: Callable[[], RenderChat | None] | None = None
) -> TaskFile:
    """Look into a file and name its fields; those not said are guessed where only one can be meant.

    Args:
        source: a file in one of `formats.FORMATS`, or "sample:NAME".
        mapping: fields the user named.
        chat_renderer: gives what renders chats by the model's template; called where there are chats. None, or a
            result of None, checks the messages alone.

    Raises:
        DataError: a hub dataset, an unreadable file, fields that are not clear, or no row that can be used.
    """
    if source.startswith("hf:"):
        raise DataError(f"{source} is a Hub dataset, but an export needs a file. Save it as JSONL for --data.")
    rows = open_rows(resolve_data(source))
    fields, notes = resolve_fields(mapping, rows.columns())
    pairs_of_messages = holds_pairs_of_messages((row for _, row in rows), fields)
    render = None
    if chat_renderer is not None and (fields.messages_field is not None or pairs_of_messages):
        render = chat_renderer()
    checked = check_for_trainer(rows, replace(fields, label_field=mapping.label_field), render)
    if checked.n_skipped:
        notes.append(
            f"{checked.n_skipped:,} of {checked.n_rows:,} rows cannot be read: {first_reasons(checked.skipped)}. "
            "semfreeze skips them, but other trainers may not: take them out."
        )
    chats = None
    if fields.messages_field is not None:
        chats = _chat_shape((row for _, row in islice(rows, _CHATS_READ)), fields.messages_field)
    path = str(rows.path)
    kind = formats.kind_of(Path(path))
    if kind is None:
        raise DataError(
            f"{path} is a folder, but an export needs one file that ends in one of {', '.join(formats.suffixes())}. "
            "Join its files."
        )
    return TaskFile(path, kind, fields, chats, pairs_of_messages, notes=tuple(notes))


def _chat_shape(rows: Iterable[Mapping[str, Any]], column: str) -> ChatShape:
    """Keys and words of the messages in these rows; what is no message is left to whoever reads it."""
    keys: dict[str, str] = {}
    role_names: dict[ChatRole, dict[str, None]] = {}
    beside: dict[str, None] = {}
    tools_as_text = untrained = False
    for row in rows:
        beside |= dict.fromkeys(name for name in ("system", "tools") if row.get(name) and name != column)
        tools_as_text |= column != "tools" and isinstance(row.get("tools"), str) and bool(row["tools"])
        messages = row.get(column)
        for message in messages if isinstance(messages, list) else ():
            if not isinstance(message, Mapping):
                continue
            for kind, names in (("role", ("role", "from")), ("content", ("content", "value"))):
                keys.setdefault(kind, next((name for name in names if message.get(name) is not None), ""))
            untrained |= any(message.get(key) is not None and not message[key] for key in TRAINED_KEYS)
            word = message.get("role") or message.get("from")
            if isinstance(word, str) and (role := _ROLE_OF_NAME.get(word.casefold())) is not None:
                role_names.setdefault(role, {})[word] = None
    return ChatShape(
        keys.get("role") or "role",
        keys.get("content") or "content",
        {role: tuple(names) for role, names in role_names.items()},
        tuple(beside),
        tools_as_text,
        untrained,
    )


UNSLOTH, OUMI = "The script for Unsloth", "oumi"  # whose trainer is TRL's
_SCRIPT_TARGETS = "hf-trainer, trl or peft, whose scripts read them as semfreeze does"


def require_roles(data: TaskFile, trainer: str, known: Collection[str], keys: Collection[str] = ("role",)) -> None:
    """Refuse chats whose roles a trainer would not understand.

    Args:
        data: the file; without chats nothing is refused.
        trainer: its name in the message.
        known: words for roles that it understands.
        keys: names of the key of the role that it understands.

    Raises:
        DataError: naming the words.
    """
    if data.chats is None:
        return
    if data.chats.role_key not in keys:
        raise DataError(
            f"{trainer} reads messages with the keys role and content, and those of {data.path} have "
            f"{data.chats.role_key} and {data.chats.content_key}. Rename them, or export to {_SCRIPT_TARGETS}."
        )
    if outside := data.chats.unknown_roles(known):
        raise DataError(
            f"{trainer} does not know the roles {', '.join(outside)} of the messages in {data.path}. Rename them "
            f"(it knows {', '.join(known)}), or export to {_SCRIPT_TARGETS}."
        )


def require_one_role_name(data: TaskFile, trainer: str) -> None:
    """Refuse chats with several words for one role, where a trainer takes one.

    Raises:
        DataError: naming them.
    """
    for role, names in data.chats.role_names.items() if data.chats is not None else ():
        if len(names) > 1:
            raise DataError(
                f"{trainer} takes one word for each role, and messages in {data.path} have {' and '.join(names)} for "
                f"the {role}. Write one of them everywhere, or export to {_SCRIPT_TARGETS}."
            )


def require_readable(data: TaskFile, trainer: str, kinds: Collection[FileKind]) -> None:
    """Refuse what a trainer that reads the file itself cannot use.

    Raises:
        DataError: a prompt made by a template, lists of messages as prompts, messages that are no targets, or a file of
            another kind.
    """
    if data.chats is not None and data.chats.untrained:
        raise DataError(
            f"{trainer} would train on the messages that {data.path} marks as no targets (weight 0, train false). End "
            f"their chats before them, or export to {_SCRIPT_TARGETS}."
        )
    if data.pairs_of_messages and trainer not in (UNSLOTH, OUMI):
        raise DataError(
            f"{trainer} reads prompts and completions as texts, and those of {data.path} are lists of messages. Join "
            f"them in one column of messages, or export to {_SCRIPT_TARGETS}."
        )
    if data.kind not in kinds:
        # In the same folder, from which a server that others reach tells what an upload is called.
        saved = Path(data.path).with_name(f"{formats.stem_of(data.path)}.jsonl")
        raise DataError(
            f"{trainer} does not read {data.kind} files. Save {data.path} as {saved}, and export with --data {saved}."
        )
    if data.fields.template is not None:
        raise DataError(
            f"{trainer} cannot use prompts made by --template ({data.fields.template!r}). Write the prompts into their "
            "own field, or export to hf-trainer, trl or peft."
        )
