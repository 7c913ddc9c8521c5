"""Finetuning for real: what a plan freezes is frozen, what it saves is saved, and what it predicts is measured."""
