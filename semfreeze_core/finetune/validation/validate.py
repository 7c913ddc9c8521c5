"""Putting a plan to the test: the arms on equal data, order and seeds, each in a process of its own, and a verdict.

Everything lies in one folder: `settings.json`, the examples, one file for each finished arm and seed, logs, and
`report.json`. A second call with the same settings does only what is missing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import ValidationError

from semfreeze_core.cost import training_bytes
from semfreeze_core.device import choose_device, free_bytes
from semfreeze_core.errors import InputError, RunError
from semfreeze_core.finetune.arm.arms import Arm
from semfreeze_core.finetune.arm.job import ArmJob, write_examples
from semfreeze_core.finetune.arm.launch import OutOfMemory, halve, run_arm_process
from semfreeze_core.finetune.arm.progress_file import live_path
from semfreeze_core.finetune.validation.report import build_report, failed_run
from semfreeze_core.finetune.validation.request import Prepared, ValidationRequest, prepare
from semfreeze_core.progress import Progress, ProgressEvent, silent
from semfreeze_core.records.validation import LIVE, REPORT, ArmRun, Baseline, ValidationReport, ValidationSettings
from semfreeze_core.storage import disk_errors, write_atomically
from semfreeze_core.wording.numbers import gib

NOT_BEGUN = "Not begun"


def validate(
    request: ValidationRequest, folder: Path, *, overwrite: bool = False, progress: Progress = silent
) -> ValidationReport:
    """Train every arm with every seed, and judge the plan.

    Args:
        request: what to put to the test.
        folder: where everything is kept; what an interrupted call with the same settings left there is used.
        overwrite: begin anew where another validation stands.
        progress: told what is being done.

    Returns:
        The report. It is written as report.json after each arm, so that an interruption leaves what there is by then.

    Raises:
        InputError: as prepare; or the folder holds another validation, or one that is running.
    """
    prepared = prepare(request, progress)
    with _claimed(folder, prepared.document, overwrite):
        data = folder / "examples.safetensors"
        if not data.exists():
            write_examples(data, prepared.data.train.tokenized, prepared.data.evaluation.tokenized)
        _forget_refused(folder)
        _run_baseline(prepared, folder, progress)
        report = _write_report(prepared, folder)
        # Seed by seed, so that an interrupted validation has whole comparisons; in each the planned arm first, so that
        # who follows it has the answer to compare with while the dearer arms still train.
        for seed in prepared.document.seeds:
            for arm in sorted(prepared.arms, key=lambda arm: arm.name != "planned"):
                _run_arm(prepared, folder, arm, seed, progress)
                report = _write_report(prepared, folder)
        return report


@contextmanager
def _claimed(folder: Path, settings: ValidationSettings, overwrite: bool) -> Iterator[None]:
    """The folder, for these settings and this process alone."""
    path = folder / "settings.json"
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(folder / ".lock", timeout=0):
                if path.exists() and _read_settings(path) != settings:
                    if not overwrite:
                        raise RunError(
                            f"{folder} holds another validation. Choose another --out, or replace it with --overwrite."
                        )
                    _clear(folder)
                elif not path.exists() and any(p.name != ".lock" for p in folder.iterdir()):
                    raise RunError(f"{folder} is not empty and no validation. Choose another --out.")
                elif overwrite:
                    _clear(folder)
                write_atomically(path, settings.model_dump_json(indent=1) + "\n")
                yield
        except Timeout as error:
            raise RunError(f"A validation is running in {folder} already.") from error


def _clear(folder: Path) -> None:
    for pattern in ("*.json", "*.safetensors", "runs/*.json", f"runs/*{LIVE}", "jobs/*.json", "logs/*.log"):
        for path in folder.glob(pattern):
            path.unlink()


def _read_settings(path: Path) -> ValidationSettings | None:
    try:
        return ValidationSettings.model_validate_json(path.read_text())
    except ValidationError:  # of another version, or damaged: another validation in any case
        return None


def _run_baseline(prepared: Prepared, folder: Path, progress: Progress) -> None:
    path = folder / "runs" / "baseline.json"
    if not path.exists():
        job = _job(prepared, folder, None, 0, 1, path)
        run_arm_process(_write_job(folder, "baseline", job), folder / "logs" / "baseline.log", progress)


def _run_arm(prepared: Prepared, folder: Path, arm: Arm, seed: int, progress: Progress) -> None:
    """Train one arm with one seed unless that is done; memory that runs out halves the micro-batch."""
    name = run_name(arm.name, seed)
    path = folder / "runs" / f"{name}.json"
    if path.exists():
        return
    if (reason := _no_room(prepared, arm)) is not None:
        progress(ProgressEvent(f"{arm.name} (seed {seed})", message=f"{arm.name}: {reason}"))
        run = failed_run(arm, prepared.settings[arm.name], seed, reason)
        write_atomically(path, run.model_dump_json(indent=1) + "\n")
        return
    accumulation, notes = 1, list[str]()
    while True:
        job = _job(prepared, folder, arm, seed, accumulation, path)
        try:
            run_arm_process(_write_job(folder, name, job), folder / "logs" / f"{name}.log", progress)
        except OutOfMemory as reason:
            try:
                accumulation = halve(prepared.request.setup.batch_size, accumulation)
            except InputError as error:
                run = failed_run(arm, prepared.settings[arm.name], seed, f"{reason}. {error}")
                break
            micro = prepared.request.setup.batch_size // accumulation
            notes.append(f"Memory ran out: {micro} examples at a time, {accumulation} times a step. ({reason})")
            progress(ProgressEvent(f"{arm.name} (seed {seed})", message=notes[-1]))
            continue
        except InputError as error:
            run = failed_run(arm, prepared.settings[arm.name], seed, str(error))
            break
        run = ArmRun.model_validate_json(path.read_text())
        run = run.model_copy(update={"notes": [*notes, *run.notes]})
        break
    write_atomically(path, run.model_dump_json(indent=1) + "\n")
    live_path(path).unlink(missing_ok=True)


def _no_room(prepared: Prepared, arm: Arm) -> str | None:
    """Why an arm is not begun: what it holds whatever the batch is more than is free; None where there is room."""
    parts = training_bytes(prepared.shape, prepared.setups[arm.name], arm.parts)
    needed = parts.weights + parts.gradients + parts.optimizer
    device = choose_device(prepared.source.device)
    free = free_bytes(device)
    if needed <= free:
        return None
    return (
        f"{NOT_BEGUN}: its weights, gradients and optimizer alone take {gib(needed)}, and "
        f"{gib(free)} are free on {device.type}. Once more is free, the same command tries again."
    )


def _forget_refused(folder: Path) -> None:
    """Arms that were not begun for want of memory are tried again: there may be more by now."""
    for path in (folder / "runs").glob("*-seed*.json"):
        if ArmRun.model_validate_json(path.read_text()).reason.startswith(NOT_BEGUN):
            path.unlink()


def run_name(arm: str, seed: int) -> str:
    """The name of an arm's files; a colon is no good in some."""
    return f"{arm.replace(':', '-')}-seed{seed}"


