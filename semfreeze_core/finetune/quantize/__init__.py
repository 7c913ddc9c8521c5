"""Frozen layers in 8 or 4 bits, and how quantised weights are found, moved and fingerprinted."""
