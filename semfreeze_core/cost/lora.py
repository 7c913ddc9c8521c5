"""Low-rank adapters: which matrices get one, and what they add to parameters and FLOPs.

Adapted is W + B A, with A (rank, inputs) and B (outputs, rank); both are trained, W is not. Only matrices inside
trained layers get adapters: what stands in front of layer 0 or behind the last layer does not.

Source: Hu et al. 2021, section 4.1 (https://arxiv.org/abs/2106.09685).
"""

from semfreeze_core.errors import PlanError
from semfreeze_core.records.model import LayerShape, Matrix, ModelShape
from semfreeze_core.records.training import ALL_LINEAR, LoraSetup


def adapted_matrices(layer: LayerShape, lora: LoraSetup) -> tuple[Matrix, ...]:
    """The layer's matrices that get an adapter: those a target names, of the ones that can have one."""
    return tuple(m for m in adaptable_matrices(layer) if any(fits(m, target) for target in lora.targets))


def adaptable_matrices(layer: LayerShape) -> tuple[Matrix, ...]:
    """The layer's matrices that can have an adapter, as in PEFT, which wraps linear modules alone.

    A stack of experts is none, and neither is the router that chooses among them (as many outputs as experts). PEFT can
    be made to adapt experts too; that is not estimated.
    """
    n_experts = {matrix.copies for matrix in layer.matrices if matrix.copies > 1}
    return tuple(m for m in layer.matrices if m.copies == 1 and m.outputs not in n_experts)


def fits(matrix: Matrix, target: str) -> bool:
    """Whether a target names a matrix: "all-linear", its whole name, or the end of it after a dot."""
    return target == ALL_LINEAR or f".{matrix.name}".endswith(f".{target}")


def adapter_parameters(layer: LayerShape, lora: LoraSetup) -> int:
    """Trained parameters of one layer's adapters: r (inputs + outputs) per matrix."""
    return sum(lora.rank * (matrix.inputs + matrix.outputs) for matrix in adapted_matrices(layer, lora))


def check_targets(shape: ModelShape, lora: LoraSetup) -> None:
    """Refuse targets that name no matrix of the model.

    Raises:
        PlanError: one or more match nothing; the message names them and what is available.
    """
    plain = list(dict.fromkeys(m.name for layer in shape.layer_shapes for m in adaptable_matrices(layer)))
    missing = [t for t in lora.targets if not any(fits(Matrix(name, 1, 1), t) for name in plain)]
    if missing:
        raise PlanError(
            f"LoRA targets {', '.join(missing)} match no matrix of the layers. Available: {', '.join(plain) or 'none'}"
        )
