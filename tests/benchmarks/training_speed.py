"""How much sooner a planned finetune is done: ratios to stock trainers, all arms one after the other on one machine.

`python -m tests.benchmarks.training_speed --train F --eval F [--depth K] [--steps N] --out DIR` trains four arms, each
in a process of its own: full finetuning and LoRA on all layers as stock trainers run them (the model's own loss), full
finetuning with the head at supervised positions, and layers K.. from the prefix cache for as many steps as cost the
FLOP of the last. The readings of each arm give the time at which its eval loss first reached the best of full
finetuning's own, the cache pass counted, evaluation not. Writes DIR/training_speed.json and prints a table.

The same command with --device cuda does it on a GPU. Interrupted, it goes on where it ended.
"""

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from semfreeze_core.cost import run_flop
from semfreeze_core.finetune.arm.arms import make_arms
from semfreeze_core.finetune.arm.job import ModelSource
from semfreeze_core.finetune.validation.request import VALIDATION_SETUP, ValidationRequest, prepare
from semfreeze_core.finetune.validation.validate import validate
from semfreeze_core.plan.make import make_plan
from semfreeze_core.progress import ProgressEvent
from semfreeze_core.records.validation import ArmRun, ValidationReport
from semfreeze_core.runs.folder import read_run
from semfreeze_core.runs.store import find_run
from semfreeze_core.storage import write_atomically
from tests.benchmarks.recorded import recorded_now


@dataclass(frozen=True)
class Timed:
    """One arm as it went.

    Attributes:
        step_seconds: median over its steps, the first three left out.
        cache_seconds: of the pass that fills the cache.
        best_loss: lowest curve loss it read.
        seconds_to: time at which its curve loss first reached a loss; None when it never did.
        peak_bytes: measured.
    """

    step_seconds: float
    cache_seconds: float
    best_loss: float
    points: tuple[tuple[float, float], ...]
    peak_bytes: int

    def seconds_to(self, loss: float) -> float | None:
        """Training seconds, cache pass included, until a reading was at `loss` or below."""
        return next((seconds for seconds, read in self.points if read <= loss), None)


def timed(run: ArmRun) -> Timed:
    """What an arm's run says about time."""
    points = tuple((point.seconds, point.curve_loss) for point in run.points)
    return Timed(
        median(run.step_seconds[3:] or run.step_seconds),
        run.cache_seconds,
        min(loss for _, loss in points),
        points,
        run.peak_bytes.measured,
    )


def arm_of(report: ValidationReport, name: str) -> Timed:
    """The one seed's run of an arm."""
    return timed(next(run for run in report.runs if run.arm == name))


def saved_over_epochs(request: ValidationRequest, epochs: int) -> float:
    """Share of the FLOP of a stock full finetune that the plan's depth saves over so many epochs, cache pass too."""
    prepared = prepare(request)
    (planned,) = [arm for arm in prepared.arms if arm.name == "planned"]
    setup = prepared.setups["planned"]
    setup = replace(setup, steps=epochs * setup.steps_per_epoch)
    (full,) = make_arms(("full",), prepared.shape, None)
    stock = replace(setup, prefix_cache=False, loss="materialised")
    return 1 - run_flop(prepared.shape, setup, planned.parts) / run_flop(prepared.shape, stock, full.parts)


def main() -> None:
    """Train the arms and print their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", default="example")
    parser.add_argument("--train", required=True)
    parser.add_argument("--eval", required=True)
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--readings", type=int, default=8)
    parser.add_argument("--train-examples", type=int, default=320)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    plan = make_plan(read_run(find_run(asked.run)), rule="manual", depth=asked.depth)
    ours = ValidationRequest(
        plan,
        asked.train,
        asked.eval,
        replace(VALIDATION_SETUP, steps=asked.steps, train_examples=asked.train_examples, precision=asked.precision),
        arms=("full", "planned"),
        n_eval=64,
        n_accuracy=0,
        n_between=asked.readings,
        model=ModelSource(source=plan.model.source, revision=plan.model.revision, device=asked.device),
    )
    stock = replace(ours, setup=replace(ours.setup, loss="materialised"), arms=("full", "lora"), match="steps")
    reports = {name: validate(r, asked.out / name, progress=_tell) for name, r in (("stock", stock), ("ours", ours))}
    arms = {
        "stock full": arm_of(reports["stock"], "full"),
        "stock LoRA": arm_of(reports["stock"], "lora"),
        "full, supervised head": arm_of(reports["ours"], "full"),
        f"freeze {asked.depth}, cached": arm_of(reports["ours"], "planned"),
    }
    planned = arms[f"freeze {asked.depth}, cached"]
    result = {
        "recorded": recorded_now(),
        "settings": {k: str(v) for k, v in vars(asked).items()},
        "arms": {name: vars(arm) for name, arm in arms.items()},
        "step_ratio": {name: arm.step_seconds / planned.step_seconds for name, arm in arms.items()},
        "time_to_best_ratio": {
            name: _ratio(arm.seconds_to(arm.best_loss), planned.seconds_to(arm.best_loss)) for name, arm in arms.items()
        },
        "peak_ratio": {name: planned.peak_bytes / arm.peak_bytes for name, arm in arms.items()},
        "flop_saved_over_3_epochs": saved_over_epochs(ours, 3),
    }
    write_atomically(asked.out / "training_speed.json", json.dumps(result, indent=1) + "\n")
    print(f"{'arm':28}{'step':>9}{'x':>7}{'best loss':>11}{'at':>9}{'x':>7}{'peak':>10}{'ours of it':>12}")
    for name, arm in arms.items():
        reached, ratio = arm.seconds_to(arm.best_loss), result["time_to_best_ratio"][name]
        print(
            f"{name:28}{arm.step_seconds:8.2f}s{result['step_ratio'][name]:7.2f}{arm.best_loss:11.3f}{reached:8.0f}s"
            f"{ratio if ratio is None else round(ratio, 2)!s:>7}{arm.peak_bytes / 2**30:7.2f}GiB"
            f"{result['peak_ratio'][name]:11.0%}"
        )
    print(f"FLOP saved over 3 epochs against stock full, cache pass counted: {result['flop_saved_over_3_epochs']:.1%}")


def _ratio(theirs: float | None, ours: float | None) -> float | None:
    return None if theirs is None or ours is None else theirs / ours


def _tell(event: ProgressEvent) -> None:
    if event.message or not event.done:
        print(event.stage, event.message, flush=True)


if __name__ == "__main__":
    main()
