"""Opening checkpoints: each kind is told apart, and every unusable one is refused in clear words."""

import json
import logging
import shutil
import sys
import time
import warnings
from contextlib import nullcontext, suppress
from functools import partial

import huggingface_hub
import pytest
import safetensors.torch
import torch
from transformers import AutoModelForCausalLM, BartConfig, Glm4MoeConfig, LlamaConfig, LlavaConfig, Phi4MultimodalConfig
from transformers.utils import logging as transformers_logging

from semfreeze_core.errors import ModelError, ResourceError
from semfreeze_core.sources.models import finite_weights, hub_adapter, loading, opening
from semfreeze_core.sources.models.causal_lm import load_causal_lm, measure_empty
from semfreeze_core.sources.models.checkpoint import Checkpoint
from semfreeze_core.sources.models.limits import limits_of
from semfreeze_core.sources.models.loading import check_weightless, load_config, load_model, load_tokenizer
from semfreeze_core.sources.models.opening import open_checkpoint
from tests.core.saved_models import save_tiny, save_tiny_gguf
from tests.core.tiny_models import FAMILIES
from tests.core.tiny_tokenizer import CHATML, build_tiny_tokenizer


@pytest.fixture(autouse=True)
def _one_thread(measured_once):
    torch.set_num_threads(1)


@pytest.fixture
def folder(tmp_path):
    """A saved tiny Llama with its tokenizer."""
    save_tiny(tmp_path / "tiny")
    return tmp_path / "tiny"


def edit_config(folder, **changes):
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def edit_weights(folder, change):
    path = folder / "model.safetensors"
    weights = safetensors.torch.load_file(path)
    change(weights)
    safetensors.torch.save_file(weights, path, metadata={"format": "pt"})


def store_as_pickle(folder):
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def load(source, **options):
    return load_causal_lm(str(source), dtype="float32", device="cpu", **options)


def refusal(source, **options):
    with pytest.raises(ModelError) as caught:
        load(source, **options)
    return str(caught.value)


@pytest.mark.parametrize("family", FAMILIES)
def test_load_gives_the_saved_model_back(tmp_path, family):
    model = save_tiny(tmp_path, family)
    loaded = load(tmp_path)
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        assert torch.equal(loaded.decoder.model(ids).logits, model(ids).logits)
    assert loaded.tokenizer("Intent: top up").input_ids == build_tiny_tokenizer()("Intent: top up").input_ids
    assert (loaded.identity.source, loaded.identity.revision) == (str(tmp_path), None)


def test_load_keeps_the_chat_template(tmp_path):
    save_tiny(tmp_path, tokenizer=build_tiny_tokenizer(chat_template=CHATML))
    assert load(tmp_path).tokenizer.chat_template == CHATML


