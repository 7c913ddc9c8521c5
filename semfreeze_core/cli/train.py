"""`semfreeze train`: put a plan to work."""

from pathlib import Path
from typing import Annotated

import typer

from semfreeze_core.cli import app
from semfreeze_core.cli.options import DeviceOption, JsonOption, PickleOption, QuietOption, RevisionOption, TrustOption


@app.command()
def train(
    plan: Annotated[str, typer.Argument(metavar="RUN|PLAN", help="A plan.json, or a run, whose default plan it is.")],
    data: Annotated[str, typer.Option(help="Training examples: a task file, hf:owner/name, or sample:NAME.")],
    out: Annotated[Path, typer.Option(help="Folder for the model; the same command again goes on there.")],
    evaluation: Annotated[str | None, typer.Option("--eval", help="Eval items, read before and after.")] = None,
    epochs: Annotated[int, typer.Option(help="Passes over the data.")] = 3,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps, instead of --epochs.")] = None,
    batch_size: Annotated[int, typer.Option(help="Examples a step.")] = 8,
    micro_batch_size: Annotated[int | None, typer.Option(help="Examples at a time (default: all of a step).")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate (default: by what is trained).")] = None,
    precision: Annotated[str, typer.Option(help="float32, bf16-autocast or bf16.")] = "float32",
    checkpointing: Annotated[str, typer.Option(help="none, non-reentrant or reentrant.")] = "none",
    prefix_cache: Annotated[
        bool, typer.Option("--prefix-cache/--no-prefix-cache", help="Compute frozen layers once.")
    ] = (True),
    save_steps: Annotated[int | None, typer.Option(help="Steps between checkpoints (default: ten in all).")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the order of examples and of adapters.")] = 0,
    accuracy_examples: Annotated[int, typer.Option(help="Eval items answered by generation; 0 for none.")] = 100,
    prompt_field: Annotated[str | None, typer.Option(help="Field with the prompt (default: the run's).")] = None,
    completion_field: Annotated[str | None, typer.Option(help="Field with the completion.")] = None,
    label_field: Annotated[str | None, typer.Option(help="Field with the class name.")] = None,
    template: Annotated[str | None, typer.Option(help="Prompt made of fields.")] = None,
    messages_field: Annotated[str | None, typer.Option(help="Field with chat messages.")] = None,
    text_field: Annotated[str | None, typer.Option(help="Field with plain text.")] = None,
    max_length: Annotated[int | None, typer.Option(help="Longest example in tokens (default: the run's).")] = None,
    model: Annotated[str | None, typer.Option(help="Where the model is now (default: where it was read from).")] = None,
    revision: RevisionOption = None,
    device: DeviceOption = "auto",
    trust_remote_code: TrustOption = False,
    allow_pickle: PickleOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Finetune as a plan says, frozen layers computed once, and write a model that loads anywhere."""
    from semfreeze_core.cli.console import print_json, progress_on_stderr
    from semfreeze_core.cli.validation_setup import plan_and_data, require_words
    from semfreeze_core.finetune.arm_job import ModelSource
    from semfreeze_core.finetune.train import TrainRequest, train_plan
    from semfreeze_core.sources.fields import FieldMapping
    from semfreeze_core.storage import user_path

    require_words(precision=precision, checkpointing=checkpointing)
    mapping = FieldMapping(prompt_field, completion_field, label_field, template, messages_field, text_field)
    document, mapping, length, add_eos, _ = plan_and_data(plan, mapping, max_length, "coverage", None)
    request = TrainRequest(
        plan=document,
        data=data,
        evaluation=evaluation,
        mapping=mapping,
        max_length=length,
        add_eos=add_eos,
        epochs=epochs,
        steps=steps,
        batch_size=batch_size,
        micro_batch_size=micro_batch_size,
        learning_rate=lr,
        precision=precision,  # type: ignore[arg-type]  # checked above, like the word below
        checkpointing=checkpointing,  # type: ignore[arg-type]
        prefix_cache=prefix_cache,
        save_steps=save_steps,
        seed=seed,
        n_accuracy=accuracy_examples,
        model=ModelSource(
            source=model or document.model.source,
            revision=revision or document.model.revision,
            device=device,
            trust_remote_code=trust_remote_code,
            allow_pickle=allow_pickle,
        ),
    )
    with progress_on_stderr(quiet) as progress:
        trained = train_plan(request, user_path(str(out)), progress)
    before, after = trained.before, trained.after
    if as_json:
        readings = {
            name: None if point is None else point.model_dump(mode="json", exclude={"item_losses"})
            for name, point in (("before", before), ("after", after))
        }
        print_json({"folder": str(trained.folder), "steps": trained.steps, **readings, "notes": list(trained.notes)})
        return
    for note in trained.notes:
        typer.echo(f"note: {note}")
    typer.echo(f"{trained.steps} steps; train loss {trained.losses[0]:.3f} -> {trained.losses[-1]:.3f} nats a token")
    if after is not None and after.loss is not None:
        was = "" if before is None or before.loss is None else f"{before.loss:.3f} -> "
        typer.echo(f"eval loss {was}{after.loss:.3f} nats a token")
        if after.accuracy is not None:
            was = "" if before is None or before.accuracy is None else f"{100 * before.accuracy:.0f} -> "
            typer.echo(f"accuracy {was}{100 * after.accuracy:.0f} %")
    typer.echo(f"Model: {trained.folder}")
