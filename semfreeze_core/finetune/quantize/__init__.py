"""Frozen layers in 8 or 4 bits, and how quantized weights are found, moved and fingerprinted."""

# The modules that other rooms may import.
__all__ = ["quantize", "weights"]
