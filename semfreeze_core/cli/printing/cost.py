"""The cost of every freeze depth, printed for the terminal."""

from collections.abc import Sequence

from semfreeze_core.cli.printing.tables import console, print_table
from semfreeze_core.cost.hardware import Gpu, least_fitting_depth
from semfreeze_core.cost.savings import Saving
from semfreeze_core.cost.speed import Speed
from semfreeze_core.records.cost import CostTable
from semfreeze_core.records.training import TrainingSetup
from semfreeze_core.records.usual_depths import two_thirds_depth
from semfreeze_core.wording.costs import (
    cost_notes,
    depth_cost_table,
    fit_sentence,
    gpu_fit_sentence,
    loading_sentence,
    setup_line,
    states_sentence,
    time_note,
)


def print_costs(
    table: CostTable,
    setup: TrainingSetup,
    speed: Speed,
    gpu: Gpu | None,
    saving: Saving | None = None,
    states_bytes: int | None = None,
    loading: Sequence[int] | None = None,
) -> None:
    """One line per freeze depth: compute of the first step and of all, memory by component; then what they mean.

    Args:
        table: of the costs.
        setup: of the finetune.
        speed: at which it trains.
        gpu: that it runs on, or None.
        saving: changes of the setup with which full finetuning fits the GPU, or None.
        states_bytes: of a prefix cache, or None without one.
        loading: bytes that the device needs before the steps, by freeze depth; None where it needs the whole model.
    """
    out = console()
    out.print(f"Estimated cost by freeze depth (memory {table.bytes_status}): {setup_line(setup)}")
    print_table(depth_cost_table(table, speed.rates), out)
    for note in cost_notes(table):
        out.print(note)
    if states_bytes is not None:
        out.print(states_sentence(setup, states_bytes))
    least = None
    if gpu is not None and table.full.bytes.total is not None:
        least = least_fitting_depth(table.depths, gpu)
    if loading is not None:
        depth = least or two_thirds_depth(len(loading) - 1)
        out.print(loading_sentence(loading[0], depth, loading[depth]))
    out.print(time_note(speed.rates, speed.source, speed.reason))
    if gpu is not None:
        out.print(gpu_fit_sentence(gpu.name, gpu.memory_bytes, table.depths, least, adapters=setup.lora is not None))
        if table.full.bytes.total is not None and table.full.bytes.total > gpu.memory_bytes:
            out.print(fit_sentence(saving, "Full finetuning"))
