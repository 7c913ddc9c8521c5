"""Data files, and the examples and token ids in them."""
