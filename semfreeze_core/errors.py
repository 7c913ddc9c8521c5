"""Errors of the public API, separated by who can fix them: the user (InputError) or semfreeze itself."""

from typing import ClassVar


class SemfreezeError(Exception):
    """Something went wrong inside semfreeze.

    Attributes:
        exit_code: what the command line exits with.
        process: the one that met it alone, where several train one model; else None.
    """

    exit_code: ClassVar[int] = 1
    process: int | None = None


class InputError(SemfreezeError):
    """The user's input cannot be used; the message states what was expected, what was found and what to do."""

    exit_code: ClassVar[int] = 2


class IncompleteError(SemfreezeError):
    """A part of what was asked for failed; the rest is finished and saved, and the message says what to do."""

    exit_code: ClassVar[int] = 3


class DataError(InputError):
    """A task file or one of its rows cannot be used."""


class ModelError(InputError):
    """A model cannot be loaded, or its parts cannot be found and verified."""


class ResourceError(InputError):
    """Memory or disk space is not sufficient for the request."""


class RunError(InputError):
    """A run folder is missing, damaged, newer than this version, or at a path that is taken."""


class PlanError(InputError):
    """A freeze plan or a training setup contradicts itself or the model it is used on."""
