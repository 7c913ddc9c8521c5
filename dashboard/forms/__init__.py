"""Forms: widgets in, a request out."""
