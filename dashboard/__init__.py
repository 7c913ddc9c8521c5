"""Package of the browser dashboard. It holds no pages yet; everything there is runs from `semfreeze_core`."""
