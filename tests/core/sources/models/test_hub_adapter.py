"""Adapters of the hub: merged into a base of the hub, and into nothing that only this machine has."""

import json
import shutil
import sys
from contextlib import suppress
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
import transformers
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from semfreeze_core.errors import ModelError
from semfreeze_core.sources.models import hub_adapter, loading
from semfreeze_core.sources.models.causal_lm import load_causal_lm, measure_empty
from semfreeze_core.sources.models.loading import load_tokenizer
from semfreeze_core.sources.models.opening import open_checkpoint
from tests.core.saved_models import save_tiny
from tests.core.sources.models.test_adapters import edit_adapter, save_adapter
from tests.core.tiny_tokenizer import build_tiny_tokenizer

pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated"),  # peft's own
    pytest.mark.usefixtures("measured_once"),
]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def hub_error(kind):
    return kind("not found", response=SimpleNamespace(headers={}, request=None))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The hub's cache, filled and out of reach: returns a function that moves a folder into it as a repository."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(transformers.utils.hub, "is_offline_mode", lambda: True, raising=False)

    def publish(folder, name):
        home = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
        (home / "refs").mkdir(parents=True)
        (home / "refs" / "main").write_text(COMMIT)
        shutil.move(folder, home / "snapshots" / COMMIT)
        return home / "snapshots" / COMMIT

    return publish


@pytest.fixture
def adapter(tmp_path, hub):
    """The snapshot of owner/adapter, a random adapter of owner/base."""
    save_adapter(tmp_path / "adapter", tmp_path / "base")
    edit_adapter(tmp_path / "adapter", base_model_name_or_path="owner/base")
    hub(tmp_path / "base", "owner/base")
    return hub(tmp_path / "adapter", "owner/adapter")


def refusal(source="owner/adapter"):
    with pytest.raises(ModelError) as caught:
        open_checkpoint(source, config_only=True)
    return str(caught.value)


def test_an_adapter_of_the_hub_is_merged_like_the_same_folder(adapter, tmp_path):
    shutil.copytree(adapter, tmp_path / "copy")
    loaded, local = (
        load_causal_lm(str(source), dtype="float32", device="cpu") for source in ("owner/adapter", tmp_path / "copy")
    )
    assert "Adapter (LoRA, rank 3) merged into owner/base." in loaded.notes
    assert loaded.identity.weights_digest == local.identity.weights_digest
    assert (loaded.identity.source, loaded.identity.revision) == ("owner/adapter", COMMIT)
    assert measure_empty(open_checkpoint("owner/adapter", config_only=True)) == loaded.shape


@pytest.mark.parametrize("base", ["/srv/x", "../x", "~", "~/x", "C:\\x", ".", "a/b/c", "file:///srv/x", "owner/here"])
def test_an_adapter_of_the_hub_opens_no_path_of_this_machine(adapter, tmp_path, monkeypatch, base):
    monkeypatch.chdir(tmp_path)
    save_tiny(tmp_path / "owner" / "here")
    edit_adapter(adapter, base_model_name_or_path=base)
    assert refusal().startswith(
        f"owner/adapter is an adapter from the hub that names {base!a} as its base: expected a model of the hub, "
        "owner/name or name, that is no file or folder here. To use another base, write its folder or Hub ID as "
        "base_model_name_or_path in adapter_config.json of a downloaded copy of owner/adapter."
    )


