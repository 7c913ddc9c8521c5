"""The look before an analysis: examples as the model would get them, token by token, and no model loaded."""

import json
import re
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from transformers import PreTrainedModel

from semfreeze_core import preview
from semfreeze_core.cost.memory import loading_bytes
from semfreeze_core.errors import DataError, InputError, ModelError, PlanError
from semfreeze_core.preview import chat_renderer, forecast_analysis, forecast_training, inspect_model, preview_data
from semfreeze_core.records.fields import FieldMapping
from semfreeze_core.records.preview import (
    DataPreview,
    LayerPlacement,
    ReadingForecast,
    RenderedExample,
    RenderedPiece,
)
from semfreeze_core.records.training import TrainingSetup
from semfreeze_core.sources.models import causal_lm
from semfreeze_core.sources.models.causal_lm import load_causal_lm
from semfreeze_core.wording.runs import memory_sentence, training_memory_sentence
from semfreeze_core.workflow.request import AnalysisRequest
from semfreeze_core.workflow.task import length_limit
from tests.core.finetune.plans import plan_of
from tests.core.runs.tiny_run import write_jsonl
from tests.core.saved_models import save_tiny
from tests.core.tiny_tokenizer import BOS, CHATML, EOS, build_tiny_tokenizer

pytestmark = pytest.mark.usefixtures("measured_once")
TOKENIZER = build_tiny_tokenizer(bos=True, chat_template=CHATML)
PAIRS = [
    {"prompt": "How do I top up?", "completion": " card", "label": "a"},
    {"prompt": "Why? ", "completion": "the card", "label": "b"},
    {"prompt": "Because ", "completion": "", "label": "b"},
]


def n_tokens(text):
    return len(TOKENIZER(text, add_special_tokens=False).input_ids)


