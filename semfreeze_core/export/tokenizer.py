"""What a model's tokenizer writes around texts and chats, read from its files: no library is loaded for it."""

import re
from dataclasses import dataclass
from typing import Any

from semfreeze_core.errors import ModelError
from semfreeze_core.sources.models.files import read_object
from semfreeze_core.sources.models.hub import model_file

_MARKS = re.compile(r"{%[-+]?\s*generation\s*[-+]?%}")


@dataclass(frozen=True)
class TokenizerFacts:
    """What the files of a tokenizer say.

    Attributes:
        template: the chat template; None where there is none.
        bos: token that the tokenizer itself puts before a text, if any.
        eos: the end-of-sequence token, if any.
    """

    template: str | None
    bos: str | None
    eos: str | None

    @property
    def marks_answers(self) -> bool:
        """Whether the template marks the assistant's text, as TRL's assistant_only_loss needs."""
        return self.template is not None and _MARKS.search(self.template) is not None

    @property
    def ends_answers(self) -> bool:
        """Whether the template writes the end-of-sequence token at all."""
        return self.template is not None and (
            "eos_token" in self.template or bool(self.eos and self.eos in self.template)
        )


def tokenizer_facts(model: str, revision: str | None) -> TokenizerFacts | None:
    """The facts about a model's tokenizer, or None where its files are not here or cannot be read.

    Args:
        model: a folder, or a repository whose files may be in the hub's cache; nothing is downloaded.
        revision: branch, tag or commit of a repository.
    """
    config_file = model_file(model, "tokenizer_config.json", revision)
    if config_file is None:
        return None
    template_file = model_file(model, "chat_template.jinja", revision)
    tokenizer_file = model_file(model, "tokenizer.json", revision)
    try:
        config = read_object(config_file)
        template = _template(config) if template_file is None else template_file.read_text("utf-8")
        bos = None if tokenizer_file is None else _first_token(read_object(tokenizer_file).get("post_processor"))
    except (ModelError, OSError, UnicodeDecodeError):
        return None
    return TokenizerFacts(template, bos, _token(config.get("eos_token")))


def _template(config: dict[str, Any]) -> str | None:
    """The template in tokenizer_config.json: a text, or the one called default of several."""
    value = config.get("chat_template")
    if isinstance(value, list):
        named = [entry for entry in value if isinstance(entry, dict) and entry.get("name") == "default"]
        value = named[0].get("template") if named else None
    return value if isinstance(value, str) and value else None


def _token(value: Any) -> str | None:
    value = value.get("content") if isinstance(value, dict) else value
    return value if isinstance(value, str) and value else None


def _first_token(processor: Any) -> str | None:
    """The special token that the last step of a tokenizer.json puts before one text."""
    if not isinstance(processor, dict):
        return None
    steps = processor.get("processors")
    if isinstance(steps, list):
        return next((token for step in steps if (token := _first_token(step)) is not None), None)
    single, first = processor.get("single"), processor.get("cls")
    if isinstance(single, list) and single and isinstance(single[0], dict):
        special = single[0].get("SpecialToken")
        return _token(special.get("id")) if isinstance(special, dict) else None
    return _token(first[0]) if isinstance(first, list) and first else None
