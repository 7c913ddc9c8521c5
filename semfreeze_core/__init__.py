"""semfreeze: where to finetune a language model."""

from semfreeze_core.version import __version__

__all__ = ["__version__"]