def test_load_reads_sharded_weights(tmp_path):
    model = save_tiny(tmp_path)
    model.save_pretrained(tmp_path, max_shard_size="60KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    (tmp_path / "model.safetensors").unlink(missing_ok=True)
    assert load(tmp_path).shape.total_parameters == sum(p.numel() for p in model.parameters())
    missing = next(tmp_path.glob("model-00002*"))
    missing.unlink()
    assert refusal(tmp_path).startswith(f"{missing} is missing, but model.safetensors.index.json names it.")
    missing.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4\n")
    assert refusal(tmp_path).endswith("Fetch them with: git lfs pull.")


def test_load_says_what_it_does(folder):
    events = []
    load(folder, progress=events.append)
    assert [event.stage for event in events] == ["Loading the model", "Verifying the model's parts"]


def test_load_hushes_transformers_and_leaves_its_settings(folder, capfd):
    transformers_logging.set_verbosity(logging.INFO)
    transformers_logging.enable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            load(folder)
        assert transformers_logging.get_verbosity() == logging.INFO
        assert transformers_logging.is_progress_bar_enabled()
    finally:
        transformers_logging.set_verbosity_warning()
    assert capfd.readouterr() == ("", "")


def test_open_checkpoint_tells_the_kinds_apart(folder, tmp_path):
    gguf = tmp_path / "model.GGUF"
    gguf.write_bytes(b"GGUF")
    assert open_checkpoint(str(folder), revision="v1") == Checkpoint(str(folder), "folder", str(folder), None)
    assert open_checkpoint(str(gguf)) == Checkpoint(str(gguf), "gguf", str(gguf))
    hub = open_checkpoint("owner/name", revision="v1", trust_remote_code=True, allow_pickle=True)
    assert hub == Checkpoint("owner/name", "hub", "owner/name", "v1", True, True)
    assert open_checkpoint("gpt2").kind == "hub"


def test_open_checkpoint_takes_the_embedded_model_from_the_cache(folder, monkeypatch):
    monkeypatch.setattr(opening, "convert_embedded", lambda progress: folder)
    assert open_checkpoint("embedded") == Checkpoint("embedded", "folder", str(folder))
    assert load("embedded").identity.source == "embedded"


def test_open_checkpoint_expands_the_home_folder(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert open_checkpoint("~/tiny").location == str(folder)


@pytest.mark.parametrize("source", ["./missing", "~/missing", "/missing", "a/b/c", "missing.gguf", "../missing/model"])
def test_open_checkpoint_refuses_a_missing_path(source):
    with pytest.raises(ModelError) as caught:
        open_checkpoint(source)
    assert str(caught.value) == f"{source}: no such folder or file."


def test_open_checkpoint_refuses_a_name_the_system_cannot_hold():
    with pytest.raises(ModelError, match="File name too long"):
        open_checkpoint("x" * 5000)


def test_open_checkpoint_refuses_a_folder_without_config(tmp_path):
    with pytest.raises(
        ModelError, match=r"expected a config\.json, found nothing\. Is this a Hugging Face model folder"
    ):
        open_checkpoint(str(tmp_path))
    (tmp_path / "training_args.json").write_text("{}")
    with pytest.raises(ModelError, match=r"expected a config\.json, found training_args\.json"):
        open_checkpoint(str(tmp_path))


def test_open_checkpoint_refuses_a_config_that_is_not_json(folder):
    (folder / "config.json").write_text('{"model_type": ')
    with pytest.raises(ModelError, match=r"config\.json is not valid JSON: Expecting value"):
        open_checkpoint(str(folder))
    (folder / "config.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ModelError, match=r"config\.json is not valid JSON"):
        open_checkpoint(str(folder))


def test_open_checkpoint_refuses_a_folder_without_weights(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"no weights: expected model\.safetensors or its index"):
        open_checkpoint(str(folder))
    assert open_checkpoint(str(folder), config_only=True).kind == "folder"


def test_open_checkpoint_refuses_parts_without_their_index(folder):
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    shutil.copy(folder / "model-00001-of-00002.safetensors", folder / "model-00002-of-00002.safetensors")
    message = refusal(folder)
    assert message.startswith(
        f"{folder} holds model-00001-of-00002.safetensors and 1 more, but no model.safetensors.index.json, which says"
    )


def test_open_checkpoint_refuses_pickle_without_the_flag(folder):
    store_as_pickle(folder)
    assert "holds its weights only as pickle (.bin)" in refusal(folder)
    assert "--allow-pickle" in refusal(folder)


def test_load_reads_pickle_with_the_flag(folder):
    before = load(folder).identity
    store_as_pickle(folder)
    assert load(folder, allow_pickle=True).identity == before


def test_load_prefers_safetensors_even_with_the_pickle_flag(folder):
    (folder / "pytorch_model.bin").write_bytes(b"never read")
    assert load(folder, allow_pickle=True).shape.n_layers == 4


def test_load_refuses_a_pickle_that_holds_more_than_tensors(folder, tmp_path):
    marker = tmp_path / "ran"

    class Touch:
        def __reduce__(self):
            return (open, (str(marker), "w"))

    store_as_pickle(folder)
    torch.save({"weight": Touch()}, folder / "pytorch_model.bin")
    assert "the pickle is damaged, or holds other things than tensors." in refusal(folder, allow_pickle=True)
    assert not marker.exists()


def test_load_refuses_missing_weights(folder):
    edit_weights(folder, lambda weights: weights.pop("model.layers.2.mlp.up_proj.weight"))
    message = refusal(folder)
    assert "1 weight is not in the checkpoint and would be random (model.layers.2.mlp.up_proj.weight)." in message
    assert message.endswith("Is it a LlamaForCausalLM checkpoint?")


def test_load_refuses_fewer_layers_in_the_checkpoint_than_in_the_config(folder):
    edit_config(folder, num_hidden_layers=6)
    assert "18 weights are not in the checkpoint and would be random (model.layers.4." in refusal(folder)


def test_load_refuses_more_layers_in_the_checkpoint_than_in_the_config(folder):
    edit_config(folder, num_hidden_layers=3)
    message = refusal(folder)
    assert "the checkpoint holds layers up to number 3, but its config says 3 layers." in message


def test_load_refuses_weights_of_another_shape(folder):
    edit_config(folder, intermediate_size=56)
    message = refusal(folder)
    assert "12 weights have other shapes than the config says: " in message
    assert "is (32, 48), expected (32, 56)" in message


@pytest.mark.parametrize("content", [b"", b"garbage" * 50, None], ids=["empty", "garbage", "half"])
def test_load_refuses_damaged_safetensors(folder, content):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:60_000] if content is None else content)
    message = refusal(folder)
    assert message.startswith(f"{path} is damaged or cut short (Error while deserializing header")
    assert message.endswith("Download it again.")


def test_load_refuses_weights_that_are_not_numbers(folder):
    edit_weights(folder, lambda weights: weights["model.layers.1.mlp.up_proj.weight"].fill_(float("nan")))
    assert "the output of layer 1 holds NaN or infinity" in refusal(folder)


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_a_look_without_loading_refuses_weights_that_are_not_numbers(folder, monkeypatch, value):
    edit_weights(folder, lambda weights: weights["model.layers.1.mlp.up_proj.weight"][3, 4:5].fill_(value))
    with pytest.raises(
        ModelError, match=r"model\.safetensors: model\.layers\.1\.mlp\.up_proj\.weight holds NaN or inf"
    ):
        check_weightless(open_checkpoint(str(folder)))
    monkeypatch.setattr(finite_weights, "_LARGEST_READ", (folder / "model.safetensors").stat().st_size - 1)
    check_weightless(open_checkpoint(str(folder)))  # too large to be read for this


@pytest.mark.parametrize("tied", [False, True])
def test_a_look_without_loading_judges_the_row_of_a_rare_token_as_loading_does(tmp_path, tied):
    save_tiny(tmp_path, tied=tied)
    edit_weights(tmp_path, lambda weights: weights["model.embed_tokens.weight"][-1].fill_(float("nan")))
    for judge in (lambda: check_weightless(open_checkpoint(str(tmp_path))), lambda: load(tmp_path)):
        with pytest.raises(ModelError, match="NaN") if tied else nullcontext():
            judge()


def test_a_look_without_loading_leaves_out_what_the_model_does_not_load(folder):
    edit_weights(folder, lambda weights: weights.update({"extra.bias": torch.full((3,), float("-inf"))}))
    check_weightless(open_checkpoint(str(folder)))
    load(folder)


@pytest.mark.quick_cases(3)
@pytest.mark.parametrize("index", ["{}", '{"weight_map": []}', '{"weight_map": {"a": 3}}', "[]", "{"])
def test_load_refuses_an_index_without_a_map(folder, index):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(index)
    assert refusal(folder).startswith(f"{folder}/model.safetensors.index.json")


def test_load_refuses_an_index_that_leads_outside(folder, tmp_path):
    (folder / "model.safetensors").rename(tmp_path / "other.safetensors")
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../other.safetensors"}}')
    assert "expected names of files beside it, found '../other.safetensors'" in refusal(folder)


@pytest.mark.parametrize("damage", ["missing", "config only", "empty"])
def test_load_refuses_a_missing_tokenizer(folder, damage):
    if damage == "empty":
        (folder / "tokenizer.json").write_text("{}")
    else:
        (folder / "tokenizer.json").unlink()
    if damage == "missing":
        (folder / "tokenizer_config.json").unlink()
    message = refusal(folder)
    assert message.startswith(f"{folder}: its tokenizer could not be loaded: ")
    assert "sentencepiece" not in message, "what to install for tokenizers that are there"
    assert message.endswith(
        "Expected a whole tokenizer.json beside the weights; a finetuned model can take its base model's."
    )


@pytest.mark.parametrize(
    ("changes", "fragment"),
    [
        ({"model_type": "nonsense"}, "its model_type 'nonsense' is no architecture that transformers 5."),
        ({"model_type": None}, "its config could not be loaded: it names no architecture (model_type)."),
        ({"num_attention_heads": 3}, "The hidden size (32) is not a multiple of the number of attention heads (3)"),
        ({"hidden_size": "big"}, "Field 'hidden_size' expected int, got str"),
        ({"hidden_act": "bogus"}, "config.json holds a value that cannot be used (KeyError: 'bogus'). Check /"),
        (
            {"model_type": "vit"},
            "transformers makes no causal language model of a ViTConfig. semfreeze supports",
        ),
        ({"num_hidden_layers": 1}, "has 1 layer; choosing a freeze depth needs at least 2."),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_load_refuses_an_unusable_config(folder, changes, fragment):
    edit_config(folder, **changes)
    message = refusal(folder)
    assert fragment in message
    assert len(message) < 700


def test_load_refuses_a_config_that_is_a_list(folder):
    (folder / "config.json").write_text("[1]")
    assert refusal(folder) == f"{folder}/config.json: expected a JSON object, found a list."


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("linear", {}),
        ("dynamic", {}),
        ("yarn", {"original_max_position_embeddings": 32}),
        ("llama3", {"original_max_position_embeddings": 32, "low_freq_factor": 1.0, "high_freq_factor": 4.0}),
    ],
)
def test_load_reads_scaled_rotary_embeddings_written_the_old_way(folder, kind, more):
    edit_config(folder, rope_parameters=None, rope_theta=10000.0, rope_scaling={"type": kind, "factor": 2.0, **more})
    loaded = load(folder)
    assert loaded.decoder.model.config.rope_parameters["rope_type"] == kind
    assert measure_empty(open_checkpoint(str(folder), config_only=True)) == loaded.shape


def save_glm(folder):
    """A tiny GLM-4-MoE whose layer 0 is dense, with its tokenizer."""
    tokenizer = build_tiny_tokenizer()
    config = Glm4MoeConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        moe_intermediate_size=24,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        n_routed_experts=4,
        num_experts_per_tok=2,
        first_k_dense_replace=1,
        max_position_embeddings=64,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


@pytest.mark.quick_cases(2)
@pytest.mark.parametrize("save", [partial(save_tiny, family="deepseek_v3"), save_glm], ids=["deepseek_v3", "glm4_moe"])
def test_load_leaves_out_layers_that_predict_more_than_the_next_token(tmp_path, save):
    model = save(tmp_path)

    def add(weights):
        last = {name: weight.clone() for name, weight in weights.items() if ".layers.3." in name}
        weights.update({name.replace(".layers.3.", ".layers.4."): weight for name, weight in last.items()})
        weights["model.layers.4.eh_proj.weight"] = torch.zeros(32, 64)
        weights |= {f"model.layers.4.{name}.weight": torch.ones(32) for name in ("enorm", "hnorm", "shared_head.norm")}
        for name in ("embed_tokens", "shared_head.head"):
            weights[f"model.layers.4.{name}.weight"] = torch.zeros(len(weights["lm_head.weight"]), 32)

    edit_weights(tmp_path, add)
    edit_config(tmp_path, num_nextn_predict_layers=0)
    assert "the checkpoint holds layers up to number 4, but its config says 4 layers." in refusal(tmp_path)
    edit_config(tmp_path, num_nextn_predict_layers=1)
    loaded = load(tmp_path)
    assert loaded.shape.total_parameters == sum(p.numel() for p in model.parameters())
    assert loaded.shape == measure_empty(open_checkpoint(str(tmp_path), config_only=True))
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        torch.testing.assert_close(loaded.decoder.model(ids).logits, model.eval()(ids).logits, rtol=1e-5, atol=1e-5)
    assert any("num_nextn_predict_layers: 1" in limit for limit in limits_of(loaded.decoder.model, loaded.shape))


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (LlavaConfig(text_config=LlamaConfig(hidden_size=32, num_hidden_layers=2)), r"llava: text and vision"),
        (Phi4MultimodalConfig(hidden_size=32, num_hidden_layers=2), r"phi4_multimodal: text and audio, vision"),
    ],
    ids=["the text's config within", "the text's settings beside"],
)
def test_load_refuses_a_multimodal_model_by_name(tmp_path, config, name):
    config.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=rf"is a multimodal model \({name}\)"):
        measure_empty(open_checkpoint(str(tmp_path), config_only=True))


