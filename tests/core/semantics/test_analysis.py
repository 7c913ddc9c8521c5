import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from semfreeze_core.errors import ModelError, ResourceError
from semfreeze_core.progress import ProgressEvent
from semfreeze_core.records.examples import TokenizedExample
from semfreeze_core.records.trace import TransitionTrace
from semfreeze_core.semantics.analysis import KeptStates, Labels, prepare_labels, read_traces
from semfreeze_core.semantics.positions import choose_positions
from semfreeze_core.sources.models.causal_lm import load_causal_lm
from semfreeze_core.sources.models.decoder import Decoder, HeadTransform
from tests.core.saved_models import save_tiny
from tests.core.semantics.tiny_examples import make_example, own_spaces, random_examples, semantic_by_definition

VOCAB = 97
MATRICES = [f.name for f in dataclasses.fields(TransitionTrace) if f.name != "metric"]


def _labels(decoder: Decoder, examples: list[TokenizedExample], limit: int = 64, **settings: Any) -> Labels:
    settings = {"real_rows": VOCAB, **settings}
    return prepare_labels(decoder, examples, choose_positions(examples, limit, 0), **settings)


def _read(decoder: Decoder, examples: list[TokenizedExample], labels: Labels, **settings: Any) -> dict[str, Any]:
    return read_traces(decoder, examples, choose_positions(examples, 64, 0), labels, **settings)[0]


def _assert_same(one: dict[str, TransitionTrace], other: dict[str, TransitionTrace], order: Any = slice(None)) -> None:
    assert set(one) == set(other)
    for metric in one:
        for name in MATRICES:
            expected, actual = getattr(one[metric], name)[order], getattr(other[metric], name)
            np.testing.assert_allclose(actual, expected, atol=1e-5, err_msg=f"{metric}.{name}")


def test_read_traces_equal_the_definition_computed_apart(decoder: Decoder) -> None:
    examples = random_examples(12, seed=0)
    traces = _read(decoder, examples, _labels(decoder, examples))
    for i, example in enumerate(examples):
        values = semantic_by_definition(decoder, example, np.flatnonzero(example.supervised)).numpy()
        assert traces["semantic"].deviation.shape == (12, len(decoder.layers) + 1)
        np.testing.assert_allclose(traces["semantic"].deviation[i], values.mean(1), atol=1e-5)
        np.testing.assert_allclose(traces["semantic"].first_deviation[i], values[:, 0], atol=1e-5)


YARN = {"factor": 4.0, "original_max_position_embeddings": 16}
LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16}


@pytest.mark.parametrize("entry", ["rope_scaling", "rope_parameters"])
@pytest.mark.parametrize(("kind", "scaling"), [("yarn", YARN), ("llama3", LLAMA3)])
def test_traces_of_scaled_rotary_embeddings_are_those_of_a_plain_forward_pass(
    tmp_path: Path, kind: str, scaling: dict[str, float], entry: str
) -> None:
    """Written as checkpoints before and since transformers 5 write them."""
    model = save_tiny(tmp_path)
    for layer in model.base_model.layers:  # as drawn, attention is nearly the same everywhere
        layer.self_attn.q_proj.weight.data *= 10
        layer.self_attn.k_proj.weight.data *= 10
    model.save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    config = json.loads(file.read_text())
    del config["rope_parameters"]
    old = {"rope_theta": 10000.0, "rope_scaling": {"rope_type": kind, **scaling}}
    new = {"rope_parameters": {"rope_type": kind, "rope_theta": 10000.0, **scaling}}
    plain = {}
    for name, settings in (("scaled", old if entry == "rope_scaling" else new), ("default", {"rope_theta": 10000.0})):
        file.write_text(json.dumps({**config, **settings}))
        plain[name] = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
        if name == "scaled":
            decoder = load_causal_lm(str(tmp_path), dtype="float32", device="cpu").decoder
    scaled = dataclasses.replace(decoder, model=plain["scaled"])
    assert plain["scaled"].config.rope_parameters["rope_type"] == kind
    (example,) = random_examples(1, seed=0, prompt=(40, 40), completion=(5, 5))
    at = np.flatnonzero(example.supervised)
    values = semantic_by_definition(scaled, example, at).numpy()
    trace = _read(decoder, [example], _labels(decoder, [example], real_rows=320))["semantic"]
    np.testing.assert_allclose(trace.deviation[0], values.mean(1), atol=1e-5)
    unscaled = semantic_by_definition(dataclasses.replace(decoder, model=plain["default"]), example, at).numpy()
    assert np.abs(unscaled - values).max() > 1e-3, "the scaling must change something"
    ids = torch.from_numpy(example.input_ids)[None]
    with torch.no_grad():
        torch.testing.assert_close(decoder.model(ids).logits, plain["scaled"](ids).logits, rtol=1e-5, atol=1e-6)


