"""What a plan trains, by the names in its own regular expression."""

from dataclasses import dataclass

from semfreeze_core.errors import PlanError
from semfreeze_core.plan.consistency import require_consistent
from semfreeze_core.plan.document import FreezePlan, require_recommendation
from semfreeze_core.plan.parameter_names import read_regex
from semfreeze_core.records.model import ParameterNames


@dataclass(frozen=True)
class NamedParts:
    """The trained parameters of a plan, in the model's own names.

    Attributes:
        n_layers: L.
        layers: numbers of the trained layers, ascending.
        layer_prefix: what stands before a layer's number ("model.layers."); empty when no layer is trained.
        others: full names of the trained parameters outside the layers.
        everything: whether nothing at all is frozen.
    """

    n_layers: int
    layers: tuple[int, ...]
    layer_prefix: str
    others: tuple[str, ...]
    everything: bool

    @property
    def is_suffix(self) -> bool:
        """Whether the trained layers are the last ones, without a gap."""
        return self.layers == tuple(range(self.n_layers - len(self.layers), self.n_layers))

    @property
    def layer_list(self) -> str:
        """Name of the list the layers are in ("layers", "h")."""
        return self.layer_prefix.rstrip(".").rpartition(".")[2]

    @property
    def summary(self) -> str:
        """The trained part in words."""
        runs: list[list[int]] = []
        for i in self.layers:
            if runs and runs[-1][-1] == i - 1:
                runs[-1].append(i)
            else:
                runs.append([i])
        ranges = ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
        layers = [f"layers {ranges} of {self.n_layers} (0-based)"] if runs else []
        return " and ".join([*layers, *([", ".join(self.others)] if self.others else [])])


def named_parts(plan: FreezePlan) -> NamedParts:
    """Read the names back from the plan's regular expression, and verify that they are all of it.

    Raises:
        PlanError: the plan abstains, its parts contradict its expression, or adapters are not all it trains.
    """
    require_consistent(plan)
    parts = require_recommendation(plan)
    lora = plan.cost.setup.lora is not None
    layers = tuple(i for i, trained in enumerate(parts.layers) if trained)
    if lora and (not layers or parts.embeddings or parts.final_norm or parts.head):
        raise PlanError(
            "An adapter file contains only the adapters of layers, so this LoRA plan cannot be exported. Make it at a "
            "lower depth and without --train-norm, --train-head and --train-embeddings."
        )
    names = read_regex(str(plan.trainable_regex), lora=lora)
    assert names is not None  # require_consistent has read it
    everything = all(parts.layers) and parts.embeddings and parts.final_norm and parts.head and not lora
    return NamedParts(plan.n_layers, layers, names.layer_prefix, names.others, everything)


def frozen_modules(names: ParameterNames, parts: NamedParts) -> tuple[str, ...]:
    """Paths of modules that together hold every frozen parameter, and no trained one.

    Args:
        names: where the model's parts are.
        parts: what of it is trained.

    Raises:
        PlanError: a frozen parameter shares its module with a trained one.
    """
    outside = (*names.embeddings, *names.final_norm, *names.head)
    frozen = [f"{names.layer_prefix}{i}" for i in range(parts.n_layers) if i not in parts.layers]
    trained = [*(f"{names.layer_prefix}{i}." for i in parts.layers), *parts.others]
    for name in outside:
        module = name.rpartition(".")[0]
        if name in parts.others or module in frozen:
            continue
        shared = next((other for other in trained if other.startswith(f"{module}." if module else "")), None)
        if shared is not None:
            raise PlanError(
                f"{name} is frozen and shares the module {module or 'of the whole model'} with {shared.rstrip('.')}, "
                "which is trained: freezing whole modules cannot tell them apart. Train both, or neither."
            )
        frozen.append(module)
    return tuple(frozen)