def piece(text, supervised, special=0):
    """A stretch of text and how many tokens it has, `special` ones among them."""
    bare = text.removeprefix(BOS).removesuffix(EOS) if special else text
    return RenderedPiece(text, supervised, n_tokens(bare) + special)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A saved tiny model."""
    folder = tmp_path_factory.mktemp("model")
    save_tiny(folder, "llama", tied=False, tokenizer=TOKENIZER)
    return folder


@pytest.fixture
def _nothing_is_loaded(monkeypatch):
    """A preview builds its models without weights: transformers is given tensors of shapes alone."""
    real = PreTrainedModel.from_pretrained.__func__

    def only_shapes(kind, source, *args, **options):
        assert source is None
        assert all(tensor.is_meta for tensor in options["state_dict"].values())
        return real(kind, source, *args, **options)

    monkeypatch.setattr(PreTrainedModel, "from_pretrained", classmethod(only_shapes))


@pytest.fixture
def look(model, tmp_path, _nothing_is_loaded):
    """Looks at rows: the preview by row number, and the whole of it."""

    def call(rows, n=10, **wishes):
        request = AnalysisRequest(str(model), str(write_jsonl(tmp_path / "rows.jsonl", rows)), **wishes)
        rendered = preview_data(request, inspect_model(request), n)
        return {example.row: example for example in rendered.examples}, rendered

    return call


def test_prompt_is_context_and_completion_with_its_end_is_supervised(look):
    examples, rendered = look(PAIRS)
    assert examples[0].pieces == (piece(f"{BOS}How do I top up?", False, 1), piece(f" card{EOS}", True, 1))
    assert examples[1].pieces == (piece(f"{BOS}Why? ", False, 1), piece(f"the card{EOS}", True, 1))
    assert [(row, examples[row].label, examples[row].truncated) for row in sorted(examples)] == [
        (0, "a", 0),
        (1, "b", 0),
    ]
    assert (rendered.n_rows, rendered.n_usable) == (3, 2)
    assert rendered.mapping == {
        "prompt_field": "prompt",
        "completion_field": "completion",
        "label_field": "label",
        "template": None,
        "messages_field": None,
        "text_field": None,
    }
    assert any("1 of 3 rows is left out" in note for note in rendered.notes)
    assert not any("fewer than 32" in note for note in rendered.notes)  # true of any look


def test_without_eos_no_end_is_supervised(look):
    examples, _ = look(PAIRS, add_eos=False)
    assert examples[0].pieces[1] == piece(" card", True)


def test_chat_supervises_the_assistants_turns_alone(look):
    talk = [("user", "Hi"), ("assistant", "Yes?"), ("user", "Why"), ("assistant", "So")]
    rows = [{"messages": [{"role": role, "content": content} for role, content in talk]}]
    examples, _ = look(rows)
    pieces = examples[0].pieces
    assert [piece.supervised for piece in pieces] == [False, True, False, True]
    assert [piece.text for piece in pieces if piece.supervised] == [f"Yes?{EOS}", f"So{EOS}"]
    assert pieces[0].text == "<|im_start|>user\nHi" + EOS + "\n<|im_start|>assistant\n"
    assert "user\nWhy" in pieces[2].text


def test_chat_renderer_is_of_the_models_template_where_it_is_on_this_machine(tmp_path):
    build_tiny_tokenizer(chat_template=CHATML).save_pretrained(tmp_path / "chat")
    build_tiny_tokenizer().save_pretrained(tmp_path / "base")
    (tmp_path / "chat" / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "base" / "config.json").write_text('{"model_type": "llama"}')
    talk = [{"role": "user", "content": "say"}, {"role": "assistant", "content": "one"}]
    segments = chat_renderer(str(tmp_path / "chat"))(talk)
    assert [(segment.text, segment.supervised) for segment in segments][-1] == (f"one{EOS}", True)
    with pytest.raises(DataError, match="has no chat template"):
        chat_renderer(str(tmp_path / "base"))
    assert chat_renderer(str(tmp_path / "none")) is None
    (tmp_path / "chat" / "tokenizer.json").unlink()
    assert chat_renderer(str(tmp_path / "chat")) is None


def test_text_is_supervised_whole(look):
    examples, _ = look([{"body": "A robe takes 2 bolts"}], mapping=FieldMapping(text_field="body"))
    assert examples[0].pieces == (RenderedPiece(BOS, False, 1), piece(f"A robe takes 2 bolts{EOS}", True, 1))


def test_context_is_cut_from_the_left_to_the_length_asked_for(look):
    examples, _ = look(PAIRS[:1], max_length=8)
    context, supervised = examples[0].pieces
    assert supervised == piece(f" card{EOS}", True, 1)
    assert context.n_tokens + supervised.n_tokens == 8
    assert examples[0].truncated == 1 + n_tokens(PAIRS[0]["prompt"]) - context.n_tokens
    assert context.text.startswith(BOS)
    assert context.text.endswith("up?")


def test_n_examples_are_shown_and_the_seed_says_which(look):
    rows = [{"prompt": f"{i}: ", "completion": "x"} for i in range(50)]
    draws = [tuple(look(rows, 3, seed=seed)[0]) for seed in (0, 0, 1)]
    assert [len(draw) for draw in draws] == [3, 3, 3]
    assert draws[0] == draws[1] != draws[2]


@pytest.mark.parametrize(
    ("rows", "wishes", "message"),
    [
        ([{"x": "a", "y": "b"}], {}, "The fields are not clear"),
        ([{"prompt": "a", "completion": ""}], {}, "nothing supervised"),
        ([{"prompt": "a", "completion": "b" * 500}], {}, "1 dropped because their supervised tokens exceed 64"),
    ],
)
def test_data_that_cannot_be_read_is_refused_as_by_the_analysis(look, rows, wishes, message):
    with pytest.raises(DataError, match=message):
        look(rows, **wishes)


def test_inspect_model_refuses_a_folder_without_weights(tmp_path):
    save_tiny(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="but no weights"):
        inspect_model(AnalysisRequest(str(tmp_path), ""))


def test_a_tokenizer_with_more_tokens_than_rows_is_refused_as_by_the_analysis(tmp_path):
    tokenizer = build_tiny_tokenizer()
    save_tiny(tmp_path, tokenizer=tokenizer)
    tokenizer.add_tokens(["Intentional"])
    tokenizer.save_pretrained(tmp_path)
    for opened in (lambda: inspect_model(AnalysisRequest(str(tmp_path), "")), lambda: load_causal_lm(str(tmp_path))):
        with pytest.raises(ModelError, match=r"token 'Intentional' has the id (\d+), but the head has \1 rows"):
            opened()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"model-00002-of-\d+\.safetensors is missing, but"),
        (b"cut", r"model-00002-of-\d+\.safetensors is damaged or cut short"),
        (b"version https://git-lfs.github.com/spec/v1", "holds no weights, only a pointer of Git LFS"),
    ],
)
def test_weights_that_are_not_whole_are_refused_as_by_the_analysis(tmp_path, content, message):
    save_tiny(tmp_path).save_pretrained(tmp_path, max_shard_size="100KB")
    (tmp_path / "model.safetensors").unlink(missing_ok=True)
    shard = next(tmp_path.glob("model-00002-*.safetensors"))
    shard.unlink() if content is None else shard.write_bytes(content)
    for opened in (lambda: inspect_model(AnalysisRequest(str(tmp_path), "")), lambda: load_causal_lm(str(tmp_path))):
        with pytest.raises(ModelError, match=message):
            opened()


def edit_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "left_out", "message"),
    [
        ({"num_hidden_layers": 2}, None, "holds layers up to number 3, but its config says 2 layers"),
        (
            {"num_hidden_layers": 6},
            None,
            r"18 weights are not in the checkpoint and would be random \(model\.layers\.4",
        ),
        ({"intermediate_size": 80}, None, "weights have other shapes than the config says: model.layers.0.mlp.down"),
        (
            {"architectures": ["LlamaForSequenceClassification"]},
            "lm_head.weight",
            r"1 weight is not .*\(lm_head.weight\)\. Is it a .*CausalLM .* names LlamaForSequenceClassification\.",
        ),
    ],
)
def test_weights_of_another_model_than_the_configs_are_refused_as_by_the_analysis(tmp_path, changes, left_out, message):
    weights = save_tiny(tmp_path, tied=False).state_dict()
    weights.pop(left_out, None)
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    edit_config(tmp_path, **changes)
    messages = [refused_by(opening, tmp_path) for opening in (inspect, load_causal_lm)]
    assert messages[0] == messages[1]
    assert re.search(message, messages[0])


def inspect(source):
    return inspect_model(AnalysisRequest(str(source), ""))


def refused_by(opening, source):
    with pytest.raises(ModelError) as caught:
        opening(str(source))
    return str(caught.value)


@pytest.mark.parametrize(
    ("model_limit", "asked", "limit"),
    [(None, None, 2048), (64, None, 64), (64, 100, 64), (64, 20, 20), (10**6, None, 2048), (10**6, 5000, 5000)],
)
def test_length_limit(model_limit, asked, limit):
    assert length_limit(model_limit, asked) == limit


def test_forecast_counts_the_model_from_its_config(model, monkeypatch):
    monkeypatch.setattr(preview, "free_bytes", lambda device: 10**10)
    request = AnalysisRequest(str(model), "", dtype="bfloat16", device="cpu", display_positions=100)
    inspected = inspect_model(request)
    forecast, shape = forecast_analysis(request, inspected), inspected.shape
    parameters = 51_488  # 37,216 with 97 tokens; 2 x 32 more for each of the other 223
    assert forecast.parameters == parameters
    assert (forecast.dtype, forecast.device, forecast.free_bytes) == ("bfloat16", "cpu", 10**10)
    assert forecast.model_bytes == parameters * 22 // 10
    assert forecast.states_bytes == 100 * (shape.n_layers + 1) * shape.d_model * 6


def test_forecast_leaves_room_for_the_process_when_it_chooses_the_dtype(model, monkeypatch):
    monkeypatch.setattr(causal_lm, "_native_bfloat16", lambda: True)
    request = AnalysisRequest(str(model), "", device="cpu")
    inspected = inspect_model(request)
    room = causal_lm.model_bytes(inspected.shape.total_parameters, torch.float32)
    for free, dtype in ((600 * 2**20 + room, "float32"), (600 * 2**20 + room - 1, "bfloat16")):
        monkeypatch.setattr(preview, "free_bytes", lambda device, free=free: free)
        assert forecast_analysis(request, inspected).dtype == dtype


def test_forecast_says_where_layers_go_that_find_no_room(model, monkeypatch):
    request = AnalysisRequest(str(model), "", dtype="float32", device="cpu", display_positions=100)
    inspected = inspect_model(request)
    shape, rest = inspected.shape, 600 * 2**20 + 100 * 5 * 32 * 6
    layer = shape.layer_shapes[0].parameters
    room = causal_lm.model_bytes(shape.total_parameters - 2 * layer, torch.float32)
    monkeypatch.setattr(preview, "free_bytes", lambda device: rest + room)
    forecast = forecast_analysis(request, inspected)
    assert forecast.fits
    assert forecast.placement == LayerPlacement(on_device=1, in_memory=0, on_disk=3, disk_bytes=3 * layer * 4)
    assert memory_sentence(forecast).endswith("Slow: 1 of 4 layers stay on cpu; 3 on disk, 0.00 GiB.")
    example = RenderedExample(0, None, (RenderedPiece("", False, 300), RenderedPiece("", True, 100)), 0)
    data = DataPreview({}, 2000, 1000, (), (example, replace(example, pieces=example.pieces[:1])))
    for n_examples, expected in (
        (256, ReadingForecast(n_batches=88, states_in="memory", states_bytes=256 * 350 * 32 * 4)),
        (0, ReadingForecast(n_batches=342, states_in="memory", states_bytes=1000 * 350 * 32 * 4)),
        (2, ReadingForecast(n_batches=1, states_in=None, states_bytes=2 * 350 * 32 * 4)),
    ):
        assert forecast_analysis(replace(request, examples=n_examples), inspected, data).reading == expected
    monkeypatch.setattr(preview, "free_bytes", lambda device: rest)
    assert not forecast_analysis(request, inspected).fits


@pytest.fixture
def trains_two(model, monkeypatch):
    """The forecast of a plan of four layers by the bytes that are free; its model's shape, and the plan."""
    request = AnalysisRequest(str(model), "", device="cpu")
    inspected = inspect_model(request)
    decoder = load_causal_lm(str(model), dtype="float32", device="cpu").decoder

    def forecast(free, depth=2, **changes):
        monkeypatch.setattr(preview, "free_bytes", lambda _: free)
        plan = plan_of(decoder.model, depth, setup=TrainingSetup(**changes))
        return forecast_training(request, inspected, plan), inspected.shape, plan

    return forecast


