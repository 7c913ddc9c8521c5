"""`semfreeze cost`: the price of every freeze depth."""

from typing import Annotated

import typer

from semfreeze_core.cli import app
from semfreeze_core.cli.options import (
    BatchOption,
    CacheOption,
    EpochsOption,
    ExamplesOption,
    FractionOption,
    JsonOption,
    LossOption,
    OptimizerOption,
    PrecisionOption,
    RevisionOption,
    SequenceOption,
    StepsOption,
    TrainEmbeddingsOption,
    TrainHeadOption,
    TrainNormOption,
    TrustOption,
)


@app.command()
def cost(
    run: Annotated[str | None, typer.Argument(help="A run: its folder, its name, or 'example'.")] = None,
    model: Annotated[str | None, typer.Option(help="Instead of a run: a model; only its config is read.")] = None,
    batch_size: BatchOption = 8,
    sequence_length: SequenceOption = None,
    supervised_fraction: FractionOption = None,
    train_examples: ExamplesOption = None,
    epochs: EpochsOption = None,
    steps: StepsOption = None,
    optimizer: OptimizerOption = "adamw",
    precision: PrecisionOption = "float32",
    loss: LossOption = "materialised",
    prefix_cache: CacheOption = False,
    train_head: TrainHeadOption = None,
    train_embeddings: TrainEmbeddingsOption = None,
    train_norm: TrainNormOption = None,
    revision: RevisionOption = None,
    trust_remote_code: TrustOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show what every freeze depth costs in FLOP and memory, projected."""
    from semfreeze_core.cli.console import print_json
    from semfreeze_core.cli.documents import cost_document
    from semfreeze_core.cli.setup import setup_from_flags
    from semfreeze_core.cost import cost_table, full_cost
    from semfreeze_core.errors import InputError

    if (run is None) == (model is None):
        raise InputError("Give either a RUN or --model.")
    reading = None
    if run is not None:
        from semfreeze_core.runs.folder import read_run
        from semfreeze_core.runs.store import find_run

        reading = read_run(find_run(run))
        shape = reading.shape
    else:
        from semfreeze_core.sources.causal_lm import measure_empty
        from semfreeze_core.sources.checkpoint import open_checkpoint

        assert model is not None
        shape = measure_empty(
            open_checkpoint(model, revision=revision, trust_remote_code=trust_remote_code, config_only=True)
        )
    setup = setup_from_flags(
        shape,
        reading,
        batch_size=batch_size,
        sequence_length=sequence_length,
        supervised_fraction=supervised_fraction,
        train_examples=train_examples,
        epochs=epochs,
        steps=steps,
        optimizer=optimizer,
        precision=precision,
        loss=loss,
        prefix_cache=prefix_cache,
    )
    rows, full = cost_table(shape, setup, train_embeddings, train_norm, train_head), full_cost(shape, setup)
    if as_json:
        print_json(cost_document(rows, full, setup, shape.n_layers))
        return
    from semfreeze_core.cli.cost_report import print_costs
    from semfreeze_core.cli.report import console

    print_costs(rows, setup, console())
