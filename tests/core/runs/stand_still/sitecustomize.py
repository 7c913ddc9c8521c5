"""Makes a process wait before it reads a manifest next to a pipe named `held`; Python imports this by its name."""

import os
import sys


def _stand_still(event, args):
    if event == "open" and isinstance(args[0], str) and args[0].endswith("manifest.json"):
        pipe = os.path.join(os.path.dirname(args[0]), "held")
        if os.path.exists(pipe):
            os.close(os.open(pipe, os.O_RDONLY))  # until somebody opens its other end


sys.addaudithook(_stand_still)
