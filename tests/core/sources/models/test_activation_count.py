"""What layers keep, counted on the model: equal to the formulas where there are some, to real tensors where not."""

import functools

import pytest
import torch
from transformers import AutoModelForCausalLM

from semfreeze_core.cost import cost_table, training_bytes
from semfreeze_core.cost.activations import layer_bytes_per_token
from semfreeze_core.cost.memory import autocast_copy_bytes
from semfreeze_core.errors import ModelError, PlanError
from semfreeze_core.records.activation_count import CalibratedBytes, TokenBytes
from semfreeze_core.records.training import TrainableParts, TrainingSetup
from semfreeze_core.sources.models.activation_count import calibrate_empty, calibrate_model
from semfreeze_core.sources.models.causal_lm import measure_empty
from semfreeze_core.sources.models.decoder import find_decoder
from semfreeze_core.sources.models.model_shape import measure_shape
from semfreeze_core.sources.models.opening import open_checkpoint
from tests.core.cost.counted_step import prepare
from tests.core.cost.saved_bytes import DTYPES, count_saved_bytes
from tests.core.tiny_models import VARIANTS, build_tiny


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """The checkpoint of a tiny config, without weights; of two layers, as each is counted by itself."""

    def write(family, *, n_layers=2, **changes):
        folder = tmp_path_factory.mktemp(family)
        config = build_tiny(family, n_layers=n_layers).config
        config.update(changes)
        config.save_pretrained(folder)
        return open_checkpoint(str(folder), config_only=True)

    return write


@pytest.fixture(scope="module")
def calibrated(empty):
    """What the layers of such a checkpoint keep; several tests compare the same one."""

    @functools.cache
    def count(family, precision, **options):
        return calibrate_empty(empty(family), precision, **options)

    return count


@pytest.mark.quick_cases(6)
@pytest.mark.parametrize(
    ("family", "precision"),
    [
        ("llama", "float32"),
        ("llama", "bf16-autocast"),
        ("llama", "bf16"),
        ("qwen3", "bf16"),
        ("gpt2", "bf16-autocast"),
        ("gpt_neox", "float32"),
    ],
)
def test_calibrate_empty_equals_the_formula_where_there_is_one(empty, calibrated, family, precision):
    shape, calibration = measure_empty(empty(family)), calibrated(family, precision)
    for role, counted in (("trained", calibration.trained), ("traversed", calibration.traversed)):
        expected = layer_bytes_per_token(shape.layers[0], shape.d_model, precision, role)
        assert counted == (TokenBytes(expected, 0.0),) * shape.n_layers
    assert (calibration.precision, calibration.attention, calibration.padding_mask) == (precision, "sdpa", False)


# Those left out keep what a family that is there keeps.
ALIKE = ("mistral", "qwen3", "gemma2", "opt", "opt-projected", "falcon", "qwen3_moe")
COUNTED = [family for family in VARIANTS if family not in ALIKE]


@pytest.mark.quick_cases(3)
@pytest.mark.parametrize(("family", "padding_mask"), [(family, i % 2 == 1) for i, family in enumerate(COUNTED)])
def test_calibrate_empty_equals_the_count_on_real_tensors(empty, family, padding_mask):
    precision = tuple(DTYPES)[VARIANTS.index(family) % 3]
    n_layers = 3 if family == "gemma3_text" else 2  # as many as show every kind of layer
    model = build_tiny(family, n_layers=n_layers).to(DTYPES[precision])
    real = calibrate_model(model, precision, padding_mask=padding_mask)
    assert calibrate_empty(empty(family, n_layers=n_layers), precision, padding_mask=padding_mask) == real


@pytest.mark.quick_cases(4)
@pytest.mark.parametrize(
    ("family", "precision", "changes"),
    [
        ("mistral", "float32", {"sliding_window": 80}),
        pytest.param("mistral", "bf16", {"sliding_window": 81}, marks=pytest.mark.slow),
        ("gemma3_text", "float32", {"sliding_window": 70}),
        ("falcon-new", "float32", {}),  # whose own code always makes a mask
        pytest.param("falcon-alibi", "bf16-autocast", {}, marks=pytest.mark.slow),
        pytest.param("bloom", "bf16", {}, marks=pytest.mark.slow),
        pytest.param("mixtral", "float32", {}, marks=pytest.mark.slow),
        ("gpt_oss", "bf16", {}),
    ],
)
def test_calibrated_bytes_are_what_one_more_layer_keeps_of_longer_sequences(empty, family, precision, changes):
    setup = TrainingSetup(batch_size=3, sequence_length=80, precision=precision)
    tokens = torch.randint(3, 97, (3, 80), generator=torch.Generator().manual_seed(0))
    saved, copies = [], []
    for n_layers in (3, 4):
        config = build_tiny(family, n_layers=n_layers, max_positions=80).config
        config.update(changes)
        model = AutoModelForCausalLM.from_config(config)
        shape = measure_shape(model, find_decoder(model))
        parts = TrainableParts((True,) * n_layers, embeddings=True, final_norm=True, head=False)
        prepare(model.train(), shape, setup, parts)
        saved.append(count_saved_bytes(model, tokens, setup))
        copies.append(autocast_copy_bytes(shape, setup, parts))
    calibrated = calibrate_empty(empty(family, n_layers=4, **changes), precision, sequence_length=80)
    predicted = calibrated.layer_bytes(3, "trained", 3, 80) + copies[1] - copies[0]
    # what does not grow is not counted: Gemma's norms, four of width 32 and two of width 8, keep 1 + weight; a grouped
    # product where each of 4 experts' rows end; Falcon's attention a few numbers of its kernel
    constant = {"gemma3_text": 4 * (4 * 32 + 2 * 8), "mixtral": 4 * 4, "gpt_oss": 4 * 4, "falcon-new": 16}
    assert saved[1] - saved[0] - predicted == constant.get(family, 0)


