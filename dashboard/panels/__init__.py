"""Parts of pages: what several pages show, or one page shows as a block."""
