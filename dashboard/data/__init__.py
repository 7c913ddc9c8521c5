"""What pages read: run folders, cached results, and the state that links carry."""
