"""The boundary states of frozen layers: computed once per example, stored, verified, and trained from."""

# The modules that other rooms may import.
__all__ = ["cache", "key", "proof", "store", "suffix"]