def test_read_traces_null_is_the_mean_deviation_from_every_label_read(decoder: Decoder) -> None:
    examples = random_examples(6, seed=0, completion=(2, 3))
    traces = _read(decoder, examples, _labels(decoder, examples))
    labels = np.concatenate([e.input_ids[e.supervised] for e in examples])
    bases = torch.nn.functional.normalize(torch.linalg.pinv(decoder.head.weight.detach().double()).T[labels], dim=1)
    for i, example in enumerate(examples):
        at = np.flatnonzero(example.supervised)
        states = torch.nn.functional.normalize(own_spaces(decoder, example)[:, at - 1].double(), dim=-1)
        values = (1 - states @ bases.T).mean(-1).numpy()  # (L + 1, n): over all labels, each as often as it occurs
        np.testing.assert_allclose(traces["semantic"].null[i], values.mean(1), atol=1e-5)
        np.testing.assert_allclose(traces["semantic"].first_null[i], values[:, 0], atol=1e-5)
        np.testing.assert_allclose(traces["semantic"].later_null[i], values[:, 1:].mean(1), atol=1e-5)


def test_read_traces_do_not_depend_on_batches_or_order(decoder: Decoder) -> None:
    examples = random_examples(24, seed=1)
    labels = _labels(decoder, examples, lens_loss=True)
    wide = _read(decoder, examples, labels, max_tokens=10_000)
    _assert_same(wide, _read(decoder, examples, labels, max_tokens=16))
    _assert_same(wide, _read(decoder, examples, labels))
    order = np.random.default_rng(0).permutation(24)
    _assert_same(wide, _read(decoder, [examples[i] for i in order], labels), order)


def test_read_traces_split_first_and_later_positions(decoder: Decoder) -> None:
    examples = random_examples(8, seed=2, completion=(2, 5))
    labels, positions = _labels(decoder, examples, lens_loss=True), choose_positions(examples, 64, 0)
    traces, _ = read_traces(decoder, examples, positions, labels)
    only_first, _ = read_traces(decoder, examples, [p[:1] for p in positions], labels)
    only_later, _ = read_traces(decoder, examples, [p[1:] for p in positions], labels)
    share = np.array([[1 / len(p)] for p in positions])
    for metric, trace in traces.items():
        np.testing.assert_allclose(trace.first_deviation, only_first[metric].deviation, atol=1e-5)
        np.testing.assert_allclose(trace.first_null, only_first[metric].null, atol=1e-5)
        np.testing.assert_allclose(trace.later_deviation, only_later[metric].deviation, atol=1e-5)
        np.testing.assert_allclose(trace.later_null, only_later[metric].null, atol=1e-5)
        together = share * trace.first_deviation + (1 - share) * trace.later_deviation
        np.testing.assert_allclose(trace.deviation, together, atol=1e-5)


def test_read_traces_have_no_later_value_for_completions_of_one_token(tiny_decoder: Callable[..., Decoder]) -> None:
    decoder, examples = tiny_decoder(), [make_example([5, 6], [3], row=0), make_example([5, 6], [4, 7], row=1)]
    trace = _read(decoder, examples, _labels(decoder, examples))["semantic"]
    for later in (trace.later_deviation, trace.later_null):
        assert np.isnan(later[0]).all()
        assert np.isfinite(later[1]).all()
    np.testing.assert_array_equal(trace.deviation[0], trace.first_deviation[0])


def test_read_traces_lie_in_the_bounds_of_a_cosine_distance(decoder: Decoder) -> None:
    examples = random_examples(30, seed=3)
    for trace in _read(decoder, examples, _labels(decoder, examples)).values():
        for values in (trace.deviation, trace.null):
            assert values.min() >= 0
            assert values.max() <= 2


@torch.no_grad()
def test_read_traces_lens_loss_at_the_last_space_is_the_models_own_loss(decoder: Decoder) -> None:
    examples = random_examples(10, seed=4)
    trace = _read(decoder, examples, _labels(decoder, examples, lens_loss=True))["lens_loss"]
    for i, example in enumerate(examples):
        ids = torch.from_numpy(example.input_ids)
        logits = decoder.model(input_ids=ids[None]).logits[0, :-1]
        losses = nn.functional.cross_entropy(logits, ids[1:], reduction="none")
        assert float(trace.deviation[i, -1]) == pytest.approx(float(losses[example.supervised[1:]].mean()), abs=1e-5)
    assert trace.unit == "nat"
    assert trace.deviation.min() > 0


