"""`semfreeze cost`: the price of every freeze depth."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from semfreeze_core.cli import app
from semfreeze_core.cli.options.common import (
    AlsoProgressiveOption,
    JsonOption,
    RevisionOption,
    TrainEmbeddingsOption,
    TrainHeadOption,
    TrainNormOption,
    TrustOption,
)
from semfreeze_core.cli.options.groups import with_flags
from semfreeze_core.records.options import EstimateOptions

if TYPE_CHECKING:
    from semfreeze_core.records.activation_count import CalibratedBytes
    from semfreeze_core.records.cost import ProgressiveCost
    from semfreeze_core.records.model import ModelShape
    from semfreeze_core.records.training import TrainingSetup


@app.command()
@with_flags(flags=EstimateOptions)
def cost(
    run: Annotated[str | None, typer.Argument(help="A run: its folder, its name, or 'example'.")] = None,
    model: Annotated[
        str | None,
        typer.Option(help="A model, its config.json, or shape:NAME (such as shape:llama-3.1-8b), instead of a run."),
    ] = None,
    *,
    flags: EstimateOptions,
    train_head: TrainHeadOption = None,
    train_embeddings: TrainEmbeddingsOption = None,
    train_norm: TrainNormOption = None,
    progressive: AlsoProgressiveOption = None,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate", help="With --model: count activation memory on the model instead of using a formula."
        ),
    ] = False,
    padding_mask: Annotated[
        bool, typer.Option("--padding-mask", help="With --calibrate: count for examples padded to one length.")
    ] = False,
    tflops: Annotated[
        float | None, typer.Option(help="TFLOP/s that your device reaches in training; estimates the training time.")
    ] = None,
    flop_per_second: Annotated[float | None, typer.Option(help="The same in FLOP/s.")] = None,
    gpu: Annotated[
        str | None,
        typer.Option(
            help="GPU name, such as A100-80GB, or its memory, such as 24GiB. Reports the smallest depth that fits, and "
            "the time; sets --precision."
        ),
    ] = None,
    revision: RevisionOption = None,
    trust_remote_code: TrustOption = False,
    as_json: JsonOption = False,
) -> None:
    """Estimate the compute and memory of every freeze depth."""
    from semfreeze_core.cli.printing.console import print_json
    from semfreeze_core.cli.printing.cost_document import cost_document
    from semfreeze_core.cost import cheapest_fit, compare_costs, find_gpu, parts_at_depth
    from semfreeze_core.cost.boundary_states import estimated_state_bytes
    from semfreeze_core.cost.memory import loading_bytes
    from semfreeze_core.cost.setup import lora_reference, setup_from_options
    from semfreeze_core.cost.speed import training_speed
    from semfreeze_core.errors import InputError
    from semfreeze_core.sources.models.named_shape import folder_of_config, named_shape

    if (run is None) == (model is None):
        raise InputError("Give either a RUN or --model.")
    if calibrate and model is None:
        raise InputError("--calibrate needs --model: a run keeps numbers, not the model they are counted on.")
    if padding_mask and not calibrate:
        raise InputError("--padding-mask needs --calibrate: the formulas hold without one.")
    card = None if gpu is None else find_gpu(gpu)
    reading = None
    if run is not None:
        from semfreeze_core.runs.folder import read_run
        from semfreeze_core.runs.store import find_run

        reading = read_run(find_run(run))
        shape = reading.shape
    else:
        assert model is not None
        shape = named_shape(model, revision=revision, trust_remote_code=trust_remote_code)
    setup = setup_from_options(
        shape, reading, flags, with_reference=True, trains_embeddings=bool(train_embeddings), gpu=card
    )
    measured = None
    if run is not None:
        from semfreeze_core.runs.reports import finetune_rate

        measured = finetune_rate(find_run(run), setup.precision)
    speed = training_speed(flop_per_second, tflops, setup, gpu=card, measured=measured)
    calibrated = None
    if calibrate:
        from semfreeze_core.sources.models.activation_count import calibrate_empty
        from semfreeze_core.sources.models.opening import open_checkpoint

        assert model is not None
        folder = folder_of_config(model)
        checkpoint = open_checkpoint(folder, revision=revision, trust_remote_code=trust_remote_code, config_only=True)
        calibrated = calibrate_empty(
            checkpoint, setup.precision, padding_mask=padding_mask, sequence_length=setup.sequence_length
        )
    train_flags = (train_embeddings, train_norm, train_head)
    table = compare_costs(shape, setup, *train_flags, lora=lora_reference(flags), calibrated=calibrated)
    saving = None
    if card is not None:
        whole = replace(setup, prefix_cache=False, lora=None, frozen_bits=None)
        saving = cheapest_fit(shape, whole, parts_at_depth(shape, 0), card, calibrated)
    if progressive is not None:
        table = replace(table, progressive=_progressive_cost(progressive, shape, setup, train_flags, calibrated))
    states_bytes = estimated_state_bytes(shape, setup)
    loading = None
    if setup.prefix_cache and setup.prefix_off_device and setup.frozen_bits is None:
        parts = (parts_at_depth(shape, k, *train_flags, lora=setup.lora is not None) for k in range(shape.n_layers + 1))
        loading = [loading_bytes(shape, setup, at_depth) for at_depth in parts]
    if as_json:
        document = cost_document(table, setup, shape.n_layers, speed=speed, gpu=card, calibrated=calibrated)
        document["boundary_states_bytes"] = states_bytes
        document["loading_bytes"] = loading
        if card is not None:
            document["gpu"]["full_finetuning_fits_with"] = None if saving is None else dict(saving.options)
        print_json(document)
        return
    from semfreeze_core.cli.printing.cost import print_costs

    print_costs(table, setup, speed, card, saving, states_bytes, loading)


def _progressive_cost(
    text: str,
    shape: "ModelShape",
    setup: "TrainingSetup",
    train_flags: tuple[bool | None, ...],
    calibrated: "CalibratedBytes | None",
) -> "ProgressiveCost":
    """The cost of a finetune that freezes deeper at a step.

    Raises:
        PlanError: it contradicts itself, the model or other flags.
    """
    from semfreeze_core.cost import progressive_cost, read_switch, refused_with_switch
    from semfreeze_core.errors import PlanError
    from semfreeze_core.records.usual_depths import two_thirds_depth

    try:
        switch = read_switch(text, shape, two_thirds_depth(shape.n_layers), setup.steps)
        if problems := refused_with_switch(setup, train_flags):
            raise PlanError("; ".join(problems))
    except PlanError as error:
        raise PlanError(f"--progressive {text}: {error}.") from error
    return progressive_cost(shape, setup, switch, calibrated)
