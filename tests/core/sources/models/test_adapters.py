"""Folders with a PEFT adapter: merged as by hand, proved, and refused in clear words where they cannot be."""

import json
import shutil
import sys

import pytest
import torch
from peft import LoHaConfig, LoraConfig, PeftModel, PromptTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM

from semfreeze_core.errors import ModelError
from semfreeze_core.sources.models import opening
from semfreeze_core.sources.models.causal_lm import load_causal_lm, measure_empty, require_rows_of
from semfreeze_core.sources.models.loading import check_weightless
from semfreeze_core.sources.models.loading_errors import clear_errors
from semfreeze_core.sources.models.opening import open_checkpoint
from tests.core.saved_models import save_tiny
from tests.core.tiny_tokenizer import CHATML, build_tiny_tokenizer

pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated"),  # peft's own, on making an adapter
    pytest.mark.filterwarnings("ignore:(Model has `tie_word_embeddings=True`|Setting `save_embedding_layers`|fan_in)"),
]
IDS = torch.arange(5, 25)[None]


@pytest.fixture(autouse=True)
def _one_thread(measured_once):
    torch.set_num_threads(1)


def save_adapter(folder, base, family="llama", *, targets=("q_proj", "v_proj"), tied=False):
    """A base in `base` and a random adapter for it in `folder`; returns the adapted model, not merged."""
    save_tiny(base, family, tied=tied)
    model = AutoModelForCausalLM.from_pretrained(base)
    adapted = get_peft_model(model, LoraConfig(r=3, lora_alpha=6, target_modules=list(targets))).eval()
    generator = torch.Generator().manual_seed(1)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)
    adapted.save_pretrained(folder)
    return adapted


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with an adapter and its base, to be copied."""
    folder = tmp_path_factory.mktemp("saved")
    save_adapter(folder / "adapter", folder / "base")
    return folder


@pytest.fixture
def folders(saved, tmp_path):
    """An adapter's folder and its base's."""
    shutil.copytree(saved, tmp_path, dirs_exist_ok=True)
    edit_adapter(tmp_path / "adapter", base_model_name_or_path=str(tmp_path / "base"))
    return tmp_path / "adapter", tmp_path / "base"


def edit_adapter(folder, **changes):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def load(source, **options):
    return load_causal_lm(str(source), dtype="float32", device="cpu", **options)


def refusal(source, *, weightless=True, **options):
    """Why a model is not loaded; the same where its weights are not looked at, unless only they show it."""
    with pytest.raises(ModelError) as caught:
        load(source, **options)
    if weightless:
        with pytest.raises(ModelError) as early:
            check_weightless(open_checkpoint(str(source), **options))
        assert str(early.value) == str(caught.value)
    else:
        check_weightless(open_checkpoint(str(source), **options))
    return str(caught.value)


@pytest.mark.quick_cases(4)
@pytest.mark.parametrize(
    ("family", "targets"),
    [("llama", ("q_proj", "down_proj")), ("gpt2", ("c_attn",)), ("phi3", ("qkv_proj",)), ("mixtral", ("o_proj",))],
)
@torch.no_grad()
def test_load_merges_an_adapter_as_by_hand(tmp_path, family, targets):
    adapted = save_adapter(tmp_path / "adapter", tmp_path / "base", family, targets=targets)
    beside = adapted(IDS).logits
    check_weightless(open_checkpoint(str(tmp_path / "adapter")))
    loaded = load(tmp_path / "adapter")
    merged, plain = loaded.decoder.model(IDS).logits, load(tmp_path / "base").decoder.model(IDS).logits
    assert torch.allclose(merged, beside, atol=1e-5)
    assert not torch.allclose(plain, beside, atol=1e-2), "the adapter must change something"
    for name, parameter in adapted.merge_and_unload().named_parameters():
        assert torch.equal(loaded.decoder.model.get_parameter(name), parameter), name


@torch.no_grad()
@pytest.mark.parametrize(
    ("modules_to_save", "save_embedding_layers"),
    [(None, True), (["embed_tokens", "lm_head"], False), (["embed_tokens", "lm_head"], True)],
)
def test_load_reads_an_adapter_that_brings_new_tokens(tmp_path, modules_to_save, save_embedding_layers):
    """Trainers that resized the vocabulary have PEFT save its matrices, those that are trained a second time."""
    save_tiny(tmp_path / "base")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tmp_path / "base"), build_tiny_tokenizer()
    tokenizer.add_tokens(["[CASE]", "[ITEM]"])
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    config = LoraConfig(r=3, target_modules=["q_proj"], init_lora_weights=False, modules_to_save=modules_to_save)
    adapted = get_peft_model(model, config).eval()
    if modules_to_save:
        for wrapper in (adapted.get_input_embeddings(), adapted.get_output_embeddings()):
            wrapper.modules_to_save["default"].weight.data += 0.1
    adapted.save_pretrained(tmp_path / "adapter", save_embedding_layers=save_embedding_layers)
    tokenizer.save_pretrained(tmp_path / "adapter")
    check_weightless(open_checkpoint(str(tmp_path / "adapter")))
    loaded = load(tmp_path / "adapter")
    ids = torch.tensor([[5, 6, len(tokenizer) - 2, len(tokenizer) - 1]])
    assert torch.allclose(loaded.decoder.model(ids).logits, adapted(ids).logits, atol=1e-5)
    assert loaded.shape.vocab_rows == len(tokenizer) == 322
    assert measure_empty(open_checkpoint(str(tmp_path / "adapter"), config_only=True)) == loaded.shape


@torch.no_grad()
@pytest.mark.parametrize("tied", [False, True])
def test_load_merges_an_adapter_that_trains_some_tokens(tmp_path, tied):
    save_tiny(tmp_path / "base", tied=tied)
    config = LoraConfig(r=3, target_modules=["q_proj"], init_lora_weights=False, trainable_token_indices=[5, 6])
    adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(tmp_path / "base"), config).eval()
    for name, parameter in adapted.named_parameters():
        if "trainable_tokens_delta" in name:
            parameter.data += 0.2
    adapted.save_pretrained(tmp_path / "adapter")
    check_weightless(open_checkpoint(str(tmp_path / "adapter")))
    assert torch.allclose(load(tmp_path / "adapter").decoder.model(IDS).logits, adapted(IDS).logits, atol=1e-5)


def test_load_says_what_was_merged_into_what(folders):
    adapter, base = folders
    loaded, plain = load(adapter), load(base)
    assert f"Adapter (LoRA, rank 3) merged into {base}." in loaded.notes
    assert loaded.identity.source == str(adapter)
    assert loaded.identity.structure_digest == plain.identity.structure_digest
    assert loaded.identity.weights_digest != plain.identity.weights_digest
    assert loaded.shape == plain.shape
    assert loaded.decoder.names == plain.decoder.names


def test_load_says_that_whole_weights_beside_an_adapter_are_not_read(folders):
    adapter, base = folders
    assert not any("not read" in note for note in load(adapter).notes)
    for name in ("config.json", "model.safetensors"):
        shutil.copy(base / name, adapter)
    loaded = load(adapter)
    assert "Its folder also holds model.safetensors, which was not read: the adapter's base was." in loaded.notes


def test_tokens_of_an_adapter_without_rows_are_refused_before_weights_are_read(folders):
    adapter, _ = folders
    tokenizer = build_tiny_tokenizer()
    tokenizer.add_tokens(["[CASE]"])
    tokenizer.save_pretrained(adapter)
    checkpoint = open_checkpoint(str(adapter))
    with pytest.raises(ModelError, match=r"token '\[CASE\]' has the id"):
        require_rows_of(checkpoint, tokenizer, measure_empty(checkpoint))


def test_load_merges_in_bfloat16(folders):
    loaded = load_causal_lm(str(folders[0]), dtype="bfloat16", device="cpu")
    assert {p.dtype for p in loaded.decoder.model.parameters()} == {torch.bfloat16}


def test_measure_empty_prices_the_base(folders):
    adapter, base = folders
    (adapter / "adapter_model.safetensors").unlink()
    assert measure_empty(open_checkpoint(str(adapter), config_only=True)) == load(base).shape


def test_load_takes_the_adapters_tokenizer_before_the_bases(folders):
    adapter, _ = folders
    assert load(adapter).tokenizer.chat_template is None
    build_tiny_tokenizer(chat_template=CHATML).save_pretrained(adapter)
    assert load(adapter).tokenizer.chat_template == CHATML


def test_load_finds_a_base_named_from_the_adapters_folder(folders, monkeypatch, tmp_path):
    adapter, _ = folders
    edit_adapter(adapter, base_model_name_or_path="../base")
    assert "Adapter (LoRA, rank 3) merged into ../base." in load(adapter).notes
    edit_adapter(adapter, base_model_name_or_path="base")
    monkeypatch.chdir(tmp_path)
    assert "Adapter (LoRA, rank 3) merged into base." in load(adapter).notes


def test_open_checkpoint_takes_a_base_from_the_hub(folders):
    adapter, _ = folders
    edit_adapter(adapter, base_model_name_or_path="owner/name", revision="v1")
    checkpoint = open_checkpoint(str(adapter))
    assert (checkpoint.source, checkpoint.kind, checkpoint.location, checkpoint.revision) == (
        str(adapter),
        "hub",
        "owner/name",
        "v1",
    )
    assert open_checkpoint(str(adapter), revision="v2").revision == "v2"


@pytest.mark.parametrize("what", ["its config", "its tokenizer"])
def test_a_base_that_the_hub_does_not_have_is_told_as_the_base(folders, what):
    adapter, _ = folders
    edit_adapter(adapter, base_model_name_or_path="models/base")
    with pytest.raises(ModelError) as caught, clear_errors(open_checkpoint(str(adapter)), what):
        raise OSError("We couldn't connect to 'https://huggingface.co' to load the files, and so on.")
    assert str(caught.value).startswith(
        f"{adapter}: {what} could not be loaded: the Hugging Face hub cannot be reached, and nothing was downloaded "
        "before. Its base models/base is no folder here, so it was looked for on the Hugging Face hub."
    )


def test_a_base_of_which_the_hub_says_nothing_is_told_as_the_base(folders, monkeypatch):
    adapter, _ = folders
    edit_adapter(adapter, base_model_name_or_path="owner/name")

    def cut_off(*_):
        raise ModelError("owner/name: the hub did not say.")

    monkeypatch.setattr(opening, "holds_adapter", cut_off)
    assert refusal(adapter) == (
        f"{adapter} is an adapter, and its base cannot be opened: owner/name: the hub did not say. "
        "To use another base, write its folder or Hub ID as base_model_name_or_path in "
        f"{adapter}/adapter_config.json."
    )


def test_load_refuses_an_adapter_whose_base_is_not_there(folders):
    adapter, base = folders
    shutil.rmtree(base)
    assert refusal(adapter) == (
        f"{adapter} is an adapter, and its base cannot be opened: {base}: no such folder or file. To use another base, "
        f"write its folder or Hub ID as base_model_name_or_path in {adapter}/adapter_config.json."
    )


def test_load_refuses_an_adapter_that_is_its_own_base(folders):
    adapter, _ = folders
    edit_adapter(adapter, base_model_name_or_path=str(adapter))
    assert refusal(adapter).startswith(f"{adapter} is an adapter that names itself as its base. To use another base")


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("target_modules", "(a+)+$"),
        ("exclude_modules", ".*.*.*.*.*.*.*x"),
        ("layers_pattern", ["(?:a|b)*c"]),
        ("rank_pattern", {"(x{1,9}){1,9}": 4}),
        ("alpha_pattern", {"(x*)*": 4}),
    ],
)
def test_load_refuses_patterns_that_would_take_hours(folders, entry, value):
    edit_adapter(folders[0], **{entry: value})
    message = refusal(folders[0])
    assert f"adapter_config.json: {entry} holds a regular expression that may take hours to match" in message


@pytest.mark.quick_cases(2)
@pytest.mark.parametrize(
    "pattern", [r".*\.(q|v)_proj", r"(?:.*?(?:language|text|model).*?(?:attn).*?(?:q_proj|v_proj).*?)"]
)
def test_load_takes_target_modules_as_a_pattern(folders, pattern):
    before = load(folders[0]).identity
    edit_adapter(folders[0], target_modules=pattern)
    assert load(folders[0]).identity == before


@pytest.mark.parametrize("config", ["{}", '{"base_model_name_or_path": null}', '{"base_model_name_or_path": 3}'])
def test_load_refuses_an_adapter_that_names_no_base(folders, config):
    (folders[0] / "adapter_config.json").write_text(config)
    assert "expected base_model_name_or_path, the model this adapter belongs to, found none." in refusal(folders[0])


def test_load_refuses_an_adapter_config_that_is_not_json(folders):
    (folders[0] / "adapter_config.json").write_text("{")
    assert "adapter_config.json is not valid JSON" in refusal(folders[0])


def test_load_refuses_an_adapter_of_an_adapter(folders, tmp_path):
    adapter, _ = folders
    shutil.copytree(adapter, tmp_path / "second")
    edit_adapter(tmp_path / "second", base_model_name_or_path=str(adapter))
    assert f"is an adapter of an adapter ({adapter}): merge that one" in refusal(tmp_path / "second")


def store_as_pickle(adapter):
    from safetensors.torch import load_file

    torch.save(load_file(adapter / "adapter_model.safetensors"), adapter / "adapter_model.bin")
    (adapter / "adapter_model.safetensors").unlink()


def test_load_reads_a_pickled_adapter_only_with_the_flag(folders):
    adapter, _ = folders
    before = load(adapter).identity
    store_as_pickle(adapter)
    message = refusal(adapter)
    assert "holds its adapter only as pickle (adapter_model.bin)" in message
    assert "--allow-pickle" in message
    assert load(adapter, allow_pickle=True).identity == before


def test_load_refuses_an_adapter_without_weights(folders):
    adapter, _ = folders
    (adapter / "adapter_model.safetensors").unlink()
    assert "has an adapter_config.json but no weights: expected adapter_model.safetensors." in refusal(adapter)


@pytest.mark.quick_cases(0)
def test_load_refuses_another_models_adapter(folders, tmp_path):
    adapter, _ = folders
    save_tiny(tmp_path / "wider", d_model=48)
    edit_adapter(adapter, base_model_name_or_path=str(tmp_path / "wider"))
    message = refusal(adapter)
    assert (
        f"does not fit {tmp_path / 'wider'}: model.layers.0.self_attn.q_proj.lora_A.default.weight is (3, " in message
    )
    assert "expected (3, 48). Is this the base it was trained on?" in message
    save_tiny(tmp_path / "shallower", n_layers=3)
    edit_adapter(adapter, base_model_name_or_path=str(tmp_path / "shallower"))
    message = refusal(adapter)
    assert "4 weights of the adapter are missing or find no place in" in message
    assert "Is this the base it was trained on?" in message
    save_tiny(tmp_path / "deeper", n_layers=5)
    edit_adapter(adapter, base_model_name_or_path=str(tmp_path / "deeper"))
    assert "4 weights of the adapter are missing or find no place in" in refusal(adapter)
    save_tiny(tmp_path / "gpt2", "gpt2")
    edit_adapter(adapter, base_model_name_or_path=str(tmp_path / "gpt2"))
    assert "the modules that it changes are not there. Is this the base it was trained on?" in refusal(adapter)


def test_load_refuses_an_adapter_that_cannot_be_merged(tmp_path):
    save_tiny(tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    prompts = get_peft_model(model, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))
    prompts.save_pretrained(tmp_path / "adapter")
    message = refusal(tmp_path / "adapter")
    assert "a PROMPT_TUNING adapter cannot be written into the model's weights" in message


@pytest.mark.parametrize("target", ["embed_tokens", "lm_head"])
def test_load_refuses_low_rank_changes_of_one_of_two_tied_matrices(tmp_path, target):
    """Written into a tied embedding it would change the head as well."""
    save_adapter(tmp_path / "adapter", tmp_path / "base", targets=(target,), tied=True)
    assert "changes one of" in (message := refusal(tmp_path / "adapter"))
    assert "which are tied: merged, it would change both." in message


def test_load_takes_a_low_rank_change_of_a_tied_head_that_changes_nothing(tmp_path):
    save_tiny(tmp_path / "base", tied=True)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    get_peft_model(model, LoraConfig(r=3, target_modules=["lm_head"])).save_pretrained(tmp_path / "adapter")
    check_weightless(open_checkpoint(str(tmp_path / "adapter")))
    assert load(tmp_path / "adapter").decoder.tied


def test_load_refuses_an_adapter_whose_merge_changes_the_answers(tmp_path):
    """Which only weights show: those of a change that is no low-rank one are not looked at before."""
    save_tiny(tmp_path / "base", tied=True)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    config = LoHaConfig(r=3, target_modules=["lm_head"], init_weights=False)
    get_peft_model(model, config).save_pretrained(tmp_path / "adapter")
    assert "merged into" in (message := refusal(tmp_path / "adapter", weightless=False))
    assert "the adapter does not answer as it did beside it" in message


def test_refusals_name_the_base_whose_fault_they_are(folders):
    adapter, base = folders
    config = json.loads((base / "config.json").read_text())
    quantization = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (base / "config.json").write_text(json.dumps(config | {"quantization_config": quantization}))
    assert refusal(adapter) == (
        f"{base} (the base of {adapter}) holds quantized weights (bitsandbytes, 4 bits), which semfreeze cannot "
        "unpack. Give the unquantized checkpoint it was made from. To use another base, write its folder or Hub ID as "
        f"base_model_name_or_path in {adapter / 'adapter_config.json'}."
    )
    (base / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 2}))
    assert refusal(adapter).startswith(f"{base} (the base of {adapter}): the checkpoint holds layers up to number 3,")


def test_load_refuses_an_adapter_without_peft(folders, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    assert refusal(folders[0]).endswith("opening it needs peft: pip install 'semfreeze[finetune]'.")
    measure_empty(open_checkpoint(str(folders[0]), config_only=True))


def test_merge_leaves_no_adapter_behind(folders):
    model = load(folders[0]).decoder.model
    assert not isinstance(model, PeftModel)
    assert not any("lora" in name for name, _ in model.named_parameters())
