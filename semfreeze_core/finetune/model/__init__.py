"""A loaded model made ready to train: adapters, boundary, target-token head, batches."""

# The modules that other rooms may import.
__all__ = ["batches", "network", "sharding", "supervised_head", "task_data"]
