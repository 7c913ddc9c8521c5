"""Commands killed at random moments, each followed by the same command again; run as a module.

One process imports all that the commands need and has no thread that a fork would miss; each command is its fork.
Moments are counted in the command's own time on the processor, which other programs hardly change.
Prints a line of JSON per kill: the seconds it came after, whether it hit, the exit code of the same command after it,
whether the result is that of a command that was never killed, and the end of what was printed where anything is wrong.

Usage: python -m tests.core.killed_commands FOLDER train|validate|analyze FIRST_SEED KILLS
"""

import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import torch
import transformers  # its trainer is loaded below, where attributes of the package are asked for

from semfreeze_core.cli.printing import console
from semfreeze_core.finetune.arm import process as arm_process
from semfreeze_core.finetune.arm import run as arm_run
from semfreeze_core.finetune.runner import this_machine
from semfreeze_core.finetune.validation import sweep
from semfreeze_core.runs.folder import read_run
from semfreeze_core.storage import write_atomically
from semfreeze_core.temporary import remove_leftovers
from tests.core.cli_app import app
from tests.core.finetune.tiny_plan import make_tiny_plan, write_task
from tests.core.runs.tiny_run import task_rows, write_jsonl

IMPORTED = (transformers.Trainer, console, arm_run, sweep)
NOTE = "kept"
MAIN = Path("/proc/self/comm").read_text().strip()
Digest = Callable[[Path], str]
_PAUSE = 0.01  # at most, by the clock: longer than most writes take


def train_arguments(workspace: Path) -> list[object]:
    sets = ("--data", workspace / "train.jsonl", "--eval", workspace / "eval.jsonl")
    how = ("--steps", 6, "--save-steps", 1, "--batch-size", 4, "--accuracy-examples", 2)  # its rate is searched first
    return ["train", workspace / "plan.json", *sets, *how]


def validate_arguments(workspace: Path) -> list[object]:
    sets = ("--train", workspace / "train.jsonl", "--eval", workspace / "eval.jsonl")
    how = ("--steps", 6, "--batch-size", 4, "--train-examples", 8, "--eval-examples", 6, "--accuracy-examples", 2)
    which = ("--arms", "full,depth:1", "--seeds", 2, "--match", "steps")
    return ["validate", workspace / "plan.json", *sets, *how, *which]


def analyze_arguments(workspace: Path) -> list[object]:
    return [
        "analyze",
        "--model",
        workspace / "model",
        "--data",
        workspace / "task.jsonl",
        "--dtype",
        "float32",
        "--overwrite",
    ]


def trained(out: Path) -> str:
    result = json.loads((out / "training.json").read_text())
    assert sorted(p.name for p in out.iterdir() if p.name.startswith(".") or p.name == "checkpoints") == []
    return _sha256((out / "model.safetensors").read_bytes(), json.dumps([result["after"], result["steps"]]).encode())


def validated(out: Path) -> str:
    runs = json.loads((out / "report.json").read_text())["runs"]
    assert len(runs) == 4
    return _sha256(json.dumps([(run["arm"], run["seed"], [p["loss"] for p in run["points"]]) for run in runs]).encode())


def analyzed(out: Path) -> str:
    read_run(out)
    assert (out / "note.txt").read_text() == NOTE, "what was not the command's is kept"
    return _sha256((out / "arrays.safetensors").read_bytes(), (out / "display.safetensors").read_bytes())


