"""A loaded model made ready to train: adapters, boundary, target-token head, batches."""
