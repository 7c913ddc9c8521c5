"""Frozen values that travel between the rooms; each checks its own shape."""
