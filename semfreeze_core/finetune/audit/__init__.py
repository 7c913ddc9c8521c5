"""Whether a trainer keeps a freeze: what trains, where the gradient ends, what share of the saving is real."""