@torch.no_grad()
def test_read_traces_lens_loss_is_the_same_for_more_positions_than_are_held_at_once(
    tiny_decoder: Callable[..., Decoder],
) -> None:
    decoder = tiny_decoder()
    examples = random_examples(30, seed=4, completion=(18, 20))  # about 570 positions in one batch
    labels = _labels(decoder, examples, lens_loss=True)
    _assert_same(_read(decoder, examples, labels, max_tokens=10_000), _read(decoder, examples, labels, max_tokens=64))


@torch.no_grad()
def test_read_traces_lens_loss_goes_through_scale_and_cap(tiny_decoder: Callable[..., Decoder]) -> None:
    decoder = dataclasses.replace(tiny_decoder(), transform=HeadTransform(scale=40.0, softcap=3.0))
    example = make_example([6, 5, 3], [4])
    trace = _read(decoder, [example], _labels(decoder, [example], lens_loss=True))["lens_loss"]
    plain = decoder.head(own_spaces(decoder, example)[:, 2])
    logits = 3 * torch.tanh(40 * plain / 3)
    expected = nn.functional.cross_entropy(logits, torch.full((len(logits),), 4), reduction="none")
    np.testing.assert_allclose(trace.deviation[0], expected.numpy(), atol=1e-5)


def test_prepare_labels_names_the_metrics_that_are_read(tiny_decoder: Callable[..., Decoder]) -> None:
    decoder, examples = tiny_decoder(), random_examples(8, seed=0)
    for lens_loss, names in ((False, ("semantic", "logit_z")), (True, ("semantic", "logit_z", "lens_loss"))):
        labels = _labels(decoder, examples, lens_loss=lens_loss)
        assert labels.metrics == names
        assert tuple(_read(decoder, examples, labels)) == names


def test_prepare_labels_weigh_tokens_by_the_positions_read(tiny_decoder: Callable[..., Decoder]) -> None:
    decoder = tiny_decoder()
    examples = [make_example([5, 6], [7, 7, 9], row=0), make_example([3, 4], [7], row=1)]
    labels = _labels(decoder, examples, lens_loss=True)
    assert labels.share is not None
    assert labels.share[[7, 9]].tolist() == [0.75, 0.25]
    assert float(labels.share.sum()) == 1
    assert labels.index[[7, 9]].tolist() == [0, 1]
    assert (labels.index >= 0).sum() == 2
    semantic = labels.targets[0]
    torch.testing.assert_close(semantic.null, 0.75 * semantic.vectors[0] + 0.25 * semantic.vectors[1])
    # Only the first position of each example is read: 7 twice. 9 keeps its target, for whoever draws it.
    first_only = _labels(decoder, examples, limit=1, lens_loss=True)
    assert first_only.share is not None
    assert first_only.share[[7, 9]].tolist() == [1, 0]
    assert first_only.index[[7, 9]].tolist() == [0, 1]
    torch.testing.assert_close(first_only.targets[0].null, first_only.targets[0].vectors[0])


def test_prepare_labels_leave_padded_rows_out(tiny_decoder: Callable[..., Decoder]) -> None:
    decoder, examples = tiny_decoder(), random_examples(8, seed=0, vocab=80)
    before = _labels(decoder, examples, real_rows=80)
    with torch.no_grad():
        decoder.head.weight[80:] = 50.0
    after = _labels(decoder, examples, real_rows=80)
    counted = _labels(decoder, examples, real_rows=97)
    for one, other, wrong in zip(before.targets, after.targets, counted.targets, strict=True):
        torch.testing.assert_close(one.vectors, other.vectors, rtol=0, atol=0)
        torch.testing.assert_close(one.null, other.null, rtol=0, atol=0)
        assert not torch.allclose(one.vectors, wrong.vectors, atol=1e-3)
    assert before.targets[1].factor is not None
    torch.testing.assert_close(before.targets[1].factor, after.targets[1].factor, rtol=0, atol=0)


def test_prepare_labels_name_tokens_the_head_has_no_direction_for(tiny_decoder: Callable[..., Decoder]) -> None:
    decoder, examples = tiny_decoder(), [make_example([5, 6], [7, 7, 9], row=0), make_example([3, 4], [11], row=1)]
    with torch.no_grad():
        decoder.head.weight[[9, 11, 20]] = 0  # 20 is no label: nobody asks for its direction
    with pytest.raises(ModelError, match=r"zeros for the tokens 9, 11,"):
        _labels(decoder, examples)