@pytest.mark.quick_cases(3)
@pytest.mark.parametrize(("precision", "bytes_a_score"), [("float32", 4), ("bf16-autocast", 6), ("bf16", 6)])
def test_calibrate_empty_finds_the_scores_of_eager_attention(calibrated, precision, bytes_a_score):
    # their softmax in float32, and cast once more for the next product
    sdpa, eager = calibrated("llama", precision), calibrated("llama", precision, attention="eager")
    assert (sdpa.attention, eager.attention) == ("sdpa", "eager")
    assert (sdpa.trained[0].quadratic, eager.trained[0].quadratic) == (0, 4 * bytes_a_score)  # 4 heads


def test_calibrate_empty_finds_that_a_mask_repeats_keys_and_values(calibrated):
    plain, masked = calibrated("llama", "float32"), calibrated("llama", "float32", padding_mask=True)
    # 2 of 4 key heads of width 8 come on top, twice, in float32; and the mask itself, a float for each pair of tokens
    assert masked.trained[0].linear - plain.trained[0].linear == 2 * (4 - 2) * 8 * 4
    assert masked.trained[0].quadratic == 4


def test_calibrate_empty_counts_experts_as_by_hand(calibrated):
    """Mixtral is Llama with experts of f 48 in place of the MLP, of which 2 of 4 meet a token; all in float32, d 32."""
    dense, sparse = (calibrated(family, "float32") for family in ("llama", "mixtral"))
    # a token and an expert it meets: the gathered state, which the trained matrix keeps; gate and up side by side,
    # silu(gate), and its product with up, again for the trained matrix; what comes out, with its weight; three places
    matrices, rest = 4 * 32 + 4 * 48, 4 * 2 * 48 + 4 * 48 + 4 * 32 + 4 + 3 * 8
    router = 4 * 4 + 2 * 8 + 2 * 4 + 4  # a share for each expert, the two largest and where they are, and their sum
    assert sparse.trained[0].linear - dense.trained[0].linear == 2 * (matrices + rest) + router - 16 * 48
    assert sparse.traversed[0].linear - dense.traversed[0].linear == 2 * rest + router - 12 * 48


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


def test_training_bytes_of_calibrated_layers_equals_the_formulas(empty, calibrated):
    shape = measure_empty(empty("llama"))
    for precision in DTYPES:
        setup = TrainingSetup(batch_size=3, sequence_length=20, precision=precision)
        assert cost_table(shape, setup, calibrated=calibrated("llama", precision)) == cost_table(shape, setup)


def test_training_bytes_of_calibrated_layers_is_the_hand_computed_sum(empty):
    shape = measure_empty(empty("olmo2", n_layers=4))
    setup = TrainingSetup(batch_size=3, sequence_length=20, prefix_cache=False)
    tokens = [TokenBytes(100.0 + i, 2.0) for i in range(4)]
    calibrated = CalibratedBytes("float32", False, "sdpa", (16, 64), tuple(tokens), (TokenBytes(10.0, 0.5),) * 4)
    parts = TrainableParts((False, False, True, True), embeddings=True, final_norm=True, head=False)
    assert training_bytes(shape, setup, parts).activations is None
    activation_bytes = training_bytes(shape, setup, parts, calibrated).activations
    assert activation_bytes == 2 * 60 * (10 + 10) + 60 * (102 + 40) + 60 * (103 + 40)


def test_training_bytes_refuses_a_calibration_of_another_precision_or_model(empty):
    shape = measure_empty(empty("llama", n_layers=4))
    calibrated = CalibratedBytes("float32", False, "sdpa", (16, 64), *[(TokenBytes(1.0, 0.0),) * 3] * 2)
    parts = TrainableParts((True,) * 4, False, True, False)
    with pytest.raises(PlanError, match=r"covers 3 layers in float32, but the setup has 4 layers in bf16"):
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
