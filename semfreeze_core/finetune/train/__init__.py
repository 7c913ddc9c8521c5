"""From a freeze plan to a finetuned model on disk."""

# The modules that other rooms may import.
__all__ = ["folder", "request", "train"]
