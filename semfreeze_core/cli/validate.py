"""`semfreeze validate`: put a plan to the test by short real finetunes."""

from pathlib import Path
from typing import Annotated

import typer

from semfreeze_core.cli import app
from semfreeze_core.cli.options import DeviceOption, JsonOption, PickleOption, QuietOption, RevisionOption, TrustOption


@app.command()
def validate(
    plan: Annotated[
        str, typer.Argument(metavar="RUN|PLAN", help="A run (its plan is made by --rule), or a plan.json.")
    ],
    train: Annotated[str, typer.Option(help="Training examples: a task file, hf:owner/name, or sample:NAME.")],
    evaluation: Annotated[str, typer.Option("--eval", help="Eval items, likewise; none of them trained on.")],
    arms: Annotated[
        str, typer.Option(help="What is trained, with commas: full, planned, half, lora, planned+lora, depth:K.")
    ] = "full,planned,half,lora,planned+lora",
    steps: Annotated[int, typer.Option(help="Optimiser steps at which all arms are read.")] = 60,
    seeds: Annotated[int, typer.Option(help="Seeds of order and adapters; a verdict needs 3.")] = 1,
    batch_size: Annotated[int, typer.Option(help="Examples a step.")] = 8,
    budget: Annotated[
        str,
        typer.Option(
            help="What the verdict compares at: steps, or compute (cheaper arms go on until they have cost as much as "
            "full finetuning)."
        ),
    ] = "compute",
    lr: Annotated[
        str, typer.Option(help="Learning rates by arm or kind, like full=1e-4,lora=1e-3 (kinds: full, frozen, lora).")
    ] = "",
    lora_rank: Annotated[int, typer.Option(help="Rank of the LoRA arms.")] = 16,
    lora_targets: Annotated[
        str, typer.Option(help="Ends of the names of adapted matrices, with commas.")
    ] = "all-linear",
    rule: Annotated[str, typer.Option(help="Rule that makes a run's plan.")] = "coverage",
    depth: Annotated[int | None, typer.Option(help="Your own freeze depth, in place of the rule's.")] = None,
    train_examples: Annotated[int, typer.Option(help="Training examples drawn, by label where there is one.")] = 480,
    eval_examples: Annotated[int, typer.Option(help="Eval items drawn.")] = 200,
    accuracy_examples: Annotated[int, typer.Option(help="Eval items answered by generation; 0 for none.")] = 100,
    precision: Annotated[str, typer.Option(help="float32, bf16-autocast or bf16.")] = "float32",
    checkpointing: Annotated[str, typer.Option(help="none, non-reentrant or reentrant.")] = "none",
    prefix_cache: Annotated[
        bool, typer.Option("--prefix-cache/--no-prefix-cache", help="Compute frozen layers once.")
    ] = (True),
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
    out: Annotated[
        Path | None, typer.Option(help="Folder to keep it in; the same command again goes on there.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin anew where another validation stands.")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Put a plan to the test: train it and what it competes with for real, on equal data, and judge it."""
    from semfreeze_core.cli.console import print_json, progress_on_stderr
    from semfreeze_core.cli.report import console
    from semfreeze_core.cli.validation_report import print_validation
    from semfreeze_core.cli.validation_setup import (
        default_folder,
        parse_rates,
        plan_and_data,
        require_words,
    )
    from semfreeze_core.finetune.arm_job import ModelSource
    from semfreeze_core.finetune.validation import validate as run_validation
    from semfreeze_core.finetune.validation_request import ValidationRequest
    from semfreeze_core.records.training import LoraSetup
    from semfreeze_core.sources.fields import FieldMapping

    require_words(budget=budget, precision=precision, checkpointing=checkpointing, lora_rank=lora_rank)
    mapping = FieldMapping(prompt_field, completion_field, label_field, template, messages_field, text_field)
    document, mapping, length, add_eos, run_folder = plan_and_data(plan, mapping, max_length, rule, depth)
    request = ValidationRequest(
        plan=document,
        train=train,
        evaluation=evaluation,
        mapping=mapping,
        max_length=length,
        add_eos=add_eos,
        arms=tuple(name.strip() for name in arms.split(",") if name.strip()),
        steps=steps,
        seeds=seeds,
        batch_size=batch_size,
        budget=budget,  # type: ignore[arg-type]  # checked above, like the words below
        rates=parse_rates(lr),
        lora=LoraSetup(lora_rank, tuple(t.strip() for t in lora_targets.split(",") if t.strip())),
        n_train=train_examples,
        n_eval=eval_examples,
        n_accuracy=accuracy_examples,
        precision=precision,  # type: ignore[arg-type]
        checkpointing=checkpointing,  # type: ignore[arg-type]
        prefix_cache=prefix_cache,
        model=ModelSource(
            source=model or document.model.source,
            revision=revision or document.model.revision,
            device=device,
            trust_remote_code=trust_remote_code,
            allow_pickle=allow_pickle,
        ),
    )
    folder = out or default_folder(plan, run_folder, train)
    with progress_on_stderr(quiet) as progress:
        report = run_validation(request, folder, overwrite=overwrite, progress=progress)
    if as_json:
        print_json(report.model_dump(mode="json", exclude={"runs"}))
        return
    print_validation(report, console())
    typer.echo(f"Kept in {folder}")
