"""From a record to a figure: nothing is computed here but positions on a page."""
