"""What holds for every test: one thread a process, and as many drawn examples as tell a fault."""

import os

# Tiny models are slower on several threads, and the suite runs in several processes. Set before anything loads torch
# or numpy; processes that tests start inherit it.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

from hypothesis import settings  # noqa: E402 - loads numpy

settings.register_profile("suite", max_examples=25, deadline=None, derandomize=True)
settings.load_profile("suite")
