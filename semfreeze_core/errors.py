"""The errors a caller can meet, told apart by who can mend them."""


class SemfreezeError(Exception):
    """Something went wrong inside semfreeze; the command line exits with 1."""


class InputError(SemfreezeError):
    """The user's input cannot be used; the message says what was expected, found and what to do (exit 2)."""


class DataError(InputError):
    """A task file or one of its rows cannot be used."""


class ModelError(InputError):
    """A model cannot be loaded, or its parts cannot be found and proved."""


class ResourceError(InputError):
    """Memory or disk is not enough for what was asked."""


class RunError(InputError):
    """A run folder is missing, damaged, newer than this version, or in the way."""


class PlanError(InputError):
    """A freeze plan or a training setup contradicts itself or the model it is used on."""
