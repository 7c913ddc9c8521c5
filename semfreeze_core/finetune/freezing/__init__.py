"""Which parameters of a live model train, and where its backward pass ends."""

# The modules that other rooms may import.
__all__ = ["freeze", "layer_call", "live_model"]
