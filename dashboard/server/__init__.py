"""Starting the server, letting people in, and failures."""
