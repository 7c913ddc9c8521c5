"""Three small finetuning tasks, each with a train and an eval file, written for this project."""
