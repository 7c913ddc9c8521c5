"""Where models and data come from."""

# The modules that other rooms may import.
__all__ = ["data", "models"]
