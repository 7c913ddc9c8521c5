"""Bars that glide to their new length in the browser, where Streamlit makes a changed chart anew."""

from pathlib import Path


def gliding_bars_script() -> str:
    """The script that every page has, as HTML; it takes effect once in a window."""
    return f"<script>{Path(__file__).with_suffix('.js').read_text('utf-8')}</script>"
