"""Arms trained in the test's own process: what starts them needs no fifteen seconds of imports for each."""

from contextlib import contextmanager

import pytest

from semfreeze_core.finetune.arm.process import run_job
from semfreeze_core.finetune.runner import this_machine


@contextmanager
def arms_in_this_process():
    """Validations inside this context train their arms here; test_launch.py and one validation start processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(this_machine, "run_arm_process", lambda job, log, progress: run_job(job))
        yield
