"""What holds for every test: no hub, one thread a process, and as many drawn examples as tell a fault."""

import gc
import os

# Collections over a hundred thousand fresh imports find nothing; pytest_collection_finish puts this right.
gc.disable()

# Tiny models are slower on several threads, and the suite runs in several processes. Set before anything loads torch
# or numpy; processes that tests start inherit it.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

# Names that tests make up may exist on the hub.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from hypothesis import settings  # noqa: E402 - loads numpy

settings.register_profile("suite", max_examples=25, deadline=None, derandomize=True)
settings.load_profile("suite")

import functools  # noqa: E402
import hashlib  # noqa: E402
from collections import defaultdict  # noqa: E402
from dataclasses import fields  # noqa: E402

import numpy as np  # noqa: E402
import pytest  # noqa: E402


@pytest.fixture(scope="session", autouse=True)
def curves_once():
    """Plans of equal traces take one bootstrap: it is most of a command's time, and tests/core/gains test it itself."""
    # Not for the process that only hands tests to others.
    import typer.testing

    from semfreeze_core.gains.curve import gain_curve
    from semfreeze_core.plan import make, slices
    from semfreeze_core.records import defaults

    curves = {}

    def once(trace, pairs, *, tied, seed):
        key = (_content(trace), _content(pairs), tied, seed, defaults.CONFIDENCE)
        if key not in curves:
            curves[key] = gain_curve(trace, pairs, tied=tied, seed=seed)
        return curves[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(make, "gain_curve", once)
        patch.setattr(slices, "gain_curve", once)
        # Typer makes its commands anew from all signatures for every call of its runner.
        patch.setattr(typer.testing, "_get_command", functools.cache(typer.testing._get_command))
        yield


def _content(record):
    """A digest of a record of arrays and plain values."""
    digest = hashlib.sha256()
    for field in fields(record):
        value = getattr(record, field.name)
        digest.update(field.name.encode())
        digest.update(np.ascontiguousarray(value).tobytes() if isinstance(value, np.ndarray) else repr(value).encode())
    return digest.hexdigest()


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items):
    """Of a test marked `quick_cases(n)` each n-th case runs by default, none with 0; the others are slow."""
    met = defaultdict(int)
    for item in items:
        if (mark := item.get_closest_marker("quick_cases")) is None or item.get_closest_marker("slow"):
            continue
        test = item.path, item.originalname
        if not mark.args[0] or met[test] % mark.args[0]:
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.further)
        met[test] += 1


def pytest_collection_finish():
    """Set aside what the imports made: a full collection over it takes a third of a second, at every training's end."""
    _set_aside()
    gc.enable()


@pytest.fixture(scope="module", autouse=True)
def later_imports_set_aside():
    """The same for what a module's tests import late, as transformers' trainer."""
    yield
    if len(gc.get_objects()) > 50_000:
        _set_aside()


def _set_aside():
    gc.collect()
    gc.freeze()
