"""The steps of an analysis in order, from model and examples to a run; the command line and the dashboard call them."""

# The modules that other rooms may import.
__all__ = ["analysis", "projection", "request", "slow_scores", "task"]
