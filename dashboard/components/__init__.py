"""Parts of pages that Streamlit has none of: each a Python function, with its script and style beside it."""