def _job(prepared: Prepared, folder: Path, arm: Arm | None, seed: int, accumulation: int, result: Path) -> ArmJob:
    settings = prepared.settings[(arm or prepared.arms[0]).name]
    return ArmJob(
        model=prepared.source,
        identity=prepared.request.plan.model,
        arm=arm,
        settings=replace(settings, seed=seed, accumulation=accumulation),
        cache_shared_from=_shared_from(prepared, arm),
        data=folder / "examples.safetensors",
        result=result,
    )


def _shared_from(prepared: Prepared, arm: Arm | None) -> int | None:
    """The nearest lower depth whose boundary states this arm's can be computed from, where arms share them."""
    if not prepared.request.share_caches or arm is None or arm.lora is not None:
        return None
    return max((a.freeze_depth for a in prepared.arms if a.freeze_depth < arm.freeze_depth), default=0)


def _write_job(folder: Path, name: str, job: ArmJob) -> Path:
    path = folder / "jobs" / f"{name}.json"
    write_atomically(path, job.model_dump_json(indent=1) + "\n")
    return path


def _write_report(prepared: Prepared, folder: Path) -> ValidationReport:
    """Put together and write what there is."""
    baseline = Baseline.model_validate_json((folder / "runs" / "baseline.json").read_text())
    runs = [
        ArmRun.model_validate_json(file.read_text())
        for seed in prepared.document.seeds
        for arm in prepared.arms
        if (file := folder / "runs" / f"{run_name(arm.name, seed)}.json").exists()
    ]
    report = build_report(
        prepared.request.plan,
        prepared.document,
        baseline,
        runs,
        {arm.name: prepared.relative_flop(arm) for arm in prepared.arms},
        prepared.warnings,
    )
    write_atomically(folder / REPORT, report.model_dump_json(indent=1) + "\n")
    return report
