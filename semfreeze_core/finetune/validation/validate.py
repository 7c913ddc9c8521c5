"""Validating a plan: the arms on the same data, order and seeds, each in its own process, and a verdict.

Everything is in one folder: `settings.json`, the examples, one file for each finished arm and seed, logs, and
`report.json`. A second call with the same settings does only what is missing.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import ValidationError

from semfreeze_core.device import choose_device, free_bytes
from semfreeze_core.errors import InputError, ResourceError, RunError
from semfreeze_core.finetune.arm.arms import Arm
from semfreeze_core.finetune.arm.files import remove_all, remove_unfinished
from semfreeze_core.finetune.arm.job import ArmJob, write_examples, write_job
from semfreeze_core.finetune.arm.launch import OutOfMemory, halved
from semfreeze_core.finetune.arm.progress_file import live_path
from semfreeze_core.finetune.arm.settings import ArmSettings
from semfreeze_core.finetune.runner.runner import Runner, open_runner
from semfreeze_core.finetune.validation.known_rates import (
    after_search,
    at_known_rate,
    known_search,
    remember_search,
    search_path,
)
from semfreeze_core.finetune.validation.report import build_report, failed_run
from semfreeze_core.finetune.validation.request import (
    Prepared,
    ValidationRequest,
    is_same_validation,
    prepare,
    with_kept_sources,
)
from semfreeze_core.finetune.validation.search_price import search_note
from semfreeze_core.finetune.validation.turns import take_turns
from semfreeze_core.progress import Lanes, Progress, ProgressEvent, silent
from semfreeze_core.records.defaults import RUNNER
from semfreeze_core.records.rates import RateSearch
from semfreeze_core.records.sweep import SWEEP
from semfreeze_core.records.validation import (
    REPORT,
    ArmRun,
    Baseline,
    FailureCause,
    ValidationReport,
    ValidationSettings,
)
from semfreeze_core.storage import disk_errors, write_atomically
from semfreeze_core.temporary import is_temporary, remove_leftovers, require_locks
from semfreeze_core.unlocked_leftovers import is_unlocked_leftover, remove_from_claimed
from semfreeze_core.wording.numbers import gib
from semfreeze_core.wording.rates import no_rate_reason
from semfreeze_core.wording.validation import RETRIED

EXAMPLES = "examples.safetensors"
_SAVED, _ADVICE = "Finished variants are kept.", "Free some space and run the same command again."


def validate(
    request: ValidationRequest,
    folder: Path,
    *,
    overwrite: bool = False,
    progress: Progress = silent,
    after_baseline: Callable[[Baseline], None] = lambda _: None,
    runner: Runner | str | None = None,
) -> ValidationReport:
    """Train every arm with every seed, and reach a verdict on the plan.

    Args:
        request: what to validate.
        folder: of all files; results that an interrupted call with the same settings left there are used.
        overwrite: replace another validation.
        progress: receives steps and stages.
        after_baseline: receives the model's evaluation before anything trains.
        runner: who trains the arms, as `open_runner` takes it.

    Returns:
        The report. It is written as report.json after each arm, so that an interruption leaves the results so far.

    Raises:
        InputError: as prepare and open_runner; or the folder holds another validation, or one that is running.
    """
    prepared = prepare(request, progress)
    if (note := search_note(prepared)) is not None:
        progress(ProgressEvent("Learning rates", message=note))
    with _claimed(folder, prepared, overwrite), open_runner(runner, prepared.source.device) as arms:
        if request.keep_checkpoints and not arms.trains_here:
            raise InputError(f"keep_checkpoints takes the runner {RUNNER}: they are kept where arms train.")
        data = folder / EXAMPLES
        if not data.exists():
            write_examples(data, prepared.data.train.tokenized, prepared.data.evaluation.tokenized)
        _delete_retried(folder)
        _run_baseline(prepared, folder, arms, progress)
        after_baseline(_baseline(folder))
        reports, lanes = [_write_report(prepared, folder)], Lanes(progress)

        def train(task: tuple[Arm, int]) -> None:
            arm, seed = task
            lane = lanes.of(run_name(arm.name, seed)) if at_once() > 1 else progress
            _run_arm(prepared, folder, arm, seed, arms, lane)

        def at_once() -> int:
            return 1 if request.chained_search else arms.at_once()

        # Seed by seed, so that an interrupted validation has whole comparisons; in each the planned arm first, so that
        # its result is there to compare with while the costlier arms still train.
        take_turns(
            [
                (arm, seed)
                for seed in prepared.document.seeds
                for arm in sorted(prepared.arms, key=lambda arm: arm.name != "planned")
            ],
            train,
            lambda: reports.append(_write_report(prepared, folder)),
            at_once=at_once,
            first_of=lambda task: _searched_rate(prepared, task[0]),
            cancel=arms.cancel,
        )
        return reports[-1]


@contextmanager
def _claimed(folder: Path, prepared: Prepared, overwrite: bool) -> Iterator[None]:
    """Lock the folder for these settings and this process.

    Settings without any result are replaced by others: nothing is lost with them, and they may be the mistake that is
    now corrected.
    """
    path = folder / "settings.json"
    with disk_errors(folder, saved_text=lambda: _SAVED, advice=_ADVICE):
        folder.mkdir(parents=True, exist_ok=True)
        _refuse_foreign(folder)  # before the lock, which would be left there
        require_locks(folder)
        try:
            with FileLock(folder / ".lock", timeout=0):
                remove_leftovers(folder)
                _refuse_foreign(folder)
                for inside in (folder, folder / "runs", folder / "jobs"):
                    remove_from_claimed(inside)
                saved = _read_settings(path) if path.exists() else prepared.document
                same = saved is not None and is_same_validation(saved, prepared)
                untouched = saved is not None and not any((folder / "runs").glob("*.json"))
                if not (same or overwrite or untouched):
                    raise RunError(
                        f"{folder} holds another validation. Choose another --out, or replace it with --overwrite."
                    )
                if not same or overwrite:
                    _clear(folder)
                settings = with_kept_sources(prepared.document, folder)
                write_atomically(path, settings.model_dump_json(indent=1) + "\n")
                yield
        except Timeout as error:
            raise RunError(f"A validation is already running in {folder}.") from error


def _refuse_foreign(folder: Path) -> None:
    settings = folder / "settings.json"
    names = [path.name for path in folder.iterdir()]
    empty = all(name == ".lock" or is_temporary(name) or is_unlocked_leftover(name) for name in names)
    ours = settings.is_file() and b'"plan_digest"' in settings.read_bytes()  # in those of every version
    if not (empty or ours):
        raise RunError(f"{folder} is not empty and holds no validation. Choose another --out.")


def _clear(folder: Path) -> None:
    """Delete a validation's results, and last what they rest on; its settings stay until others replace them."""
    for pattern in ("jobs/*.json", "logs/*.log", REPORT, SWEEP, EXAMPLES):
        for path in folder.glob(pattern):
            path.unlink()
    remove_all(folder / "runs")


