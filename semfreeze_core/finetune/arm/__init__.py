"""One seeded finetune of a comparison: its settings, its process, its evaluations, its record."""
