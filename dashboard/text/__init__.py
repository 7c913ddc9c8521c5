"""Labels, tooltips and sentences of the pages."""
