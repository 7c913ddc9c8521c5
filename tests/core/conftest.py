import pytest

from semfreeze_core.sources.models import causal_lm

_SHAPES = {}  # by config, as long as the process lives


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
