"""A process that trains one arm: `python -m semfreeze_core.finetune.arm.process JOB`.

Each arm has its own process: its memory is the arm's alone, a crash ends no other arm, and all arms start alike. It
prints its progress as one JSON object per line, and ends when the process that started it is gone.
"""

import json
import os
import sys
import threading
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from semfreeze_core.errors import InputError, ResourceError
from semfreeze_core.progress import ProgressEvent

OUT_OF_MEMORY, REFUSED, NO_ROOM = 3, 4, 5  # exit codes; the reason is the last line printed


def main(path: str) -> int:
    """Run the job in the file `path`; returns the exit code."""
    _end_with_parent()
    try:
        run_job(Path(path), device=_hide_other_gpus(Path(path)))
    except Exception as error:
        from semfreeze_core.device import is_out_of_memory
        from semfreeze_core.storage import is_disk_full

        if is_out_of_memory(error):
            return _print_reason(OUT_OF_MEMORY, " ".join(str(error).split())[:300])
        if isinstance(error, ResourceError):
            return _print_reason(NO_ROOM, str(error))
        if isinstance(error, InputError):
            return _print_reason(REFUSED, str(error))
        if is_disk_full(error):
            return _print_reason(NO_ROOM, f"The disk is full ({' '.join(str(error).split())[:300]}).")
        raise
    return 0


def _hide_other_gpus(path: Path) -> str:
    """Leave this process its job's GPU alone, before torch looks for GPUs; returns the device's name from then on."""
    environment, device = one_gpu_environment(json.loads(path.read_text())["model"]["device"], os.environ)
    os.environ.update(environment)
    return device


def one_gpu_environment(device: str, environment: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """The variable that leaves a process one GPU, and the device's name in that process.

    An index counts the GPUs that are visible now: "cuda:1" under CUDA_VISIBLE_DEVICES=4,6 is the GPU 6. Without it a
    process takes some memory of the first GPU too, whichever it trains on.

    Args:
        device: auto, cpu, cuda, cuda:N or mps; of a machine with GPUs, auto is the first.
        environment: of the process that starts it.
    """
    kind, _, number = device.partition(":")
    if kind not in ("auto", "cuda") or not (number.isdecimal() or not number):
        return {}, device
    index = int(number or 0)
    # ROCm's own variable wins over CUDA's, which it reads as well.
    variable = "HIP_VISIBLE_DEVICES" if "HIP_VISIBLE_DEVICES" in environment else "CUDA_VISIBLE_DEVICES"
    visible = environment.get(variable)
    entries = [str(index)] * (index + 1) if visible is None else [entry.strip() for entry in visible.split(",")]
    if index >= len(entries) or not entries[index]:  # refused, or found elsewhere, where the device is chosen
        return {}, device
    return {variable: entries[index]}, kind


def run_job(path: Path, device: str | None = None) -> None:
    """Train the arm of the job in the file `path`, or evaluate the model as it is, and write the result.

    Args:
        path: of the job.
        device: its device as this process sees it; None is the job's own name for it.

    Raises:
        InputError: the model is not the plan's, or cannot be trained in this way.
    """
    # Imported first of all, so that the baseline holds everything but the model.
    from transformers import Trainer  # noqa: F401

    from semfreeze_core.device import resident_bytes
    from semfreeze_core.finetune.arm.baseline import evaluate_baseline
    from semfreeze_core.finetune.arm.files import checkpoint_folder, rates_folder, remove_unfinished, saves_folder
    from semfreeze_core.finetune.arm.job import read_job, read_split
    from semfreeze_core.finetune.arm.loading import load_to_train
    from semfreeze_core.finetune.arm.progress_file import LiveFile, live_path
    from semfreeze_core.finetune.arm.run import run_arm
    from semfreeze_core.finetune.arm.timed_saves import TimedSaves
    from semfreeze_core.finetune.model.network import CacheSettings
    from semfreeze_core.plan.document import require_identity
    from semfreeze_core.records.validation import ArmRun, Baseline
    from semfreeze_core.storage import prefix_cache_folder, write_atomically

    job = read_job(path)
    setup = job.settings.setup
    train, evaluation = read_split(job.data, "train"), read_split(job.data, "eval")
    baseline_bytes = resident_bytes()
    source = job.model if device is None else job.model.model_copy(update={"device": device})
    loaded = load_to_train(
        source,
        None if job.arm is None else job.arm.parts,
        setup,
        None if job.arm is None else job.arm.switch,
        progress=_print_event,
    )
    require_identity(job.identity, loaded.identity)
    result: ArmRun | Baseline
    if job.arm is None:
        result = evaluate_baseline(
            loaded,
            evaluation,
            n_accuracy=job.settings.n_accuracy,
            precision=setup.precision,
            progress=_print_event,
        )
    else:
        run = run_arm(
            loaded,
            job.arm,
            job.settings,
            train,
            evaluation,
            baseline_bytes=baseline_bytes,
            follow=LiveFile(live_path(job.result)),
            cache=CacheSettings(folder=prefix_cache_folder(), shared_from=job.cache_shared_from),
            rates_folder=rates_folder(job.result),
            checkpoint_folder=checkpoint_folder(job.result) if job.keep_checkpoint else None,
            saves=None if job.save_seconds is None else TimedSaves(saves_folder(job.result), job.save_seconds),
            progress=_print_event,
        )
        before = {"notes": [*job.notes, *run.notes], "rate_search": run.rate_search or job.rate_search}
        result = run.model_copy(update=before)
    write_atomically(job.result, result.model_dump_json(indent=1) + "\n")
    remove_unfinished(job.result)


def _print_event(event: ProgressEvent) -> None:
    print(json.dumps(asdict(event)), flush=True)


def _print_reason(code: int, reason: str) -> int:
    print(json.dumps({"reason": reason}), flush=True)
    return code


def _end_with_parent() -> None:
    """End when standard input closes, which it does when the parent dies, however it dies."""

    def wait() -> None:
        while os.read(0, 1024):  # not through sys.stdin, whose lock the interpreter wants when it ends
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
