"""Checkpoints, and the models in them with their parts found and verified."""