@pytest.mark.quick_cases(3)
@pytest.mark.parametrize("entry", ["attn_implementation", "_attn_implementation", "experts_implementation"])
def test_load_takes_no_kernels_that_a_config_names(folder, entry):
    before = load(folder).identity
    edit_config(folder, **{entry: "owner/kernels"})
    assert load(folder).identity == before


@pytest.mark.parametrize("read", [load, lambda source: measure_empty(open_checkpoint(str(source), config_only=True))])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1,000,000,000, expected 1 to 1,000."),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0, expected 1 to 1,000."),
        ({"vocab_size": 0}, "vocab_size is 0, expected at least 1."),
        ({"head_dim": -8}, "head_dim is -8, expected at least 1."),
        ({"max_position_embeddings": 0}, "max_position_embeddings is 0, expected at least 1."),
        ({"text_config": {"hidden_size": 0}}, "hidden_size is 0, expected at least 1."),
    ],
)
def test_load_refuses_impossible_sizes(folder, changes, message, read):
    edit_config(folder, **changes)
    with pytest.raises(ModelError) as caught:
        read(folder)
    assert str(caught.value) == f"{folder}/config.json: {message}"


@pytest.mark.parametrize("read", [load, lambda source: measure_empty(open_checkpoint(str(source), config_only=True))])
def test_load_refuses_an_encoder_decoder(folder, read):
    BartConfig(vocab_size=97, d_model=32).save_pretrained(folder)
    with pytest.raises(ModelError, match=r"is an encoder-decoder \(bart\): semfreeze supports decoder-only models\."):
        read(folder)


