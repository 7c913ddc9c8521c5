"""The messages of a chat as templates expect them, from the spellings that published datasets use.

What changes the meaning of a message is kept for the template (reasoning, tool calls), kept for the target mask
(weight, train), or refused by name.
"""

import json
from typing import Any

from semfreeze_core.errors import DataError
from semfreeze_core.sources.data.values import checked_text, kind_text, names_text

Message = dict[str, Any]  # role, content, and what else the template is given; UNTRAINED where it is no target

UNTRAINED = "untrained"  # key of an assistant message whose text stays context; no template is given it
PASSED_ON = ("reasoning_content", "thinking", "reasoning", "tool_calls", "tool_call_id", "name")
_REFUSED = {
    "tools": "put the tools into a column of that name",
    "prefix": "write the prefix into the content",
    "images": "semfreeze reads text only",
    "image": "semfreeze reads text only",
    "audio": "semfreeze reads text only",
}
TRAINED_KEYS = ("weight", "train", "training")
_ROLE_KEYS, _CONTENT_KEYS = ("role", "from"), ("content", "value")
CALL_ROLE = "function_call"  # LLaMA-Factory's role of an answer that is a tool call, written in JSON
ROLES = {role: role for role in ("system", "developer", "user", "assistant", "tool")}
ROLES |= {"human": "user"} | dict.fromkeys(("gpt", "chatgpt", "bing", "bard", "bot", "model"), "assistant")
ROLES |= {"observation": "tool", "function": "tool", "function_response": "tool", CALL_ROLE: "assistant"}


def read_messages(value: Any, field: str, system: Any = None) -> list[Message]:
    """A conversation with its roles in the words of chat templates.

    Args:
        value: of the column with the messages.
        field: its name.
        system: value of a column with the system prompt; put first where it is text and the chat has none of its own.

    Raises:
        DataError: it is not a list of messages; the text says which message is wrong and how.
    """
    if not isinstance(value, list):
        raise DataError(f"field {field!r} is {kind_text(value)}, expected a list of messages")
    messages = [_message(entry, f"message {i} of field {field!r}") for i, entry in enumerate(value)]
    if system is not None and system != "":
        text = checked_text(system, "field 'system'")
        if text.strip() and not (messages and messages[0]["role"] in ("system", "developer")):
            messages.insert(0, {"role": "system", "content": text})
    return messages


def read_pair(prompt: Any, completion: Any, prompt_field: str, completion_field: str) -> list[Message]:
    """A prompt and a completion that are both lists of messages, as one chat whose targets are the completion's.

    Args:
        prompt, completion: of the two columns.
        prompt_field, completion_field: their names.

    Raises:
        DataError: one of them is no list of messages, or the prompt has none.
    """
    if not prompt:
        raise DataError(f"field {prompt_field!r} holds no messages, expected those that the completion answers")
    asked = read_messages(prompt, prompt_field)
    for message in asked:
        if message["role"] == "assistant":
            message[UNTRAINED] = True
    return [*asked, *read_messages(completion, completion_field)]


def read_history(value: Any, field: str) -> str:
    """Earlier turns as text, each on a line of its own; empty where there are none.

    Args:
        value: pairs of a prompt and its answer, or text that stands as it is.
        field: name of the column.

    Raises:
        DataError: it is neither.
    """
    if not isinstance(value, list):
        return "" if value is None else checked_text(value, f"field {field!r}")
    texts = []
    for i, pair in enumerate(value):
        if not isinstance(pair, list) or len(pair) != 2:
            raise DataError(f"turn {i} of field {field!r} is {kind_text(pair)}, expected a prompt and its answer")
        texts += [checked_text(text, f"turn {i} of field {field!r}") for text in pair]
    return "\n".join(texts)


def read_tools(value: Any) -> list[dict[str, Any]] | None:
    """The tools a chat may call, from a list or from JSON text; None where there are none.

    Raises:
        DataError: it is neither.
    """
    if value is None or value == "":
        return None
    tools = _parsed(value) if isinstance(value, str) else value
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise DataError(f"field 'tools' is {kind_text(value)}, expected a list of tool descriptions")
    return [_without_nulls(tool) for tool in tools] or None


def is_target(message: Message) -> bool:
    """Whether a message that others precede is one that a model learns to write."""
    if message["role"] != "assistant" or message.get(UNTRAINED):
        return False
    return bool(message["content"].strip() or message.get("tool_calls"))