def _sha256(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()


COMMANDS: dict[str, tuple[Callable[[Path], list[object]], Digest]] = {
    "train": (train_arguments, trained),
    "validate": (validate_arguments, validated),
    "analyze": (analyze_arguments, analyzed),
}


def start(arguments: list[object], out: Path) -> int:
    """The number of a process that runs a command; what it prints goes to a file next to its folder."""
    others = {task.joinpath("comm").read_text().strip() for task in Path("/proc/self/task").iterdir()} - {MAIN}
    assert others <= {"jemalloc_bg_thd"}, "locks of other threads would stay held; Arrow's allocator minds forks"
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        log = os.open(out.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ["SEMFREEZE_HOME"] = str(out.with_suffix(".home"))
        app()([str(word) for word in (*arguments, "--device", "cpu", "-q", "--out", out)], standalone_mode=True)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def wait(child: int) -> int:
    """The exit code of a child, negative the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def outcome(child: int) -> tuple[int, float]:
    """The exit code of a child, as `wait` gives it, and its seconds on the processor."""
    _, status, usage = os.wait4(child, 0)
    return os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime


def kill_after(child: int, seconds: float, pause: float) -> None:
    """Kill a child that has not ended by itself before.

    Args:
        child: the number of its process.
        seconds: on the processor, after which it is killed.
        pause: seconds by the clock that pass then, in which it may wait for the disk.
    """
    clock = ~child << 3 | 2  # that of another process, as Linux numbers them
    until = os.WEXITED | os.WNOHANG | os.WNOWAIT
    while os.waitid(os.P_PID, child, until) is None and time.clock_gettime(clock) < seconds:
        time.sleep(0.0005)
    time.sleep(pause)
    os.kill(child, signal.SIGKILL)  # a zombie, where it has ended already


def in_child(digest: Digest, out: Path) -> str:
    """The digest of a result, read in a process of its own, which may start threads."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            remove_leftovers(out.parent)
            os.write(writing, digest(out).encode())
        except BaseException as error:
            os.write(writing, f"{type(error).__name__}: {error}".encode()[:2000])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    wait(child)
    return text


def prepare(workspace: Path) -> None:
    """Models, tasks and a plan, made in a process of its own."""
    if child := os.fork():
        assert wait(child) == 0
        return
    plan, _ = make_tiny_plan(workspace / "model")
    write_atomically(workspace / "plan.json", plan.model_dump_json())
    write_task(workspace / "train.jsonl", 8)
    write_task(workspace / "eval.jsonl", 20, seed=9)
    write_jsonl(workspace / "task.jsonl", task_rows(48))
    os._exit(0)


def main(workspace: Path, kind: str, first_seed: int, kills: int) -> None:
    torch.set_num_threads(1)
    this_machine.run_arm_process = lambda job, log, progress: arm_process.run_job(job)
    make_arguments, digest = COMMANDS[kind]
    prepare(workspace)
    arguments = make_arguments(workspace)
    reference = workspace / "reference"
    code, seconds = outcome(start(arguments, reference))
    assert code == 0, reference.with_suffix(".log").read_text()
    if kind == "analyze":
        (reference / "note.txt").write_text(NOTE)
    expected = in_child(digest, reference)
    assert len(expected) == 64, expected
    for seed in range(first_seed, first_seed + kills):
        out = workspace / "runs" / str(seed)
        out.parent.mkdir(exist_ok=True)
        if kind == "analyze":
            shutil.copytree(reference, out)
        chance = random.Random(seed)
        moment = chance.uniform(0, seconds)
        child = start(arguments, out)
        kill_after(child, moment, chance.uniform(0, _PAUSE))
        code, spent = outcome(child)
        hit = code == -signal.SIGKILL
        if not hit:
            seconds = min(seconds, spent)
        whole = kind != "analyze" or in_child(digest, out) == expected
        ended = kind == "train" and (out / "training.json").exists()
        code = wait(start(arguments, out))
        log = out.with_suffix(".log").read_text()
        right = whole and in_child(digest, out) == expected and "Traceback" not in log and code == (2 if ended else 0)
        line = {"seed": seed, "seconds": round(moment, 3), "hit": hit, "code": code, "right": right}
        print(json.dumps(line | ({} if right else {"log": log[-2000:], "found": in_child(digest, out)})), flush=True)
        shutil.rmtree(out)
        shutil.rmtree(out.with_suffix(".home"), ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
