"""From a freeze plan to a finetuned model on disk."""