def test_a_trainings_peak_is_that_of_its_cost(trains_two):
    forecast, shape, plan = trains_two(10**10)
    assert forecast.whole_bytes == loading_bytes(shape, TrainingSetup(prefix_cache=False), plan.trainable)
    assert forecast.steps_bytes == plan.cost.planned.bytes.total
    assert forecast.peak_bytes == max(forecast.whole_bytes, forecast.steps_bytes)
    assert training_memory_sentence(forecast).startswith("Training the plan (freeze depth 2, float32) takes about ")
    small, _, _ = trains_two(forecast.steps_bytes - 1)
    assert training_memory_sentence(small).startswith("Not enough memory. Training the plan")


def test_a_training_without_room_for_the_model_keeps_its_prefix_elsewhere(trains_two):
    whole = trains_two(10**10)[0].whole_bytes
    forecast, shape, plan = trains_two(whole - 1)
    assert forecast.prefix.depth == 2
    assert forecast.loading_bytes == loading_bytes(shape, plan.cost.setup, plan.trainable) < whole
    assert "The first 2 of 4 layers and the token embedding are kept off cpu" in training_memory_sentence(forecast)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"prefix_cache": False}, "but the training has none (--no-prefix-cache)."),
        ({"depth": 0}, "but no layer below the trained ones is frozen."),
    ],
)
def test_a_training_that_needs_the_whole_model_says_why_it_does_not_fit(trains_two, changes, reason):
    forecast, _, _ = trains_two(trains_two(10**10)[0].whole_bytes - 1, **changes)
    sentence = training_memory_sentence(forecast)
    assert (sentence.startswith("Not enough memory. "), sentence.endswith(reason)) == (True, True)
    assert forecast.loading_bytes == forecast.whole_bytes


def test_a_plan_for_another_model_is_not_forecast(trains_two, model):
    plan = trains_two(10**10)[2].model_copy(update={"n_layers": 6})
    request = AnalysisRequest(str(model), "", device="cpu")
    with pytest.raises(PlanError, match=r"The plan is for 6 layers, .* has 4\."):
        forecast_training(request, inspect_model(request), plan)


def test_forecast_refuses_a_device_that_is_not_there(model):
    request = AnalysisRequest(str(model), "", device="tpu")
    with pytest.raises(InputError, match="expected auto, cpu, cuda"):
        forecast_analysis(request, inspect_model(request))
