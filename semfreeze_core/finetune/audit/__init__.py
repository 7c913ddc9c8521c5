"""Whether a trainer keeps a freeze: what trains, where the gradient ends, what share of the saving is real."""

# The modules that other rooms may import.
__all__ = ["audit", "callbacks", "script", "step_count"]
