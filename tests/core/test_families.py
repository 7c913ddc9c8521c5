"""Every family from end to end: saved as a user has it, read, planned, and priced as torch counts a training step."""

import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.utils.flop_counter import FlopCounterMode

from semfreeze_core.cost import cost_table, parts_at_depth, step_flop
from semfreeze_core.errors import ModelError
from semfreeze_core.plan import make_plan, trainable_names
from semfreeze_core.records.training import TrainableParts, TrainingSetup
from semfreeze_core.sources.models.causal_lm import measure_empty
from semfreeze_core.sources.models.decoder import find_decoder
from semfreeze_core.sources.models.limits import limits_of
from semfreeze_core.sources.models.loading import check_weightless, load_model
from semfreeze_core.sources.models.model_shape import measure_shape
from semfreeze_core.sources.models.opening import open_checkpoint
from tests.core.cost.counted_step import prepare
from tests.core.runs.tiny_run import read_tiny, task_rows, write_jsonl
from tests.core.saved_models import save_tiny
from tests.core.tiny_models import VARIANTS, build_tiny, find_pieces, set_trainable

N_LAYERS = 4
SETUP = TrainingSetup(batch_size=2, sequence_length=11)


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("SEMFREEZE_HOME", str(tmp_path / "home"))
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return write_jsonl(tmp_path_factory.mktemp("tasks") / "task.jsonl", task_rows(40))


@pytest.mark.quick_cases(4)
@pytest.mark.parametrize("family", VARIANTS)
def test_a_family_is_read_and_planned(family, tmp_path, task):
    model = save_tiny(tmp_path / "model", family)
    run = read_tiny(tmp_path / "model", task, lens_loss=True)
    for trace in run.traces.values():
        assert trace.deviation.shape == (40, N_LAYERS + 1)
        assert np.isfinite(trace.deviation).all()
    plan = make_plan(run, rule="manual", depth=3)
    pieces = find_pieces(model)
    meant = {id(p) for module in (pieces.layers[3], pieces.final_norm) for p in module.parameters()}
    expected = [name for name, parameter in model.named_parameters() if id(parameter) in meant]
    assert trainable_names(plan, run.manifest.model.identity, [n for n, _ in model.named_parameters()]) == expected
    costs = cost_table(run.shape, SETUP)
    assert len(costs) == N_LAYERS + 1
    assert costs[0].relative_flop == 1 > costs[3].relative_flop


@pytest.mark.quick_cases(4)
@pytest.mark.parametrize("family", VARIANTS)
def test_a_familys_weights_are_recognized_by_their_names_alone(family, tmp_path):
    save_tiny(tmp_path, family)
    checkpoint = open_checkpoint(str(tmp_path))
    check_weightless(checkpoint)
    weights = load_file(tmp_path / "model.safetensors")
    weights.pop(next(name for name in weights if re.search(r"\.2\..*weight", name)))
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    messages = []
    for opening in (check_weightless, lambda it: load_model(it, torch.float32)):
        with pytest.raises(ModelError, match=r"not in the checkpoint|has another shape|weights are missing") as caught:
            opening(checkpoint)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


# Head and embedding tied or not in turn; of each style one both ways.
KINDS = [(family, i % 2 == 0) for i, family in enumerate(VARIANTS)]
KINDS += [(family, VARIANTS.index(family) % 2 == 1) for family in ("llama", "gpt2", "opt-projected", "mixtral")]


@pytest.mark.quick_cases(4)
@pytest.mark.parametrize(("family", "tied"), KINDS)
def test_a_family_is_priced_as_torch_counts(family, tied, tmp_path):
    """FLOP of a training step at every freeze depth, with and without embeddings and head, by the config alone."""
    model = build_tiny(family, tied=tied, attention="eager")
    model.config.save_pretrained(tmp_path)
    shape = measure_empty(open_checkpoint(str(tmp_path), config_only=True))
    ids = torch.randint(3, 97, (SETUP.batch_size, SETUP.sequence_length), generator=torch.Generator().manual_seed(0))
    # each depth, and each choice of ends, once; a tied head and embedding are one parameter, trained together or not
    cases = [(0, True, True), (2, False, False), (3, True, True)]
    if not tied:
        cases = [(0, True, True), (1, False, False), (2, True, False), (3, False, True), (N_LAYERS, False, False)]
    for k, embeddings, head in cases:
        parts = TrainableParts(tuple(i >= k for i in range(N_LAYERS)), embeddings, final_norm=True, head=head)
        boundary = prepare(model, shape, SETUP, parts)
        with FlopCounterMode(display=False) as counter:
            model(input_ids=ids, use_cache=False).logits.sum().backward()
        assert counter.get_total_flops() == step_flop(shape, SETUP, parts).total, parts
        boundary.remove()
        model.zero_grad()


@pytest.mark.parametrize("family", VARIANTS)
def test_a_family_trains_what_its_shape_counts(family):
    """The parameters of each part, as set_trainable finds them by the names its family gives."""
    model = build_tiny(family, tied=False)
    shape = measure_shape(model, find_decoder(model))
    for k in range(N_LAYERS + 1):
        set_trainable(model, parts_at_depth(shape, k))
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        layers = sum(layer.parameters for layer in shape.layers[k:])
        ends = shape.embedding_parameters + shape.head_parameters if k == 0 else 0
        assert trained == layers + shape.final_norm_parameters + ends


LIMITS = {
    "gemma2": "2 of 4 layers attend to a window only",
    "gemma3_text": "3 of 4 layers attend to a window only",
    "gpt_oss": "2 of 4 layers attend to a window only",
    "mistral-sliding": "4 of 4 layers attend to a window only",
    "mixtral": "counts the 2 of 4 that each token meets.",
    "qwen2_moe": "counts the 2 of 4 that each token meets.",
    "qwen3_moe": "counts the 2 of 4 that each token meets.",
    "deepseek_v3": "counts the 2 of 4 that each token meets.",
    "bloom": "Its config states no maximum sequence length",
}


@pytest.mark.parametrize("family", VARIANTS)
def test_a_familys_limits_are_told(family):
    model = build_tiny(family)
    shape = measure_shape(model, find_decoder(model))
    limits = " ".join(limits_of(model, shape))
    unknown = any(layer.kind == "other" for layer in shape.layer_shapes)
    assert ("No formula covers the activation bytes of its layers" in limits) == unknown
    assert LIMITS.get(family, "") in limits
    assert ("window" in limits) == ("window" in LIMITS.get(family, ""))
    assert ("experts" in limits) == (family in ("mixtral", "qwen2_moe", "qwen3_moe", "gpt_oss", "deepseek_v3"))
