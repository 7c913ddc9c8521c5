"""`python -m semfreeze_core`."""

from semfreeze_core.cli import main

main()
