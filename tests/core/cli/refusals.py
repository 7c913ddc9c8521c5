"""What tests of refusals share: rows of a good task, and system calls that fail."""

import errno
import json
import os

from tests.core.runs.tiny_run import task_rows


def lines(rows):
    return [json.dumps(row) for row in rows]


GOOD = lines(task_rows())


def fail(error):
    def stop(*_, **__):
        raise error

    return stop


def fail_after(n, error, real):
    """Let `real` do its work n times, then raise."""
    calls = []

    def stop(*args, **kwargs):
        calls.append(args)
        if len(calls) > n:
            raise error
        return real(*args, **kwargs)

    return stop


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
