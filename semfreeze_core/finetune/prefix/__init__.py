"""The boundary states of frozen layers: computed once per example, stored, verified, and trained from.

Their folder is `prefix_cache_folder()` of semfreeze_core/storage.py, with all others.
"""

# The modules that other rooms may import.
__all__ = ["cache", "forward", "key", "proof", "store", "suffix"]
