"""`semfreeze plan`: from a run to a freeze plan."""

from pathlib import Path
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
    MetricOption,
    OptimizerOption,
    PrecisionOption,
    SequenceOption,
    StepsOption,
    TrainEmbeddingsOption,
    TrainHeadOption,
    TrainNormOption,
)


@app.command()
def plan(
    run: Annotated[str | None, typer.Argument(help="A run: its folder, its name, or 'example'.")] = None,
    rule: Annotated[str | None, typer.Option(help="coverage (default), paper or manual.")] = None,
    metric: MetricOption = "semantic",
    depth: Annotated[int | None, typer.Option(help="Your own freeze depth; means --rule manual.")] = None,
    tau: Annotated[float, typer.Option(help="What the coverage rule's score must reach.")] = 0.65,
    out: Annotated[Path | None, typer.Option(help="Write the plan's JSON here.")] = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the plan's JSON Schema and end.")] = False,
    allow_new_tokens: Annotated[
        bool, typer.Option("--allow-new-tokens", help="Freeze although the data uses tokens that look untrained.")
    ] = False,
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
    as_json: JsonOption = False,
) -> None:
    """Decide on a freeze depth and say what it trains, why, and what it costs."""
    from semfreeze_core.cli.console import print_json
    from semfreeze_core.errors import PlanError
    from semfreeze_core.plan.document import FreezePlan

    if schema:
        print_json(FreezePlan.model_json_schema(mode="serialization"))
        return
    if run is None:
        raise PlanError("RUN is missing: give a run's folder or name, or 'example'.")
    chosen = rule or ("manual" if depth is not None else "coverage")
    if chosen not in ("coverage", "paper", "manual"):
        raise PlanError(f"--rule {chosen}: expected coverage, paper or manual.")

    from semfreeze_core.cli.report import console, print_plan
    from semfreeze_core.cli.setup import setup_from_flags
    from semfreeze_core.plan.make import TrainFlags, make_plan
    from semfreeze_core.runs.folder import read_run
    from semfreeze_core.runs.plans import require_plan_place
    from semfreeze_core.runs.store import find_run
    from semfreeze_core.storage import user_path, write_atomically

    if out is not None:
        out = user_path(str(out))
        require_plan_place(out)
    folder = find_run(run)
    reading = read_run(folder)
    setup = setup_from_flags(
        reading.shape,
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
    document = make_plan(
        reading,
        rule=chosen,  # type: ignore[arg-type]  # checked above
        metric=metric,
        depth=depth,
        tau=tau,
        setup=setup,
        train=TrainFlags(train_embeddings, train_norm, train_head),
        allow_new_tokens=allow_new_tokens,
        run_name=folder.absolute().name,
    )
    if out is not None:
        write_atomically(out, document.model_dump_json(indent=1) + "\n")
    if as_json:
        print_json(document.model_dump(mode="json"))
        return
    print_plan(document, console())
    if out is not None:
        typer.echo(f"Plan: {out}")
    else:
        typer.echo("Keep it with --out plan.json.")
