"""Where models and examples come from."""
