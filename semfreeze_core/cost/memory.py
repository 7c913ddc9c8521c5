"""Device memory of a training step, by part; what the layers keep is in activations.py, the loss in loss.py."""

from semfreeze_core.cost.activations import activation_bytes
from semfreeze_core.cost.flops import cached_layers, layers_with_gradient, tied_parts
from semfreeze_core.cost.lora import adapted_matrices, adapter_parameters
from semfreeze_core.cost.loss import logits_bytes
from semfreeze_core.errors import PlanError
from semfreeze_core.records.activation_count import CalibratedBytes
from semfreeze_core.records.cost import TrainingBytes
from semfreeze_core.records.model import LayerShape, ModelShape
from semfreeze_core.records.training import Optimizer, Precision, TrainableParts, TrainingSetup

# Weights, and their gradients with them.
BYTES_PER_NUMBER: dict[Precision, int] = {"float32": 4, "bf16-autocast": 4, "bf16": 2}
ADAPTER_BYTES = 4  # PEFT keeps adapters in float32 whatever the model's type (autocast_adapter_dtype)
AUTOCAST_COPY_BYTES = 2

# Numbers kept for each trained parameter: running means of the gradient and of its square. They take the parameter's
# own type, or one byte each in 8 bit (8 bytes a block of 256 numbers, and the 32-bit states that bitsandbytes keeps
# for tensors below 4096 elements, are left out).
OPTIMIZER_STATES: dict[Optimizer, int] = {"adamw": 2, "adamw8bit": 2, "sgd": 0}

# Of a loaded model's bytes, a tenth on top for one forward pass without its activations.
_LOADED = 1.1

# Sixteenths of a byte a quantized weight takes: 8 bit 1 byte (LLM.int8's one scale a row is left out); 4 bit half a
# byte and a float32 absmax for each block of 64 (NF4 without double quantization; with it about 0.52 in place of
# 0.5625). Source: Dettmers et al. 2023, section 3 (https://arxiv.org/abs/2305.14314).
QUANTIZED_SIXTEENTHS = {8: 16, 4: 9}


def training_bytes(
    shape: ModelShape, setup: TrainingSetup, parts: TrainableParts, calibrated: CalibratedBytes | None = None
) -> TrainingBytes:
    """Device memory of a training step in bytes, by part.

    The sum of tensor sizes: the parts do not all peak together, and allocator and runtime overhead are not included.
    With a prefix cache it is the memory of the steps, not of the pass that fills the cache.

    Args:
        shape: the counted model.
        setup: batch and its passes, sequence length, precision, optimizer, loss, adapters, checkpointing and prefix
            cache.
        parts: what is trained; with adapters, the layers that have them.
        calibrated: what this model's layers were counted to keep, in place of the formulas.

    Raises:
        PlanError: parts do not fit the model, trained embeddings contradict a prefix cache, or the calibration is of
            another precision or another number of layers.
    """
    parts = tied_parts(shape, parts)
    if calibrated is not None and (calibrated.precision, len(calibrated.trained)) != (setup.precision, shape.n_layers):
        raise PlanError(
            f"the calibration covers {len(calibrated.trained)} layers in {calibrated.precision}, but the setup has "
            f"{shape.n_layers} layers in {setup.precision}: calibrate again"
        )
    return TrainingBytes(
        weights=weight_bytes(shape, setup, parts),
        gradients=gradient_bytes(shape, setup, parts),
        optimizer=optimizer_bytes(shape, setup, parts),
        activations=activation_bytes(shape, setup, parts, calibrated),
        logits=logits_bytes(shape, setup),
    )


