"""Models that cannot be analyzed: exit 2, one message with what was found and what to do, nothing kept."""

import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM, BertConfig, BertLMHeadModel, T5Config

from tests.core.cli.terminal import ask
from tests.core.saved_models import save_tiny, save_tiny_gguf
from tests.core.tiny_tokenizer import build_tiny_tokenizer

pytestmark = pytest.mark.usefixtures("nothing_kept")


def bare_folder(folder, models):
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(models / "untied" / name, folder)


def without_weights(folder, models):
    bare_folder(folder, models)


def pickled(folder, models):
    bare_folder(folder, models)
    torch.save(AutoModelForCausalLM.from_pretrained(models / "untied").state_dict(), folder / "pytorch_model.bin")


def without_config(folder, models):
    shutil.copytree(models / "untied", folder)
    (folder / "config.json").unlink()


def without_tokenizer(folder, models):
    shutil.copytree(models / "untied", folder)
    (folder / "tokenizer.json").unlink()


def cut_weights(folder, models):
    shutil.copytree(models / "untied", folder)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def encoder(folder, models):
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    BertLMHeadModel(BertConfig(vocab_size=320, is_decoder=False, **sizes)).save_pretrained(folder)
    build_tiny_tokenizer().save_pretrained(folder)


def encoder_decoder(folder, models):
    T5Config(d_model=32, num_layers=2).save_pretrained(folder)
    shutil.copy(models / "untied" / "model.safetensors", folder)


def one_layer(folder, models):
    save_tiny(folder, "llama", n_layers=1)


def spoiled(folder, models):
    model = save_tiny(folder, "llama", tied=False)
    with torch.no_grad():
        model.model.layers[2].mlp.up_proj.weight[0, 0] = float("nan")
    model.save_pretrained(folder)


def small_vocabulary(folder, models):
    save_tiny(folder, "llama", tokenizer=build_tiny_tokenizer(vocab_size=300))
    build_tiny_tokenizer(vocab_size=320).save_pretrained(folder)


MODELS = {
    "no weights": (without_weights, "has a config.json but no weights: expected model.safetensors or its index"),
    "pickle only": (pickled, "holds its weights only as pickle (.bin), which can run code while loading"),
    "no config": (without_config, "expected a config.json, found"),
    "no tokenizer": (without_tokenizer, "its tokenizer could not be loaded"),
    "cut weights": (cut_weights, "model.safetensors is damaged or cut short"),
    "an encoder": (encoder, "as encoders have them, are not supported: semfreeze supports decoder-only models"),
    "an encoder-decoder": (encoder_decoder, "is an encoder-decoder (t5): semfreeze supports decoder-only models"),
    "one layer": (one_layer, "has 1 layer; choosing a freeze depth needs at least 2"),
    "NaN": (spoiled, "the output of layer 2 holds NaN or infinity"),
    "another tokenizer": (small_vocabulary, "The tokenizer and the model disagree"),
}


@pytest.mark.quick_cases(3)
@pytest.mark.parametrize(
    ("command", "what"),
    [
        *(("analyze", what) for what in MODELS),
        *(("models check", what) for what in ("no weights", "NaN", "no tokenizer")),
    ],
)
def test_analyze_and_models_check_refuse_bad_models(analyze, models, tmp_path, capfd, command, what):
    make, message = MODELS[what]
    make(tmp_path / "model", models)
    capfd.readouterr()  # what making it printed
    if command == "analyze":
        answer = analyze("--json", model=tmp_path / "model")
    else:
        answer = ask("models", "check", tmp_path / "model", "--quiet", "--dtype", "float32")
    assert message in answer.refusal
    assert "".join(capfd.readouterr()) == ""


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("/no/such/folder", "/no/such/folder: no such folder or file"),
        ("./absent", "./absent: no such folder or file"),
        ("absent.gguf", "absent.gguf: no such folder or file"),
        ("", "expected a config.json"),
        ("x" * 300, "File name too long"),
    ],
)
def test_analyze_refuses_a_model_that_is_not_there(analyze, model, message):
    assert message in analyze(model=model).refusal


def test_analyze_refuses_a_file_that_is_no_model(analyze, task):
    assert "a model file must be .gguf" in analyze(model=task).refusal


def test_analyze_refuses_a_gguf_file_of_an_unknown_architecture(analyze, tmp_path):
    save_tiny_gguf(tmp_path / "odd.gguf", architecture="nosuch")
    assert "nosuch" in analyze(model=tmp_path / "odd.gguf").refusal


def test_analyze_names_the_layer_when_states_spoil_while_reading(analyze, tmp_path):
    tokenizer = build_tiny_tokenizer()
    model = save_tiny(tmp_path / "model", "llama", tied=False, tokenizer=tokenizer)
    unseen = tokenizer("M", add_special_tokens=False).input_ids[0]  # the prompts' first letter, not in the probe
    with torch.no_grad():
        model.model.embed_tokens.weight[unseen] = float("inf")
    model.save_pretrained(tmp_path / "model")
    message = analyze(model=tmp_path / "model").refusal
    assert message.startswith("The output of layer 0 holds NaN, infinity or a zero state at a target token.")


def test_analyze_refuses_what_cannot_fit_with_the_numbers(analyze, monkeypatch):
    from semfreeze_core.sources.models import causal_lm

    monkeypatch.setattr(causal_lm, "free_bytes", lambda device: 1000)
    assert "GiB are free on cpu" in analyze().refusal
