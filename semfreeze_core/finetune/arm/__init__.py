"""One seeded finetune of a comparison: its settings, its process, its evaluations, its record."""

# The modules that other rooms may import.
__all__ = [
    "arguments",
    "arms",
    "cancel",
    "evaluate",
    "example_order",
    "files",
    "flop",
    "job",
    "launch",
    "loading",
    "process",
    "progress_file",
    "rate_search",
    "recorder",
    "settings",
    "switch",
    "timed_saves",
    "trainer",
    "training",
]
