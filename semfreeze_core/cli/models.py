"""`semfreeze models`: what semfreeze detects in a model."""

from pathlib import Path
from typing import Annotated

import typer

from semfreeze_core.cli import app
from semfreeze_core.cli.options.common import (
    DeviceOption,
    DtypeOption,
    JsonOption,
    PickleOption,
    QuietOption,
    RevisionOption,
    TrustOption,
)
from semfreeze_core.wording.escaping import terminal_text

models_app = typer.Typer(no_args_is_help=True, help="Check models.")
app.add_typer(models_app, name="models")


@models_app.callback()
def _models() -> None:
    """Makes `check` a subcommand although it is the only one."""


@models_app.command()
def check(
    model: Annotated[str, typer.Argument(help="'embedded' (bundled model), a local folder, a Hub ID, or a GGUF file.")],
    plan: Annotated[
        Path | None, typer.Option(help="Also check that this plan is for the model, and count what it trains.")
    ] = None,
    revision: RevisionOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    trust_remote_code: TrustOption = False,
    allow_pickle: PickleOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Load a model, find its parts, verify them, and report them."""
    from dataclasses import asdict

    from semfreeze_core.cli.printing.console import print_json, progress_on_stderr
    from semfreeze_core.errors import InputError
    from semfreeze_core.plan.consistency import require_names
    from semfreeze_core.plan.document import require_model, trainable_names
    from semfreeze_core.records.training import dtype_named
    from semfreeze_core.runs.plans import read_plan
    from semfreeze_core.storage import user_path

    dtype_name = dtype_named(dtype)
    if dtype_name is None:
        raise InputError(f"--dtype {dtype}: expected auto, float32 or bfloat16.")
    document = None if plan is None else read_plan(user_path(str(plan)))

    from semfreeze_core.sources.models.causal_lm import load_causal_lm
    from semfreeze_core.sources.models.limits import limits_of

    with progress_on_stderr(quiet) as progress:
        loaded = load_causal_lm(
            model,
            revision=revision,
            dtype=dtype_name,
            device=device,
            trust_remote_code=trust_remote_code,
            allow_pickle=allow_pickle,
            progress=progress,
        )
    shape, decoder = loaded.shape, loaded.decoder
    unsupported = limits_of(decoder.model, shape)
    report = {
        "identity": asdict(loaded.identity),
        "shape": asdict(shape),
        "names": asdict(decoder.names),
        "head_transform": asdict(decoder.transform),
        "logits_error": decoder.logits_error,
        "dtype": str(decoder.dtype).removeprefix("torch."),
        "device": str(decoder.device),
        "padded_vocab_rows": loaded.vocabulary.padded_rows,
        "notes": list(loaded.notes),
        "unsupported": list(unsupported),
        "trains": None,
    }
    adapters = document.cost.setup.lora if document is not None else None
    if document is not None:
        require_model(document, loaded.identity)
        require_names(document, decoder.names)
    if document is not None and adapters is None:
        names = trainable_names(document, loaded.identity, [n for n, _ in decoder.model.named_parameters()])
        report["trains"] = names
    if as_json:
        print_json(report)
        return
    names_of = decoder.names
    for line in (
        f"{model}: {loaded.identity.architecture}, {shape.n_layers} layers, {shape.total_parameters:,} parameters",
        f"  layers      {names_of.layer_prefix}0..{shape.n_layers - 1}",
        f"  embeddings  {', '.join(names_of.embeddings)}{'  (tied to the head)' if decoder.tied else ''}",
        f"  final norm  {', '.join(names_of.final_norm) or 'none'}",
        f"  head        {', '.join(names_of.head) or 'the embedding'}",
    ):
        typer.echo(terminal_text(line))
    typer.echo(
        f"  verified    head(final_norm(last hidden state)) gives the model's logits to {decoder.logits_error:.2g} of "
        "their spread"
    )
    typer.echo("  cost        estimated FLOPs of a forward pass equal torch's count")
    for limit in unsupported:
        typer.echo(terminal_text(f"  limit       {limit}"))
    for note in loaded.notes:
        typer.echo(terminal_text(f"  note        {note}"))
    if adapters is not None:
        typer.echo(f"  plan        fits; it trains adapters of rank {adapters.rank}, which are not on the model yet")
    if report["trains"] is not None:
        typer.echo(f"  plan        fits; it trains {len(names)} of this model's parameter tensors")
