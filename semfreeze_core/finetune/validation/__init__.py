"""Several arms on the same data, and what they show: a verdict, a sweep of depths, pilots."""
