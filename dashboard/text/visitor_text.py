"""What a server that others reach shows them of its machine: names of files, but not where they lie."""

import os
import re
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from semfreeze_core.storage import cache_folder, home
from semfreeze_core.wording.escaping import markdown_sentence

from ..data.analysis_request import UPLOAD_DIGEST, UPLOADS
from ..data.run_folder import paths_allowed, server_catalog
from .analysis_text import as_command, form_message

_QUOTED = re.compile(r"""(['"`])(?:~[\w-]*)?/(?!/)[^'"`\n]*/([^'"`/\n]+)\1""")
# An absolute path up to its last part; neither the slash of owner/name nor those of an address. The parts end at white
# space and quotation marks: a folder that has those in its name is found where it is quoted, or known by name.
_FOLDERS = re.compile(r"""(?<![\w./~\\])(?:~[\w-]*)?/(?!/)(?:[^\s/'"`<>|;,()\[\]]+/+)*(?=[^\s/'"`<>|;,()\[\]])""")


def visitor_text(text: str) -> str:
    """Text without the folders of this machine, where others than its user see it; a file keeps its name.

    An upload is called by its own name everywhere: where it is kept is nothing that who uploaded it has chosen.
    """
    text = _uploads_by_name(text)
    if paths_allowed():
        return text
    for folder in _folders():
        inside, itself = rf"(?<!\w){re.escape(folder)}/+", rf"(?<!\w){re.escape(folder)}(?![\w-])"
        text = re.sub(itself, os.path.basename(folder), re.sub(inside, "", text))
    return _FOLDERS.sub("", _QUOTED.sub(r"\1\2\1", text))


def _uploads_by_name(text: str) -> str:
    """Text with uploads under their own names, where they are named by where they are kept."""
    folder = server_catalog().folder
    if folder is None:
        return text
    places = "|".join(re.escape(os.path.join(path, UPLOADS)) for path in {str(folder), os.path.abspath(folder)})
    return re.sub(rf"(?:{places})/([\w-]+){UPLOAD_DIGEST}", r"\1", text)


def source_name(source: str) -> str:
    """A model or data as it was named, without its folder on this machine where others see it."""
    source = _uploads_by_name(source)
    kind, path = ("hf:", source.removeprefix("hf:")) if source.startswith("hf:") else ("", source)
    if paths_allowed() or not path.startswith(("/", "~", ".")):
        return source
    return kind + os.path.basename(path.rstrip("/"))


def visitor_file(text: str, sources: Iterable[str | None]) -> str:
    """A file to download, with the model and data of this machine by their own names where others get it.

    Args:
        text: of the file, in any language.
        sources: of the model and data that it may name.
    """
    if paths_allowed():
        return text
    for source in sources:
        if source:
            text = text.replace(source, source_name(source))
    return text


def command_text(arguments: Sequence[str]) -> str:
    """A semfreeze command as it is typed here; without folders for others, who type it at a machine of their own."""
    command = as_command(arguments)
    return command if paths_allowed() else visitor_text(command)


def error_text(message: object) -> str:
    """An error's message as Markdown for a page: it stands for itself, names the forms' fields, and no folders."""
    return markdown_sentence(visitor_text(form_message(str(message))))


def _folders() -> list[str]:
    """Folders of this machine that messages may name, longest first; some may have spaces in their names."""
    folders = [
        server_catalog().folder,
        home(),
        cache_folder(),
        Path.home(),
        Path.cwd(),
        sys.prefix,
        tempfile.gettempdir(),
    ]
    named = {os.path.abspath(folder) for folder in folders if folder is not None}
    return sorted((folder for folder in named if folder != "/"), key=len, reverse=True)
