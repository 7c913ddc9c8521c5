"""The JSON document that `semfreeze cost` prints. Keys are a promise to scripts."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from semfreeze_core.cost.document import UNKNOWN_ACTIVATIONS, CostEntry
from semfreeze_core.cost.hardware import Gpu, least_fitting_depth
from semfreeze_core.cost.speed import Speed
from semfreeze_core.records.activation_count import CalibratedBytes
from semfreeze_core.records.cost import CostTable, DepthCost, ProgressiveCost
from semfreeze_core.records.training import TrainingSetup


def cost_document(
    table: CostTable,
    setup: TrainingSetup,
    n_layers: int,
    *,
    speed: Speed,
    gpu: Gpu | None,
    calibrated: CalibratedBytes | None,
) -> dict[str, Any]:
    """Everything `cost` says: the setup, each depth's price, what it is compared with; null is unknown or not asked."""

    def entry(cost: DepthCost) -> dict[str, Any]:
        priced = CostEntry.of(cost, speed.flop_per_second).model_dump()
        if speed.flop_per_second_range is not None:
            priced["seconds_range"] = [cost.flop / rate for rate in sorted(speed.flop_per_second_range, reverse=True)]
        return priced

    stock = table.transformers_5
    return {
        "n_layers": n_layers,
        "setup": asdict(setup),
        "status": table.bytes_status,
        "flop_status": table.flop_status,
        "reason": UNKNOWN_ACTIVATIONS if table.full.bytes.activations is None else None,
        "speed": asdict(speed),
        "calibration": None if calibrated is None else _calibration(calibrated),
        "gpu": None if gpu is None else asdict(gpu) | {"least_fitting_depth": least_fitting_depth(table.depths, gpu)},
        "depths": [entry(row) for row in table.depths],
        "full": entry(table.full),
        "lora": None if table.lora is None else entry(table.lora),
        "lora_in_bf16": table.lora_in_bf16,
        "progressive": None if table.progressive is None else _progressive(table.progressive, entry),
        "alternative": None
        if table.alternative is None
        else {
            "trainer": table.alternative.trainer,
            "depths": [entry(row) for row in table.alternative.depths],
            "full": entry(table.alternative.full),
        },
        "transformers_5": None if stock is None else [entry(row) for row in stock],
    }


def _progressive(both: ProgressiveCost, entry: Callable[[DepthCost], dict[str, Any]]) -> dict[str, Any]:
    phases = zip(both.steps, both.phases, strict=True)
    return {
        "switch": asdict(both.switch),
        "cost": entry(both.whole),
        "phases": [{"steps": steps, "cost": entry(phase)} for steps, phase in phases],
        "looks": None if both.looks is None else asdict(both.looks),
    }


def _calibration(calibrated: CalibratedBytes) -> dict[str, Any]:
    """How the bytes were counted; the counts themselves are in the prices."""
    return {
        "precision": calibrated.precision,
        "padding_mask": calibrated.padding_mask,
        "attention": calibrated.attention,
        "sequence_lengths": calibrated.sequence_lengths,
    }
