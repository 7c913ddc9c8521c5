"""`semfreeze export`: a plan as configuration or script of another trainer."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from semfreeze_core.cli import app
from semfreeze_core.cli.options.common import JsonOption
from semfreeze_core.cli.options.groups import with_flags
from semfreeze_core.records.fields import FieldMapping
from semfreeze_core.wording.escaping import terminal_text

if TYPE_CHECKING:
    from semfreeze_core.plan.document import FreezePlan
    from semfreeze_core.records.rates import KnownRate


@app.command()
@with_flags(fields=FieldMapping)
def export(
    plan: Annotated[
        str,
        typer.Argument(
            metavar="RUN|PLAN",
            help="A plan.json, a model folder or Hub ID that contains one, or a run (uses its default plan).",
        ),
    ],
    to: Annotated[
        str,
        typer.Option(
            help="hf-trainer, trl, peft, axolotl, llama-factory, ms-swift, nemo-automodel, oumi, unsloth or mlx-lm."
        ),
    ],
    data: Annotated[
        str | None, typer.Option(help="Training file, or sample:NAME (default: the data of the plan's run, if known).")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Folder or Hub ID that the trainer loads (default: the plan's model).")
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(
            help="Learning rate (default: that of the trained model or of the run's validation, else an untuned one)."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Output file (default: print it).")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
    *,
    fields: FieldMapping,
    as_json: JsonOption = False,
) -> None:
    """Write a plan as a complete configuration or script for another trainer.

    A script that reads the plan of a run gets it in a file of its own, next to --out.
    """
    from semfreeze_core.cli.options.plan_and_data import plan_and_data
    from semfreeze_core.cli.printing.console import print_json
    from semfreeze_core.errors import PlanError
    from semfreeze_core.export import export_plan
    from semfreeze_core.export.targets import reads_plan
    from semfreeze_core.plan.document import plan_text
    from semfreeze_core.runs.plans import require_plan_path
    from semfreeze_core.sources.models.embedded import convert_embedded
    from semfreeze_core.storage import user_path, write_atomically

    made = plan_and_data(plan, FieldMapping())
    document = made.plan
    if data is None:
        if fields != FieldMapping():
            raise PlanError("Fields belong to a data file: give it with --data.")
        data, fields = _data_of_run(document, made.run_folder)
    if model is None and document.model.source == "embedded" and document.trainable is not None:
        model = str(convert_embedded())
    file = None if out is None else user_path(str(out))
    plan_file = user_path(plan)
    needs_plan = made.run_folder is not None and reads_plan(to)
    if needs_plan:
        plan_file = (file or Path("finetune.py")).with_suffix(".plan.json")
    exported = export_plan(
        document,
        to,
        plan_path=str(plan_file),
        model=model,
        data=data,
        mapping=fields,
        rate=_known_rate(lr, user_path(plan), document, made.run_folder),
        chat_renderer=_chat_renderer,
    )
    if needs_plan and file is None:
        raise PlanError(
            f"The script for {to} reads the plan's file, and the plan of a run has none yet. Give --out, which writes "
            "it next to the script."
        )
    if file is not None:
        for path in (file, plan_file) if needs_plan else (file,):
            if path.exists() and not overwrite:
                raise PlanError(f"{path} already exists. Choose another --out, or replace it with --overwrite.")
        if needs_plan:
            require_plan_path(plan_file)
            write_atomically(plan_file, plan_text(document, plan_file.parent))
        write_atomically(file, exported.text)
    if as_json:
        print_json(
            {
                "target": exported.target,
                "file": None if file is None else str(file),
                "plan": str(plan_file) if needs_plan else None,
                "filename": exported.filename,
                "notes": list(exported.notes),
                "text": exported.text,
            }
        )
    elif file is None:
        typer.echo(exported.text, nl=False)
    else:
        for note in exported.notes:
            typer.echo(terminal_text(f"note: {note}"))
        if needs_plan:
            typer.echo(terminal_text(f"Plan: {plan_file}"))
        typer.echo(terminal_text(f"Export: {file}"))


def _known_rate(given: float | None, source: Path, plan: "FreezePlan", run_folder: Path | None) -> "KnownRate | None":
    """The rate that is given, else that of the trained model's folder or of the run's validation, or None."""
    from semfreeze_core.plan.known_rate import validated_rate
    from semfreeze_core.records.rates import KnownRate
    from semfreeze_core.runs.plans import trained_rate
    from semfreeze_core.runs.reports import readable_validations

    if given is not None:
        return KnownRate(given, "as given")
    return trained_rate(source) if run_folder is None else validated_rate(readable_validations(run_folder)[0], plan)


def _chat_renderer(model: str, revision: str | None) -> Any:
    from semfreeze_core.preview import chat_renderer  # here: it loads torch, which exports without chats do not need

    return chat_renderer(model, revision)


def _data_of_run(plan: "FreezePlan", run_folder: Path | None) -> tuple[str | None, FieldMapping]:
    """The file that the plan's run analyzed, and its fields, if both run and file are still here.

    Args:
        plan: says which run and which data.
        run_folder: of the run, where it is known; else the run is looked for by name.
    """
    from semfreeze_core.errors import RunError
    from semfreeze_core.runs.folder import read_manifest
    from semfreeze_core.runs.store import example_run, find_run
    from semfreeze_core.sources.data.samples import resolve_data
    from semfreeze_core.storage import user_path

    nothing = (None, FieldMapping())
    if plan.run is None:
        return nothing
    try:
        folder = run_folder or (example_run() if plan.run == example_run().name else find_run(plan.run))
        read = read_manifest(folder).data
    except RunError:
        return nothing
    if read.tokens_digest != plan.data_digest or not user_path(resolve_data(read.source)).is_file():
        return nothing
    return read.source, FieldMapping(**read.mapping)
