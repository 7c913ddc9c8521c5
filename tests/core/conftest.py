from collections import defaultdict

import pytest

from semfreeze_core.sources.models import causal_lm
from tests.core.tiny_models import QUICK, VARIANTS

_MANY = 12  # families; a test that meets as many is of all of them
_SHAPES = {}  # by config, as long as the process lives


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items):
    """Tests of all families are slow for those beyond QUICK."""
    met = defaultdict(list)
    for item in items:
        family = getattr(item, "callspec", None) and item.callspec.params.get("family")
        if family in VARIANTS:
            met[item.path, item.originalname].append((family, item))
    for cases in met.values():
        if len({family for family, _ in cases}) >= _MANY:
            for family, item in cases:
                if family not in QUICK:
                    item.add_marker(pytest.mark.slow)


@pytest.fixture
def measured_once(monkeypatch):
    """Equal configs are counted once: on tensors without memory, half of what loading a tiny model takes.

    For tests of what is done with a loaded model; those of counting are in tests/core/sources/models.
    """
    count = causal_lm._measure

    def measure(checkpoint, config):
        key = config.to_json_string(use_diff=False)
        if key not in _SHAPES:
            _SHAPES[key] = count(checkpoint, config)
        return _SHAPES[key]

    monkeypatch.setattr(causal_lm, "_measure", measure)
