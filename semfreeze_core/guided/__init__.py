"""A guided finetune: which layers to train, decided and trained to the end."""

# The modules that other rooms may import.
__all__ = ["finetune", "forecast", "request"]