def _message(entry: Any, name: str) -> Message:
    if not isinstance(entry, dict):
        raise DataError(f"{name} is {kind_text(entry)}, expected role and content")
    entry = {key: value for key, value in entry.items() if value is not None or key in _CONTENT_KEYS}
    role_key = next((key for key in _ROLE_KEYS if key in entry), None)
    calls = _tool_calls(entry, name)
    content_key = next((key for key in _CONTENT_KEYS if entry.get(key) is not None), None)
    content_key = content_key or next((key for key in _CONTENT_KEYS if key in entry), None)
    if role_key is None or (content_key is None and not calls):
        raise DataError(
            f"{name} has the keys {names_text([str(key) for key in entry], quoted=True)}, "
            "expected 'role' and 'content' (or 'from' and 'value')"
        )
    role = entry[role_key]
    if not isinstance(role, str) or role.casefold() not in ROLES:
        shown = repr(role)
        raise DataError(f"{name} has the {role_key} {shown[:80]}, expected one of {', '.join(ROLES)}")
    for key, advice in _REFUSED.items():
        if entry.get(key):
            raise DataError(f"{name} has {key!r}, which is not read: {advice}")
    content = _content(entry.get(content_key) if content_key else None, f"the {content_key} of {name}", bool(calls))
    if role.casefold() == CALL_ROLE and not calls:
        calls, content = _calls_of_text(content, name), ""
    message: Message = {"role": ROLES[role.casefold()], "content": content}
    message |= {key: entry[key] for key in PASSED_ON if key in entry and key != "tool_calls"}
    for key in ("reasoning_content", "thinking", "reasoning"):
        if key in message and not checked_text(message[key], f"the {key} of {name}").strip():
            del message[key]
    if calls:
        message["tool_calls"] = calls
    if not _is_trained(entry, name):
        message[UNTRAINED] = True
    return message


def _content(value: Any, name: str, may_be_null: bool) -> str:
    """The text of a message; a list of text parts is joined."""
    if value is None and may_be_null:
        return ""
    if isinstance(value, list) and value and all(isinstance(part, dict) for part in value):
        parts = [part.get("text") for part in value]
        other = sorted({str(part.get("type")) for part in value if part.get("type") != "text"})
        if other:
            raise DataError(f"{name} has parts of type {names_text(other)}, expected text only")
        return "".join(checked_text(part, f"a part of {name}") for part in parts)
    return checked_text(value, name)


def _is_trained(entry: dict[str, Any], name: str) -> bool:
    """Whether a message's own flag leaves it a target: weight 0 (OpenAI) and train false (axolotl) do not."""
    for key in TRAINED_KEYS:
        if key in entry:
            value = entry[key]
            if not isinstance(value, bool | int | float) or value not in (0, 1):
                raise DataError(f"the {key} of {name} is {kind_text(value)}, expected 0 or 1, true or false")
            if not value:
                return False
    return True


def _tool_calls(entry: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Calls in the form that templates expect: type, and a function with its name and arguments as an object."""
    calls = entry.get("tool_calls")
    if not calls:
        calls = [entry["function_call"]] if entry.get("function_call") else []
    if isinstance(calls, str):
        calls = _parsed(calls)
    if not isinstance(calls, list):
        raise DataError(f"the tool calls of {name} are {kind_text(calls)}, expected a list of objects")
    return [_call(call, name) for call in calls]


def _call(call: Any, name: str) -> dict[str, Any]:
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise DataError(f"a tool call of {name} is {kind_text(call)}, expected an object with a function's name")
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        parsed = _parsed(arguments)
        arguments = arguments if parsed is None else parsed
    called = {"type": "function", "function": {"name": function["name"], "arguments": _without_nulls(arguments)}}
    return {"id": call["id"], **called} if isinstance(call.get("id"), str) else called


def _calls_of_text(content: str, name: str) -> list[dict[str, Any]]:
    calls = _parsed(content)
    if calls is None:
        raise DataError(f"the content of {name} is not JSON, expected a tool call with name and arguments")
    return [_call(call, name) for call in (calls if isinstance(calls, list) else [calls])]


def _parsed(text: str) -> Any:
    """The value that JSON text stands for; None where it is no JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _without_nulls(value: Any) -> Any:
    """The value without keys that are null: Parquet fills every key that any row has."""
    if isinstance(value, dict):
        return {key: _without_nulls(entry) for key, entry in value.items() if entry is not None}
    return [_without_nulls(entry) for entry in value] if isinstance(value, list) else value
