import hashlib
from collections import defaultdict
from types import SimpleNamespace

import accelerate.utils.memory
import pytest

from semfreeze_core import device
from semfreeze_core.sources.models import causal_lm
from semfreeze_core.sources.models.adapters import SAFETENSORS
from tests.core.saved_models import save_tiny
from tests.core.tiny_models import QUICK, VARIANTS

_MANY = 12  # families; a test that meets as many is of all of them
_SHAPES = {}  # by checkpoint and config, as long as the process lives


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


@pytest.fixture(scope="module")
def measured_once():
    """Equal configs are counted once: on tensors without memory, most of what loading a tiny model takes.

    For tests of what a model is loaded from and what is done with it; those of counting count each time.
    """
    count = causal_lm._measure

    def measure(checkpoint, config):
        fields = config.to_dict()
        fields.pop("_name_or_path", None)  # the folder, which is each test's own
        key = repr((checkpoint.kind, checkpoint.trust_remote_code, _adapter_digest(checkpoint), sorted(fields.items())))
        if fields.get("auto_map"):  # by code of its own
            return count(checkpoint, config)
        if key not in _SHAPES:
            _SHAPES[key] = count(checkpoint, config)
        return _SHAPES[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(causal_lm, "_measure", measure)
        yield


def _adapter_digest(checkpoint):
    """Of what an adapter brings, which may be more rows of the head; None without one."""
    if checkpoint.adapter is None:
        return None
    weights = checkpoint.adapter.folder / SAFETENSORS
    return hashlib.sha256(weights.read_bytes()).hexdigest() if weights.exists() else "no weights"


@pytest.fixture(scope="module")
def no_garbage():
    """Trainings collect no garbage around them, which is slow among a test run's many objects."""
    uncollected = SimpleNamespace(collect=lambda: 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device, "gc", uncollected)
        patch.setattr(accelerate.utils.memory, "gc", uncollected)
        yield


@pytest.fixture
def home_of_one_test(monkeypatch, tmp_path, measured_once, no_garbage):
    """Everything semfreeze keeps is below the test's own folder."""
    monkeypatch.setenv("SEMFREEZE_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module")
def untied_model(tmp_path_factory):
    """The folder of a tiny Llama whose head has weights of its own."""
    folder = tmp_path_factory.mktemp("models") / "untied"
    save_tiny(folder, "llama", tied=False)
    return folder