@pytest.fixture
def folder_with_code(folder):
    """A checkpoint whose own code writes a marker file as soon as it is imported."""
    marker = folder / "ran"
    (folder / "modelling.py").write_text(
        "from pathlib import Path\nfrom transformers import LlamaConfig, LlamaForCausalLM\n"
        f"Path({str(marker)!r}).touch()\n"
        "class OwnConfig(LlamaConfig):\n    model_type = 'brought_along'\n"
        "class OwnModel(LlamaForCausalLM):\n    config_class = OwnConfig\n"
    )
    edit_config(
        folder,
        model_type="brought_along",
        auto_map={"AutoConfig": "modelling.OwnConfig", "AutoModelForCausalLM": "modelling.OwnModel"},
    )
    return folder, marker


def test_load_runs_no_code_of_a_checkpoint_without_the_flag(folder_with_code):
    folder, marker = folder_with_code
    assert refusal(folder) == (
        f"{folder}: its config could not be loaded: it needs its own code. This checkpoint brings its own code; if you "
        "trust it, add --trust-remote-code, which runs it."
    )
    with pytest.raises(ModelError, match="--trust-remote-code"):
        measure_empty(open_checkpoint(str(folder), config_only=True))
    assert not marker.exists()


def test_load_runs_a_checkpoints_code_with_the_flag(folder_with_code, monkeypatch, tmp_path):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr("sys.path", [*sys.path])
    folder, marker = folder_with_code
    assert load(folder, trust_remote_code=True).shape.n_layers == 4
    assert marker.exists()


