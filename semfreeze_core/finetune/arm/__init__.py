"""One seeded finetune of a comparison: its settings, its process, its evaluations, its record."""

# The modules that other rooms may import.
__all__ = [
    "arguments",
    "arms",
    "evaluate",
    "example_order",
    "flop",
    "job",
    "launch",
    "progress_file",
    "rate_search",
    "recorder",
    "settings",
    "switch",
    "trainer",
    "training",
]
