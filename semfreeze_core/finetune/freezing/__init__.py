"""Which parameters of a live model train, and where its backward pass ends."""