def test_load_ignores_a_tokenizers_code_without_the_flag(folder):
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    config |= {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": [None, "own.Own"]}}
    path.write_text(json.dumps(config))
    (folder / "own.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\n")
    with suppress(ModelError):  # or transformers takes a tokenizer of its own instead
        load(folder)
    assert not (folder / "ran").exists()


def test_load_reads_a_gguf_file(tmp_path):
    path = tmp_path / "tiny.gguf"
    model = save_tiny_gguf(path)
    loaded = load(path)
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        assert torch.allclose(loaded.decoder.model(ids).logits, model(ids).logits, atol=1e-5)
    assert measure_empty(open_checkpoint(str(path))) == loaded.shape
    assert loaded.identity.family == "llama"
    assert loaded.tokenizer("Intent: top up").input_ids == build_tiny_tokenizer()("Intent: top up").input_ids
    assert len(loaded.tokenizer) == loaded.shape.vocab_rows, "no token is invented beyond the file's own"


def test_load_hushes_the_bar_over_a_gguf_file(tmp_path, capfd):
    save_tiny_gguf(tmp_path / "tiny.gguf")
    capfd.readouterr()
    load(tmp_path / "tiny.gguf")
    assert capfd.readouterr() == ("", "")


def test_load_refuses_an_unknown_gguf_architecture(tmp_path):
    save_tiny_gguf(tmp_path / "tiny.gguf", architecture="nonsense")
    message = refusal(tmp_path / "tiny.gguf")
    assert "architecture nonsense is not supported" in message
    assert "does transformers read its architecture?" in message


@pytest.mark.parametrize("damage", ["empty", "no magic", "header cut", "tensors cut"])
def test_load_refuses_a_damaged_gguf_file(tmp_path, damage):
    path = tmp_path / "tiny.gguf"
    save_tiny_gguf(path)
    whole = path.read_bytes()
    path.write_bytes(
        {"empty": b"", "no magic": b"hello" * 99, "header cut": whole[:900], "tensors cut": whole[:-999]}[damage]
    )
    message = refusal(path)
    assert message.startswith(f"{path}: its config could not be loaded: ")
    assert message.endswith("Is the file whole, and does transformers read its architecture?")


def test_load_refuses_a_gguf_file_with_missing_weights(tmp_path):
    path = tmp_path / "tiny.gguf"
    save_tiny_gguf(path, without="blk.2.ffn_up.weight")
    assert "would be random (model.layers.2.mlp.up_proj.weight" in refusal(path)


@pytest.mark.parametrize("name", ["weights.bin", "model.safetensors", "README"])
def test_open_checkpoint_refuses_other_files(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(ModelError, match=r"a model file must be \.gguf; for safetensors give the folder that holds it"):
        open_checkpoint(str(tmp_path / name))


class TransportError(Exception):
    """Stands in for the connection errors of the hub's HTTP library."""


TransportError.__module__ = "httpx"


@pytest.fixture
def impatient(monkeypatch):
    """Nothing may wait before it tries again."""

    def sleep(seconds):
        raise AssertionError(f"waits {seconds} seconds")

    monkeypatch.setattr(time, "sleep", sleep)


@pytest.mark.usefixtures("impatient")
def test_load_config_fails_at_once_when_the_hub_is_out_of_reach(monkeypatch):
    def unreachable(*_, **__):
        raise TransportError("Name or service not known")

    monkeypatch.setattr(hub_adapter, "file_exists", unreachable)
    monkeypatch.setattr(loading, "file_exists", unreachable)
    with pytest.raises(ModelError, match=r"nowhere: no such folder.*Name or service not known.*works offline"):
        open_checkpoint("semfreeze-tests/nowhere")
    with pytest.raises(ModelError) as caught:
        load_config(Checkpoint("semfreeze-tests/nowhere", "hub", "semfreeze-tests/nowhere"))
    message = str(caught.value)
    assert message.startswith("semfreeze-tests/nowhere: its config could not be loaded: Name or service not known.")
    assert "There is no such folder, so it was looked for on the Hugging Face hub" in message
    assert "A local folder or a GGUF file works offline." in message


@pytest.mark.usefixtures("impatient")
def test_load_config_fails_at_once_in_offline_mode(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="within reach"):
        load_config(open_checkpoint("semfreeze-tests/nowhere"))


def test_load_config_refuses_what_cannot_be_a_hub_name():
    with pytest.raises(ModelError, match="my model: its config could not be loaded: Repo id must use alphanumeric"):
        load_config(open_checkpoint("my model"))


def test_load_model_says_when_a_hub_checkpoint_is_pickle_only(monkeypatch):
    def refuse(*_, **__):
        raise OSError("cannot be loaded with `safetensors`. Please do not set `use_safetensors=True`.")

    monkeypatch.setattr(loading, "load_config", lambda _: LlamaConfig())
    monkeypatch.setattr(loading.AutoModelForCausalLM, "from_pretrained", refuse)
    with pytest.raises(ModelError, match="Its weights are pickle"):
        load_model(Checkpoint("owner/name", "hub", "owner/name"), torch.float32)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: not enough memory: you tried")])
def test_load_tokenizer_says_when_memory_runs_out(monkeypatch, folder, error):
    def exhaust(*_, **__):
        raise error

    monkeypatch.setattr(loading.AutoTokenizer, "from_pretrained", exhaust)
    with pytest.raises(ResourceError, match="memory ran out while its tokenizer was loaded"):
        load_tokenizer(open_checkpoint(str(folder)))


def test_load_model_reads_weights_to_their_device_and_not_first_to_the_machines_memory(monkeypatch, folder):
    device, asked = torch.device("meta"), []  # which holds nothing, as a GPU's weights are nowhere else
    load = AutoModelForCausalLM.from_pretrained

    def from_pretrained(*args, **options):
        asked.append(options.get("device_map"))
        model, report = load(*args, **options)
        asked.append({p.device.type for p in model.parameters()})
        return model, report

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", from_pretrained)
    model = load_model(open_checkpoint(str(folder)), torch.float32, device)
    assert asked == [{"": device}, {"meta"}]
    assert {p.device for p in model.parameters()} == {device}
    assert not hasattr(model, "hf_device_map")
    load_model(open_checkpoint(str(folder)), torch.float32)
    assert asked[2:] == [None, {"cpu"}]


def test_load_model_never_hides_an_interrupt(monkeypatch, folder):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(loading.AutoTokenizer, "from_pretrained", interrupt)
    with pytest.raises(KeyboardInterrupt):
        load_tokenizer(open_checkpoint(str(folder)))