def weight_bytes(shape: ModelShape, setup: TrainingSetup, parts: TrainableParts) -> int:
    """Bytes of all weights on the device during the steps.

    b a number, 4 in float32 and under autocast, 2 in bf16; frozen layers' matrices as quantized, or under autocast in
    bfloat16 where that holds their values; adapters in float32; and under autocast a bfloat16 copy of each float32
    matrix in the graph.
    """
    quantized = quantized_parameters(shape, setup, parts)
    held = sum(parameters_in_bfloat16(shape, setup, parts)[layers_off_device(setup, parts) :])
    plain = device_parameters(shape, setup, parts) - quantized - held
    bits = QUANTIZED_SIXTEENTHS[setup.frozen_bits] if setup.frozen_bits else 0
    return (
        BYTES_PER_NUMBER[setup.precision] * plain
        + BYTES_PER_NUMBER["bf16"] * held
        + -(-quantized * bits // 16)
        + ADAPTER_BYTES * trained_adapter_parameters(shape, setup, parts)
        + autocast_copy_bytes(shape, setup, parts)
    )


def loaded_bytes(parameters: int, bytes_per_number: int) -> int:
    """Bytes to hold so many weights and run them forward without keeping activations."""
    return int(parameters * bytes_per_number * _LOADED)


def loading_bytes(shape: ModelShape, setup: TrainingSetup, parts: TrainableParts) -> int:
    """Bytes that a device needs while `semfreeze train` loads a model and computes its boundary states.

    Where a prefix cache stands in for frozen layers, these may be kept elsewhere, and the embedding unless it is the
    head: then one of them is there at a time. Else the whole model is.
    """
    parts = tied_parts(shape, parts)
    needed, k = device_parameters(shape, setup, parts), layers_off_device(setup, parts)
    if k > 0:
        needed += max(
            [layer.parameters for layer in shape.layers[:k]] + [shape.embedding_parameters] * (not shape.tied)
        )
    return loaded_bytes(needed, BYTES_PER_NUMBER[setup.precision])


def gradient_bytes(shape: ModelShape, setup: TrainingSetup, parts: TrainableParts) -> int:
    """Bytes of gradients: one number of its own type for each trained parameter.

    In a step of several passes each adds its gradients to those before it, one tensor at a time, so that the largest
    tensor's new gradient is there beside the sum.
    """
    added = _largest_gradient_bytes(shape, setup, parts) if setup.passes_per_step > 1 else 0
    return _trained_bytes(shape, setup, parts) + added


def _trained_bytes(shape: ModelShape, setup: TrainingSetup, parts: TrainableParts) -> int:
    """Bytes of one number for each trained parameter, of the parameter's own type."""
    base_bytes = BYTES_PER_NUMBER[setup.precision] * trained_parameters(shape, setup, parts)
    return base_bytes + ADAPTER_BYTES * trained_adapter_parameters(shape, setup, parts)


def _largest_gradient_bytes(shape: ModelShape, setup: TrainingSetup, parts: TrainableParts) -> int:
    """Bytes of the gradient of the largest tensor that is trained: a matrix, or one of its adapter's two."""
    layers = [layer for layer, trained in zip(shape.layers, parts.layers, strict=True) if trained]
    around = [
        shape.vocab_rows * shape.d_model * parts.embeddings,
        shape.head_linear_weights * parts.head,
        shape.final_norm_parameters * parts.final_norm,
    ]
    if (lora := setup.lora) is None:
        around += [matrix.parameters for layer in layers for matrix in layer.matrices]
        adapters = [0]
    else:
        matrices = [matrix for layer in layers for matrix in adapted_matrices(layer, lora)]
        adapters = [0, *(lora.rank * max(matrix.inputs, matrix.outputs) for matrix in matrices)]
    return max(BYTES_PER_NUMBER[setup.precision] * max(around), ADAPTER_BYTES * max(adapters))


def optimizer_bytes(shape: ModelShape, setup: TrainingSetup, parts: TrainableParts) -> int:
    """Bytes of optimizer states: as many as the parameters for each state, or one byte a number in 8 bit."""
    states = OPTIMIZER_STATES[setup.optimizer]
    if setup.optimizer == "adamw8bit":
        return states * (trained_parameters(shape, setup, parts) + trained_adapter_parameters(shape, setup, parts))
    return states * _trained_bytes(shape, setup, parts)


def trained_parameters(shape: ModelShape, setup: TrainingSetup, parts: TrainableParts) -> int:
    """Number of the model's own parameters that are trained; with LoRA none in the layers, tied heads once."""
    layers = sum(layer.parameters for layer, trained in zip(shape.layers, parts.layers, strict=True) if trained)
    return (
        layers * (setup.lora is None)
        + shape.embedding_parameters * parts.embeddings
        + shape.final_norm_parameters * parts.final_norm
        + shape.head_parameters * parts.head
    )


def trained_adapter_parameters(shape: ModelShape, setup: TrainingSetup, parts: TrainableParts) -> int:
    """Number of the adapters' parameters, 0 without LoRA."""
    if setup.lora is None:
        return 0
    lora = setup.lora
    return sum(adapter_parameters(layer, lora) for layer, t in zip(shape.layers, parts.layers, strict=True) if t)


def device_parameters(shape: ModelShape, setup: TrainingSetup, parts: TrainableParts) -> int:
    """Number of the model's own parameters that must be on the device during the steps.

    A prefix cache replaces the layers below the freeze depth and the embedding in front of them, which may leave the
    device; a tied embedding stays, because it is the head.
    """
    k = layers_off_device(setup, parts)
    unused = sum(layer.parameters for layer in shape.layers[:k])
    if k > 0 and not shape.tied:
        unused += shape.embedding_parameters
    return shape.total_parameters - unused


def layers_off_device(setup: TrainingSetup, parts: TrainableParts) -> int:
    """Number of layers that a prefix cache stands in for and that leave the device."""
    return cached_layers(parts) if setup.prefix_cache and setup.prefix_off_device else 0


def quantized_parameters(shape: ModelShape, setup: TrainingSetup, parts: TrainableParts) -> int:
    """Number of quantized weights on the device: matrices of frozen layers, and below adapters of the trained ones.

    Norms, biases, embeddings and the head keep their precision.
    """
    if setup.frozen_bits is None:
        return 0
    first = layers_off_device(setup, parts)
    frozen = [not trained or setup.lora is not None for trained in parts.layers]
    return sum(matrix_parameters(layer) for layer, f in zip(shape.layers[first:], frozen[first:], strict=True) if f)


def holds_frozen_in_bfloat16(setup: TrainingSetup) -> bool:
    """Whether `semfreeze train` holds frozen matrices in bfloat16 where that holds their values.

    Not where it trains as a stock trainer does, which keeps them in float32.
    """
    stock = setup.loss in ("materialised", "fused") and not setup.prefix_cache
    return setup.precision == "bf16-autocast" and setup.frozen_bits is None and not stock


def parameters_in_bfloat16(shape: ModelShape, setup: TrainingSetup, parts: TrainableParts) -> tuple[int, ...]:
    """Of each layer, the number of weights that are held in bfloat16 while others are in float32.

    Plain matrices of frozen layers, and below adapters of the trained ones too; stacks of experts keep float32, as
    autocast leaves them alone.
    """
    if not (shape.stored_in_bfloat16 and holds_frozen_in_bfloat16(setup)):
        return (0,) * shape.n_layers
    return tuple(
        _cast_parameters(layer) * (not trained or setup.lora is not None)
        for layer, trained in zip(shape.layers, parts.layers, strict=True)
    )


def _cast_parameters(layer: LayerShape) -> int:
    """Elements of the matrices that autocast casts."""
    return sum(matrix.parameters for matrix in layer.matrices if matrix.copies == 1)


def autocast_copy_bytes(shape: ModelShape, setup: TrainingSetup, parts: TrainableParts) -> int:
    """Bytes of the bfloat16 copies that autocast casts of each float32 matrix and that the graph then holds.

    Those of layers that carry a gradient (quantized matrices are not cast, nor those in bfloat16 already, nor stacks of
    experts, whose grouped products autocast leaves alone), of adapters, of the head and what stands before and behind
    the layers.
    Checkpointing does not lower the peak: the cast weights stay until autocast ends.
    """
    if setup.precision != "bf16-autocast":
        return 0
    carries = layers_with_gradient(setup, parts)
    weights = trained_adapter_parameters(shape, setup, parts) + shape.final_linear_weights + shape.head_linear_weights
    weights += shape.embedding_linear_weights * any(carries[:1])
    held = parameters_in_bfloat16(shape, setup, parts)
    for layer, trained, carried, in_bfloat16 in zip(shape.layers, parts.layers, carries, held, strict=True):
        quantized = setup.frozen_bits is not None and (not trained or setup.lora is not None)
        weights += _cast_parameters(layer) * (carried and not quantized and not in_bfloat16)
    return AUTOCAST_COPY_BYTES * weights


def matrix_parameters(layer: LayerShape) -> int:
    """Elements of a layer's matrices, all experts' included."""
    return sum(matrix.parameters for matrix in layer.matrices)