def test_a_model_of_the_hub_is_not_exchanged_for_what_an_adapter_beside_it_names(adapter, tmp_path):
    """transformers itself would follow it, whatever the config says."""
    save_tiny(tmp_path / "secret")
    save_tiny(tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", adapter, dirs_exist_ok=True)
    edit_adapter(adapter, base_model_name_or_path=str(tmp_path / "secret"))
    assert "as its base: expected a model of the hub" in refusal()


@pytest.mark.parametrize("error", [OSError("Network is unreachable"), RuntimeError("the connection broke")])
def test_a_model_of_which_the_hub_does_not_say_whether_it_is_an_adapter_is_refused(monkeypatch, error):
    """The loaders may reach the hub a moment later, and would follow an adapter's base to a path of this machine."""

    def ask(*_, **__):
        raise error

    monkeypatch.setattr(hub_adapter, "file_exists", ask)
    assert refusal("owner/name").startswith(
        "owner/name: no such folder, and the Hugging Face hub did not say whether it is an adapter there "
        f"({error}). Is the name right, and the hub within reach?"
    )


@pytest.mark.parametrize(
    "error",
    [
        OfflineModeIsEnabled("offline"),
        HFValidationError("bad name"),
        hub_error(RepositoryNotFoundError),
        hub_error(GatedRepoError),
        hub_error(RevisionNotFoundError),
        hub_error(RemoteEntryNotFoundError),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_the_hub_says_is_not_there_is_no_adapter(monkeypatch, error):
    def ask(*_, **__):
        raise error

    monkeypatch.setattr(hub_adapter, "file_exists", ask)
    assert not hub_adapter.holds_adapter("owner/name", None)


def test_an_adapter_that_names_an_adapter_of_the_hub_is_refused(adapter, hub, tmp_path):
    shutil.copytree(adapter, tmp_path / "second")
    edit_adapter(tmp_path / "second", base_model_name_or_path="owner/adapter")
    message = "second is an adapter of an adapter (owner/adapter): merge that one into its base first."
    assert refusal(str(tmp_path / "second")).endswith(message)
    hub(tmp_path / "second", "owner/second")
    assert refusal("owner/second").endswith(message)
    edit_adapter(adapter, base_model_name_or_path="owner/second")  # each the other's
    assert "owner/adapter is an adapter of an adapter" in refusal()
    edit_adapter(adapter, base_model_name_or_path="owner/adapter")
    assert refusal().startswith("owner/adapter is an adapter that names itself as its base.")


def test_pickled_weights_of_the_hub_are_refused_with_the_flag_that_takes_them(adapter):
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"expected adapter_model.safetensors. If there is only adapter_model.bin"):
        open_checkpoint("owner/adapter")


def test_an_adapters_tokenizer_never_asks_whether_to_run_its_code(adapter, monkeypatch):
    build_tiny_tokenizer().save_pretrained(adapter)
    config = json.loads((adapter / "tokenizer_config.json").read_text())
    config |= {"auto_map": {"AutoTokenizer": ["code.Tokenizer", None]}, "tokenizer_class": "Tokenizer"}
    (adapter / "tokenizer_config.json").write_text(json.dumps(config))
    (adapter / "code.py").write_text("raise SystemExit('it ran')")
    asked = []
    monkeypatch.setattr("builtins.input", lambda *text: asked.append(text) or "y")
    trusted, load = [], loading.AutoTokenizer.from_pretrained

    def from_pretrained(*arguments, **options):
        trusted.append(options.get("trust_remote_code"))
        return load(*arguments, **options)

    monkeypatch.setattr(loading.AutoTokenizer, "from_pretrained", from_pretrained)
    with suppress(ModelError):  # whether its code is needed differs between versions of transformers
        load_tokenizer(open_checkpoint("owner/adapter", config_only=True))
    assert trusted == [False]
    assert not asked


@pytest.mark.parametrize(
    ("entry", "value"),
    [("vocab_file", "/srv/vocab.json"), ("spm_file", "..\\x.model"), ("init_inputs", ["/srv/vocab.json"])],
)
@pytest.mark.parametrize("source", ["owner/adapter", "owner/base"])
def test_a_tokenizer_of_the_hub_names_no_files_elsewhere(adapter, source, entry, value):
    folder = adapter if source == "owner/adapter" else adapter.parents[2] / "models--owner--base" / "snapshots" / COMMIT
    build_tiny_tokenizer().save_pretrained(folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(config | {"special_tokens_map_file": "/srv/private/x", "init_inputs": []}))
    load_tokenizer(open_checkpoint(source, config_only=True))  # what is never opened is let be
    path.write_text(json.dumps(config | {entry: value}))
    with pytest.raises(ModelError, match=f"{source}: its tokenizer_config.json names a file elsewhere as {entry}"):
        load_tokenizer(open_checkpoint(source, config_only=True))


@pytest.mark.quick_cases(4)
@pytest.mark.parametrize("kind", ["XLORA", "PROMPT_TUNING", "CPT", "NONE"])
def test_kinds_that_would_open_what_their_config_names_are_refused_before_they_are_made(adapter, monkeypatch, kind):
    edit_adapter(adapter, peft_type=kind, adapters={"0": "/srv/adapter"})
    monkeypatch.setattr(sys.modules["peft"].PeftModel, "from_pretrained", lambda *_, **__: pytest.fail("it was made"))
    with torch.no_grad(), pytest.raises(ModelError, match=f"a {kind} adapter cannot be written into the model's"):
        load_causal_lm("owner/adapter", dtype="float32", device="cpu")
