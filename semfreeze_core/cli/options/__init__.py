"""Groups of flags that commands share, and what they mean."""
