"""`semfreeze analyze`: analyze a model on examples."""

import shlex
import warnings
from pathlib import Path
from typing import Annotated

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
from semfreeze_core.records.defaults import EXAMPLES, LARGEST_SEED, MIN_EXAMPLES, POSITIONS
from semfreeze_core.records.fields import FieldMapping
from semfreeze_core.wording.escaping import terminal_text


@app.command()
@with_flags(fields=FieldMapping)
def analyze(
    model: ModelOption,
    data: DataOption,
    examples: Annotated[
        int, typer.Option(help="Examples to draw, balanced by label if there is one; 0: all.")
    ] = EXAMPLES,
    split: SplitOption = None,
    eos: EosOption = True,
    positions: Annotated[int, typer.Option(help="Maximum target tokens analyzed per example.")] = POSITIONS,
    max_length: MaxLengthOption = None,
    metrics: Annotated[
        str, typer.Option(help="semantic,logit_z are always measured; add lens_loss for the full head's loss (slower).")
    ] = "semantic,logit_z",
    scores: Annotated[
        str,
        typer.Option(
            help="Layer scores beyond the cheap ones, comma-separated: gradient_norm (a backward pass), "
            "spectrum (of large models)."
        ),
    ] = "",
    allow_few: Annotated[bool, typer.Option("--allow-few", help=f"Accept fewer than {MIN_EXAMPLES} examples.")] = False,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    seed: SeedOption = 0,
    batch_tokens: Annotated[
        int | None, typer.Option(help="Tokens per forward pass (default: 1024 on a CPU, 16384 on a GPU).")
    ] = None,
    revision: RevisionOption = None,
    trust_remote_code: TrustOption = False,
    allow_pickle: PickleOption = False,
    out: Annotated[str | None, typer.Option(help="Name in the store, or a path with a slash.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing run once this one is done.")
    ] = False,
    *,
    fields: FieldMapping,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Analyze a model on examples, layer by layer, and save the analysis as a run.

    Several GPUs share the examples under torchrun: torchrun --nproc-per-node N -m semfreeze_core analyze ...
    """
    from semfreeze_core.cli.printing.console import print_json, progress_on_stderr
    from semfreeze_core.cli.printing.documents import show_document
    from semfreeze_core.cli.printing.run import print_run
    from semfreeze_core.cli.printing.tables import console
    from semfreeze_core.errors import InputError
    from semfreeze_core.plan.make import curve_of, make_plan
    from semfreeze_core.processes import by_first, from_first, joined, launch, own_device, refuse_other_ways
    from semfreeze_core.records.run import Run
    from semfreeze_core.records.scores import SCORE_NAMES
    from semfreeze_core.records.training import dtype_named
    from semfreeze_core.runs.folder import lacks_parts, read_manifest
    from semfreeze_core.runs.store import free_name, run_path, taken_names
    from semfreeze_core.storage import require_free
    from semfreeze_core.wording.plan import headline
    from semfreeze_core.wording.runs import interrupted_sentence

    wanted = {m.strip() for m in metrics.split(",") if m.strip()}
    problems = []
    if unknown := wanted - {"semantic", "logit_z", "lens_loss"}:
        problems.append(f"--metrics {', '.join(sorted(unknown))}: expected semantic, logit_z or lens_loss")
    wanted_scores = tuple(dict.fromkeys(name.strip() for name in scores.split(",") if name.strip()))
    if unknown_scores := [name for name in wanted_scores if name not in SCORE_NAMES]:
        problems.append(f"--scores {', '.join(unknown_scores)}: expected {', '.join(SCORE_NAMES)}")
    dtype_name = dtype_named(dtype)
    if dtype_name is None:
        problems.append(f"--dtype {dtype}: expected auto, float32 or bfloat16")
    least_values = (
        ("examples", examples, 0),
        ("positions", positions, 1),
        ("batch-tokens", batch_tokens, 1),
        ("max-length", max_length, 2),
        ("seed", seed, 0),
    )
    for flag, value, least in least_values:
        if value is not None and value < least:
            problems.append(f"--{flag} must be at least {least}, found {value}")
    if seed > LARGEST_SEED:
        problems.append(f"--seed must be at most {LARGEST_SEED}, found {seed}")
    if problems:
        raise InputError("; ".join(problems) + ".")
    wanted_name = f"{Path(model).stem or model}-{Path(data).stem or data}"

    def destination() -> tuple[Path, list[Path]]:
        """The run's folder, and those of runs that may be this analysis's, without all of its parts."""
        folder = run_path(free_name(wanted_name) if out is None else out)
        begun: list[Path] = []
        if not overwrite and out is not None and lacks_parts(folder, wanted_scores):
            begun = [folder]
        elif not overwrite and out is None:
            begun = [run for run in map(run_path, taken_names(wanted_name)) if lacks_parts(run)]
        if not begun:
            require_free(folder, overwrite=overwrite)
        return folder, begun

    first = launch().index == 0  # of the processes that read together; it alone prints
    if not first:
        warnings.simplefilter("ignore")
    if launch().count > 1:
        refuse_other_ways()
    device = own_device(device)
    with joined(device.partition(":")[0], "analysis", "a run that is written lacks only what it adds"):
        folder, begun = from_first(destination)
        from semfreeze_core.saved_analysis import add_missing_parts, missing_parts, save_analysis
        from semfreeze_core.workflow.analysis import begin_shared_analysis
        from semfreeze_core.workflow.request import AnalysisRequest

        request = AnalysisRequest(
            model=model,
            data=data,
            mapping=fields,
            split=split,
            examples=examples,
            positions=positions,
            max_length=max_length,
            add_eos=eos,
            allow_few=allow_few,
            lens_loss="lens_loss" in wanted,
            scores=wanted_scores,  # type: ignore[arg-type]  # checked above
            seed=seed,
            revision=revision,
            dtype=dtype_name or "auto",  # refused above where it is none
            device=device,
            trust_remote_code=trust_remote_code,
            allow_pickle=allow_pickle,
            batch_tokens=batch_tokens,
        )
        missing = from_first(lambda: {run: names for run in begun if (names := missing_parts(request, run))})
        try:
            with progress_on_stderr(quiet or not first) as progress:
                if missing:
                    folder, names = next(iter(missing.items()))
                    run = by_first(lambda: add_missing_parts(request, folder, names, progress))
                else:
                    from_first(lambda: require_free(folder, overwrite=overwrite))
                    analysis = begin_shared_analysis(request, progress)
                    if out is None:  # another analysis may have taken the name meanwhile
                        folder = from_first(lambda: run_path(free_name(wanted_name)))

                    def save() -> Run:
                        assert analysis is not None, "the first process has it"
                        return save_analysis(analysis, folder, overwrite=overwrite, progress=progress)

                    run = by_first(save)
        except KeyboardInterrupt:
            if first and lacks_parts(folder):
                to_come = read_manifest(folder).parts_to_come
                typer.echo(terminal_text(interrupted_sentence(folder, to_come)), err=True)
            raise
    if run is None:
        return
    if as_json:
        print_json(show_document(run, folder, "semantic"))
        return
    print_run(run, curve_of(run, "semantic"), folder, console())
    typer.echo(headline(make_plan(run)))
    typer.echo(terminal_text(f"Next: semfreeze plan {shlex.quote(out or folder.name)}"))
