"""What the layers mean: bases, extraction, deviations."""
