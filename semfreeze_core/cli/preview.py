"""`semfreeze preview`: how data is read, and whether the model fits, before an analysis."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from semfreeze_core.cli import app
from semfreeze_core.cli.options.common import (
    DataOption,
    DeviceOption,
    DtypeOption,
    EosOption,
    JsonOption,
    MaxLengthOption,
    ModelOption,
    PickleOption,
    QuietOption,
    RevisionOption,
    SeedOption,
    SplitOption,
    TrustOption,
)
from semfreeze_core.cli.options.groups import with_flags
from semfreeze_core.records.fields import FieldMapping

if TYPE_CHECKING:
    from semfreeze_core.records.preview import DataPreview, MemoryForecast, TrainingForecast


@app.command()
@with_flags(fields=FieldMapping)
def preview(
    model: ModelOption,
    data: DataOption,
    examples: Annotated[int, typer.Option(min=1, max=100, help="Examples to show.")] = 3,
    split: SplitOption = None,
    eos: EosOption = True,
    max_length: MaxLengthOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    seed: SeedOption = 0,
    plan: Annotated[
        Path | None, typer.Option(help="A plan: also estimate the memory of training it.", metavar="FILE")
    ] = None,
    skipped: Annotated[
        Path | None,
        typer.Option(help="Write the rows that cannot be read, with line and reason (JSONL).", metavar="FILE"),
    ] = None,
    revision: RevisionOption = None,
    trust_remote_code: TrustOption = False,
    allow_pickle: PickleOption = False,
    *,
    fields: FieldMapping,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Show examples as the model gets them, with target tokens marked, and the memory that an analysis needs.

    The model is checked by its config, its weights' names and shapes and, in safetensors of at most 2 GiB, their
    values. Weights that are damaged otherwise show only when an analysis loads them.
    """
    from dataclasses import asdict

    from semfreeze_core.cli.printing.console import print_json, progress_on_stderr
    from semfreeze_core.errors import InputError
    from semfreeze_core.records.training import dtype_named
    from semfreeze_core.storage import user_path, write_atomically

    dtype_name = dtype_named(dtype)
    if dtype_name is None:
        raise InputError(f"--dtype {dtype}: expected auto, float32 or bfloat16.")
    if max_length is not None and max_length < 2:
        raise InputError(f"--max-length must be at least 2, found {max_length}.")
    if skipped is not None and user_path(str(skipped)).exists():
        raise InputError(f"{skipped} already exists. Choose another file for --skipped.")

    from semfreeze_core.preview import forecast_analysis, forecast_training, inspect_model, preview_data
    from semfreeze_core.runs.plans import read_plan
    from semfreeze_core.workflow.request import AnalysisRequest

    request = AnalysisRequest(
        model=model,
        data=data,
        mapping=fields,
        split=split,
        max_length=max_length,
        add_eos=eos,
        seed=seed,
        revision=revision,
        dtype=dtype_name,
        device=device,
        trust_remote_code=trust_remote_code,
        allow_pickle=allow_pickle,
    )
    to_train = None if plan is None else read_plan(user_path(str(plan)))
    with progress_on_stderr(quiet) as progress:
        inspected = inspect_model(request, progress)
        shown = preview_data(request, inspected, examples, progress)
        memory = forecast_analysis(request, inspected, shown)
        training = None if to_train is None else forecast_training(request, inspected, to_train)
    if skipped is not None:
        write_atomically(user_path(str(skipped)), shown.skipped_lines())
    if as_json:
        derived = {"needed_bytes": memory.needed_bytes, "fits": memory.fits}
        document = {"data": asdict(shown), "memory": asdict(memory) | derived}
        if training is not None:
            document["training"] = asdict(training) | {"peak_bytes": training.peak_bytes}
        print_json(document)
        return
    _print(shown, memory, training)


def _print(shown: "DataPreview", memory: "MemoryForecast", training: "TrainingForecast | None") -> None:
    from rich.text import Text

    from semfreeze_core.cli.printing.tables import console
    from semfreeze_core.wording.runs import memory_sentence, training_memory_sentence

    out = console()
    for note in shown.notes:
        out.print(f"  {note}", markup=False, highlight=False)
    out.print(f"{shown.n_usable:,} of {shown.n_rows:,} rows can be used. Target tokens are underlined.")
    for example in shown.examples:
        label = "" if example.label is None else f", {example.label}"
        supervised = sum(piece.n_tokens for piece in example.pieces if piece.supervised)
        out.print(f"\nRow {example.row}{label}: {supervised} target tokens", style="bold", markup=False)
        parts = [(piece.text, "underline" if piece.supervised else "dim") for piece in example.pieces]
        out.print(Text.assemble(*parts))
    out.print(f"\n{memory_sentence(memory)}", markup=False, highlight=False)
    if training is not None:
        out.print(training_memory_sentence(training), markup=False, highlight=False)
