"""What each layer does to the hidden states: bases, deviations, layer scores, and the projections that draw them."""

# The modules that other rooms may import.
__all__ = [
    "analysis",
    "display",
    "extraction",
    "gradient_norm",
    "positions",
    "score_states",
    "scores",
    "spectrum_cache",
    "task_null",
    "umap_projection",
]
