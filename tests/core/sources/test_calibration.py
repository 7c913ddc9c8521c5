"""What layers keep, counted on the model: equal to the formulas where there are some, to real tensors where not."""

import pytest
import torch

from semfreeze_core.cost import cost_table, training_bytes
from semfreeze_core.cost.activations import layer_bytes_per_token
from semfreeze_core.errors import ModelError, PlanError
from semfreeze_core.records.calibration import CalibratedBytes, TokenBytes
from semfreeze_core.records.training import TrainableParts, TrainingSetup
from semfreeze_core.sources.calibration import calibrate_empty, calibrate_model
from semfreeze_core.sources.causal_lm import measure_empty
from semfreeze_core.sources.checkpoint import open_checkpoint
from tests.core.cost.saved_bytes import DTYPES
from tests.core.tiny_models import VARIANTS, build_tiny

EXPERTS = ("mixtral", "qwen2_moe", "qwen3_moe", "gpt_oss", "deepseek_v3")
EAGER_ONLY = ("gemma2",)
DENSE = [family for family in VARIANTS if family not in EXPERTS]


@pytest.fixture
def empty(tmp_path):
    """The checkpoint of a tiny config, without weights."""

    def write(family):
        build_tiny(family).config.save_pretrained(tmp_path / family)
        return open_checkpoint(str(tmp_path / family), config_only=True)

    return write


@pytest.mark.parametrize("precision", ["float32", "bf16-autocast", "bf16"])
@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2", "gpt_neox"])
def test_calibrate_empty_equals_the_formula_where_there_is_one(empty, family, precision):
    checkpoint = empty(family)
    shape, found = measure_empty(checkpoint), calibrate_empty(checkpoint, precision)
    for role, counted in (("trained", found.trained), ("traversed", found.traversed)):
        expected = layer_bytes_per_token(shape.layers[0], shape.d_model, precision, role)
        assert counted == (TokenBytes(expected, 0.0),) * shape.n_layers
    assert (found.precision, found.attention, found.padding_mask) == (precision, "sdpa", False)


@pytest.mark.parametrize(("family", "padding_mask"), [(family, i % 2 == 1) for i, family in enumerate(DENSE)])
def test_calibrate_empty_equals_the_count_on_real_tensors(empty, family, padding_mask):
    model = build_tiny(family, attention="eager" if family in EAGER_ONLY else "sdpa")
    real = calibrate_model(model, "float32", padding_mask=padding_mask)
    assert calibrate_empty(empty(family), "float32", padding_mask=padding_mask) == real


@pytest.mark.parametrize(("precision", "bytes_a_score"), [("float32", 4), ("bf16-autocast", 6), ("bf16", 6)])
def test_calibrate_empty_finds_the_scores_of_eager_attention(empty, precision, bytes_a_score):
    # their softmax in float32, and cast once more for the next product
    sdpa, eager = (calibrate_empty(empty("llama"), precision, attention=a) for a in ("sdpa", "eager"))
    assert (sdpa.trained[0].quadratic, eager.trained[0].quadratic) == (0, 4 * bytes_a_score)  # 4 heads


def test_calibrate_empty_finds_that_a_mask_repeats_keys_and_values(empty):
    plain, masked = (calibrate_empty(empty("llama"), "float32", padding_mask=flag) for flag in (False, True))
    # 2 of 4 key heads of width 8 come on top, twice, in float32; and the mask itself, a float for each pair of tokens
    assert masked.trained[0].linear - plain.trained[0].linear == 2 * (4 - 2) * 8 * 4
    assert masked.trained[0].quadratic == 4


def test_calibrate_model_counts_experts(empty):
    found = calibrate_model(build_tiny("mixtral"), "float32")
    assert all(
        trained.linear > traversed.linear > 0 for trained, traversed in zip(found.trained, found.traversed, strict=True)
    )
    with pytest.raises(ModelError, match="has experts"):
        calibrate_empty(empty("mixtral"), "float32")


def test_calibrate_model_leaves_the_model_as_it_was():
    model = build_tiny("llama").eval()
    model.lm_head.requires_grad_(False)
    before = [p.requires_grad for p in model.parameters()]
    calibrate_model(model, "bf16-autocast")
    assert not model.training
    assert [p.requires_grad for p in model.parameters()] == before
    assert all(p.grad is None for p in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_calibrate_model_counts_dropout_where_the_config_has_some():
    model = build_tiny("gpt2")
    plain = calibrate_model(model, "float32").trained[0]
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.1
    assert calibrate_model(model, "float32").trained[0].linear > plain.linear


def test_calibrate_model_refuses_another_dtype_and_too_short_a_model():
    with pytest.raises(ModelError, match=r"bf16 is calibrated on a model in torch.bfloat16, but this one is in"):
        calibrate_model(build_tiny("llama"), "bf16")
    with pytest.raises(ModelError, match="needs 64 tokens, but the model takes 32"):
        calibrate_model(build_tiny("llama", max_positions=32), "float32")


def test_calibrate_model_says_why_it_cannot_run():
    model = build_tiny("llama")
    model.model.layers[1].mlp.forward = lambda _: 1 / 0
    with pytest.raises(ModelError, match=r"cannot be calibrated.*ZeroDivisionError"):
        calibrate_model(model, "float32")
    assert not model.model.layers[0]._forward_hooks


# What training_bytes makes of it


def test_training_bytes_of_calibrated_layers_equals_the_formulas(empty):
    checkpoint = empty("llama")
    shape = measure_empty(checkpoint)
    for precision in DTYPES:
        setup = TrainingSetup(batch_size=3, sequence_length=20, precision=precision)
        calibrated = calibrate_empty(checkpoint, precision)
        assert cost_table(shape, setup, calibrated=calibrated) == cost_table(shape, setup)


def test_training_bytes_of_calibrated_layers_is_the_hand_computed_sum(empty):
    shape = measure_empty(empty("olmo2"))
    setup = TrainingSetup(batch_size=3, sequence_length=20)
    tokens = [TokenBytes(100.0 + i, 2.0) for i in range(4)]
    calibrated = CalibratedBytes("float32", False, "sdpa", (16, 64), tuple(tokens), (TokenBytes(10.0, 0.5),) * 4)
    parts = TrainableParts((False, False, True, True), embeddings=True, final_norm=True, head=False)
    assert training_bytes(shape, setup, parts).activations is None
    found = training_bytes(shape, setup, parts, calibrated).activations
    assert found == 2 * 60 * (10 + 10) + 60 * (102 + 40) + 60 * (103 + 40)


def test_training_bytes_refuses_a_calibration_of_another_precision_or_model(empty):
    shape = measure_empty(empty("llama"))
    calibrated = CalibratedBytes("float32", False, "sdpa", (16, 64), *[(TokenBytes(1.0, 0.0),) * 3] * 2)
    parts = TrainableParts((True,) * 4, False, True, False)
    with pytest.raises(PlanError, match=r"of 3 layers in float32, but the setup is of 4 layers in bf16"):
        training_bytes(shape, TrainingSetup(precision="bf16"), parts, calibrated)


@pytest.mark.parametrize(
    "broken",
    [
        {"trained": ()},
        {"traversed": (TokenBytes(1.0, 0.0),) * 2},
        {"sequence_lengths": (64, 16)},
    ],
)
def test_calibrated_bytes_checks_itself(broken):
    one = (TokenBytes(1.0, 0.0),)
    fields = {"sequence_lengths": (16, 64), "trained": one, "traversed": one}
    with pytest.raises(ValueError, match="expected"):
        CalibratedBytes(precision="float32", padding_mask=False, attention="sdpa", **(fields | broken))