def _read_settings(path: Path) -> ValidationSettings | None:
    try:
        return ValidationSettings.model_validate_json(path.read_text())
    except (ValidationError, UnicodeDecodeError):  # of another version, or damaged: another validation in any case
        return None


def _run_baseline(prepared: Prepared, folder: Path, runner: Runner, progress: Progress) -> None:
    path = folder / "runs" / "baseline.json"
    if not path.exists():
        job = _job(prepared, folder, None, prepared.settings[prepared.arms[0].name], path)
        runner.run(_write_job(folder, "baseline", job), folder / "logs" / "baseline.log", progress)


def _baseline(folder: Path) -> Baseline:
    return Baseline.model_validate_json((folder / "runs" / "baseline.json").read_text())


def _run_arm(prepared: Prepared, folder: Path, arm: Arm, seed: int, runner: Runner, progress: Progress) -> None:
    """Train one arm with one seed unless that is done; the micro-batch is halved when memory runs out."""
    name = run_name(arm.name, seed)
    path = folder / "runs" / f"{name}.json"
    if path.exists():
        return
    if runner.trains_here and (reason := _memory_shortage(prepared, arm)) is not None:
        progress(ProgressEvent(f"{arm.name} (seed {seed})", message=f"{arm.name}: {reason}"))
        run = failed_run(arm, prepared.settings[arm.name], seed, reason, "resources")
        write_atomically(path, run.model_dump_json(indent=1) + "\n")
        return
    searched = arm.name in prepared.document.searched
    first = _first_search(prepared, folder, arm) if searched and seed != prepared.document.seeds[0] else None
    if first is not None and first.rate is None:
        run = failed_run(arm, prepared.settings[arm.name], seed, no_rate_reason(first), "unlearned")
        write_atomically(path, run.model_dump_json(indent=1) + "\n")
        return
    settings = prepared.settings[arm.name]
    if searched and prepared.request.chained_search:
        arm, settings = after_search(arm, settings, _search_before(prepared, folder, arm, seed))
    search = first or (known_search(prepared, arm, settings) if searched else None)
    arm, settings = at_known_rate(arm, settings, search)
    settings, notes = replace(settings, seed=seed), list[str]()
    while True:
        job = _job(prepared, folder, arm, settings, path)
        job = job.model_copy(update={"notes": notes, "rate_search": search})
        try:
            runner.run(_write_job(folder, name, job), folder / "logs" / f"{name}.log", progress)
        except OutOfMemory as out_of_memory:
            try:
                settings = replace(settings, setup=halved(settings.setup))
            except InputError as error:
                reason = f"{out_of_memory}. {error} {RETRIED}"
                run = failed_run(arm, prepared.settings[arm.name], seed, reason, "resources")
                break
            size, passes = settings.micro_batch_size, settings.accumulation
            notes.append(f"Memory ran out: {size} examples at a time, {passes} times per step. ({out_of_memory})")
            progress(ProgressEvent(f"{arm.name} (seed {seed})", message=notes[-1]))
            continue
        except InputError as error:
            short = isinstance(error, ResourceError)
            cause: FailureCause = "resources" if short else "refused"
            reason = f"{error} {RETRIED}" if short else str(error)
            run = failed_run(arm, prepared.settings[arm.name], seed, reason, cause)
            break
        run = ArmRun.model_validate_json(path.read_text())
        if run.rate_search is not None:
            remember_search(prepared, arm, settings, run.rate_search)
        break
    if run.status == "failed":
        write_atomically(path, run.model_dump_json(indent=1) + "\n")
    live_path(path).unlink(missing_ok=True)


