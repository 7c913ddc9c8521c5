"""Makes a process wait before it reads a manifest next to a pipe named `held`; Python imports this by its name."""

import os
import sys


def _stand_still(event, args):
    if event == "open" and isinstance(args[0], str) and args[0].endswith("manifest.json"):
        pipe = os.path.join(os.path.dirname(args[0]), "held")
        if os.path.exists(pipe):
            end = os.open(pipe, os.O_RDONLY)  # waits until somebody opens the other end,
            os.read(end, 1)  # and until they close it: opened, the manifest may not be the right one yet
            os.close(end)


sys.addaudithook(_stand_still)