class _ScarceMemory(nn.Module):
    """Runs out of memory on more than `most` examples, when its layers have already been read."""

    def __init__(self, base: nn.Module, most: int) -> None:
        super().__init__()
        self.base, self.most = base, most

    def forward(self, input_ids: Tensor, **settings: Any) -> Any:
        out = self.base(input_ids=input_ids, **settings)
        if len(input_ids) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return out


def test_read_traces_are_the_same_when_memory_runs_out(tiny_decoder: Callable[..., Decoder]) -> None:
    decoder, examples = tiny_decoder(), random_examples(20, seed=5)
    labels, positions = _labels(decoder, examples, lens_loss=True), choose_positions(examples, 64, 0)
    scarce = dataclasses.replace(decoder, base=_ScarceMemory(decoder.base, 3))
    events, display_states, other = (
        list[ProgressEvent](),
        KeptStates({4: np.array([0])}),
        KeptStates({4: np.array([0])}),
    )
    traces, tally = read_traces(
        scarce, examples, positions, labels, max_tokens=9999, kept_states=display_states, progress=events.append
    )
    _assert_same(_read(decoder, examples, labels, kept_states=other), traces)
    assert tally.halvings == sum(bool(e.message) for e in events) == 7
    np.testing.assert_allclose(display_states.states[4, 0], other.states[4, 0], rtol=1e-3, atol=1e-3)


def test_read_traces_refuse_when_one_example_does_not_fit(tiny_decoder: Callable[..., Decoder]) -> None:
    decoder, examples = tiny_decoder(), random_examples(3, seed=5)
    scarce = dataclasses.replace(decoder, base=_ScarceMemory(decoder.base, 0))
    with pytest.raises(ResourceError):
        _read(scarce, examples, _labels(decoder, examples))


@pytest.mark.parametrize("broken", [0, 2, 3])
def test_read_traces_name_the_layer_whose_weights_are_not_finite(
    tiny_decoder: Callable[..., Decoder], broken: int
) -> None:
    decoder, examples = tiny_decoder(), random_examples(6, seed=0)
    labels = _labels(decoder, examples)
    with torch.no_grad():
        for parameter in decoder.layers[broken].parameters():
            parameter[:] = torch.nan
    with pytest.raises(ModelError, match=rf"^The output of layer {broken} holds NaN.* weights are damaged"):
        _read(decoder, examples, labels)


def test_read_traces_name_the_input_when_the_embedding_is_not_finite(tiny_decoder: Callable[..., Decoder]) -> None:
    decoder, examples = tiny_decoder(), random_examples(6, seed=0)
    labels = _labels(decoder, examples)
    with torch.no_grad():
        decoder.embedding.weight[:] = torch.nan
    with pytest.raises(ModelError, match=r"^The input of layer 0 holds NaN"):
        _read(decoder, examples, labels)


def test_read_traces_refuse_a_state_of_zeros(tiny_decoder: Callable[..., Decoder]) -> None:
    decoder, examples = tiny_decoder(), random_examples(6, seed=0)
    labels = _labels(decoder, examples)
    with torch.no_grad():
        decoder.embedding.weight[examples[0].input_ids[examples[0].supervised.argmax() - 1]] = 0
    with pytest.raises(ModelError, match="a zero state"):
        _read(decoder, examples, labels)


@pytest.mark.parametrize("max_tokens", [16, 10_000])
def test_read_traces_fill_the_kept_states(decoder: Decoder, max_tokens: int) -> None:
    examples = random_examples(10, seed=6, completion=(3, 5))
    display_states = KeptStates({7: np.array([0, 2]), 1: np.array([1])})
    positions = choose_positions(examples, 64, 0)
    read_traces(
        decoder, examples, positions, _labels(decoder, examples), kept_states=display_states, max_tokens=max_tokens
    )
    assert set(display_states.states) == {(7, 0), (7, 2), (1, 1)}
    for (example, p), states in display_states.states.items():
        expected = own_spaces(decoder, examples[example])[:, positions[example][p] - 1]
        assert states.dtype == np.float16
        np.testing.assert_allclose(states, expected.numpy(), rtol=2e-3, atol=2e-3)


def test_read_traces_leave_the_model_as_it_was(tiny_decoder: Callable[..., Decoder]) -> None:
    decoder, examples = tiny_decoder(), random_examples(6, seed=0)
    before = {name: p.detach().clone() for name, p in decoder.model.named_parameters()}
    _read(decoder, examples, _labels(decoder, examples))
    for name, parameter in decoder.model.named_parameters():
        assert torch.equal(parameter, before[name])
        assert parameter.grad is None
        assert parameter.requires_grad
