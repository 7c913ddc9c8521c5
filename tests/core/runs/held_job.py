"""A job whose command stands still until the test lets it go: it shows a run, and waits before it reads its manifest.

Its process imports `stand_still/sitecustomize.py`, for which `STAND_STILL` has to be in PYTHONPATH.
"""

import errno
import os
import shutil
import time
from pathlib import Path

from semfreeze_core.runs.folder import MANIFEST
from semfreeze_core.runs.jobs import find_job, submit
from semfreeze_core.runs.store import example_run

STAND_STILL = str(Path(__file__).parent / "stand_still")
PATIENCE = 300.0  # seconds; far beyond what anything here takes, on a slow and busy machine too


def wait_for(condition):
    """Wait until `condition` holds, and return what it said."""
    until = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)
    return value


def wait_for_state(runs, name, *states):
    """Wait until a job is in one of these states, and return it."""
    return wait_for(lambda: job if (job := find_job(runs, name)).state in states else None)


class HeldCommand:
    """A command that waits in the middle of its work.

    Attributes:
        arguments: of the command line.
    """

    def __init__(self, folder):
        self.folder, self.pipe = folder, folder / "held"
        shutil.copytree(example_run(), folder)
        os.mkfifo(self.pipe)
        self.writer = None
        self.arguments = ("show", str(folder))

    def submit(self, runs):
        return submit(runs, self.arguments, f"Show {self.folder.name}")

    def wait_until_it_works(self):
        """Wait until the command has come to where it stands still."""

        def try_it():
            try:
                self.writer = os.open(self.pipe, os.O_WRONLY | os.O_NONBLOCK)
            except OSError as error:
                if error.errno != errno.ENXIO:  # nobody reads yet
                    raise
            return self.writer is not None

        if self.writer is None:
            wait_for(try_it)

    def let_go(self, manifest=None):
        """Let the command read its manifest, the right one unless told otherwise, and so come to its end."""
        self.wait_until_it_works()
        if manifest is not None:
            (self.folder / MANIFEST).write_bytes(manifest)
        self.pipe.unlink()
        self.close()

    def close(self):
        if self.writer is not None:
            os.close(self.writer)
            self.writer = None
