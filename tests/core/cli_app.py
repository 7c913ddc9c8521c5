"""The command line as one object, its commands registered as `main` registers them."""

from semfreeze_core.cli import app as cli
from semfreeze_core.cli import load_commands


def app():
    load_commands()
    return cli