def _searched_rate(prepared: Prepared, arm: Arm) -> Path | None:
    """What tells an arm's search of its rate from others'; None where it makes none."""
    return search_path(prepared, arm, prepared.settings[arm.name]) if arm.name in prepared.document.searched else None


def _first_search(prepared: Prepared, folder: Path, arm: Arm) -> RateSearch | None:
    """The search of the same arm with the first seed; None when it made none."""
    path = folder / "runs" / f"{run_name(arm.name, prepared.document.seeds[0])}.json"
    return ArmRun.model_validate_json(path.read_text()).rate_search if path.exists() else None


def _search_before(prepared: Prepared, folder: Path, arm: Arm, seed: int) -> RateSearch | None:
    """The search of the nearest variant before this one that chose a rate; None where none did."""
    names = [other.name for other in prepared.arms]
    for name in reversed(names[: names.index(arm.name)]):
        path = folder / "runs" / f"{run_name(name, seed)}.json"
        search = ArmRun.model_validate_json(path.read_text()).rate_search if path.exists() else None
        if search is not None and search.rate is not None:
            return search
    return None


def _memory_shortage(prepared: Prepared, arm: Arm) -> str | None:
    """Why an arm is not started: what it needs at any batch size is more than is free; None when it fits."""
    parts = arm.memory(prepared.shape, prepared.setups[arm.name])
    needed = parts.weights + parts.gradients + parts.optimizer
    device = choose_device(prepared.source.device)
    free = free_bytes(device)
    if needed <= free:
        return None
    return (
        f"Not begun: its weights, gradients and optimizer alone take {gib(needed)}, but "
        f"{gib(free)} are free on {device.type}. {RETRIED}"
    )


def _delete_retried(folder: Path) -> None:
    """Delete the results of failed arms that another try may give one, and what is no arm's result.

    Beside the others, what a kill left between an arm's result and its end goes.
    """
    for path in (folder / "runs").glob("*-seed*.json"):
        try:
            retried = ArmRun.model_validate_json(path.read_text()).retried
        except ValidationError:
            retried = True
        if retried:
            path.unlink()
        else:
            remove_unfinished(path)


def run_name(arm: str, seed: int) -> str:
    """The name of an arm's files; some file systems allow no colon."""
    return f"{arm.replace(':', '-')}-seed{seed}"


def _job(prepared: Prepared, folder: Path, arm: Arm | None, settings: ArmSettings, result: Path) -> ArmJob:
    return ArmJob(
        model=prepared.source,
        identity=prepared.request.plan.model,
        arm=arm,
        settings=settings,
        cache_shared_from=_shared_from(prepared, arm),
        data=folder / EXAMPLES,
        result=result,
        keep_checkpoint=prepared.request.keep_checkpoints,
    )


def _shared_from(prepared: Prepared, arm: Arm | None) -> int | None:
    """The nearest lower depth whose boundary states this arm's can be computed from, where arms share them."""
    if not prepared.request.share_caches or arm is None or arm.lora is not None:
        return None
    depths = (a.freeze_depth for a in prepared.arms if a.switch is None)
    return max((depth for depth in depths if depth < arm.freeze_depth), default=0)


def _write_job(folder: Path, name: str, job: ArmJob) -> Path:
    path = folder / "jobs" / f"{name}.json"
    write_job(path, job)
    return path


def _write_report(prepared: Prepared, folder: Path) -> ValidationReport:
    """Build and write the report of the results so far."""
    baseline = _baseline(folder)
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
    written = report.model_copy(update={"settings": with_kept_sources(report.settings, folder)})
    write_atomically(folder / REPORT, written.model_dump_json(indent=1) + "\n")
    return report
