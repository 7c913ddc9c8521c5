"""Several arms on the same data, and what they show: a verdict, a sweep of depths, pilots."""

# The modules that other rooms may import.
__all__ = ["pilot_schedule", "pilots", "race", "race_estimate", "race_request", "request", "sweep", "validate"]
