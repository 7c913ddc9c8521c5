"""Real finetunes of several tasks at several freeze depths: what every recommendation is held against.

`python -m tests.benchmarks.evidence --data DIR --out DIR` trains one cell a task, depth and seed, and keeps each task's
cells in tests/benchmarks/results/evidence/TASK.json as soon as it has some. Interrupted, it goes on. The learning
rate is the default of all depths, full finetuning's best on a task of its own (learning_rates.md). `evidence_report`
reads the cells.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from semfreeze_core.finetune.validation.report import losses_at
from semfreeze_core.finetune.validation.request import ValidationRequest
from semfreeze_core.finetune.validation.validate import validate
from semfreeze_core.gains.noninferiority import Floats
from semfreeze_core.plan.candidate_depths import auto_depths, candidates_of, depth_arms
from semfreeze_core.plan.make import curve_of, make_plan
from semfreeze_core.plan.opinions import gather_opinions
from semfreeze_core.progress import ProgressEvent
from semfreeze_core.records.run import Run
from semfreeze_core.records.training import TrainingSetup
from semfreeze_core.records.validation import ValidationReport
from semfreeze_core.runs.folder import read_run, write_run
from semfreeze_core.runs.reports import read_validation
from semfreeze_core.storage import write_atomically
from semfreeze_core.workflow.analysis import analyze
from semfreeze_core.workflow.request import AnalysisRequest
from tests.benchmarks.evidence_cells import Cell, Pick, TaskCells
from tests.benchmarks.evidence_settings import lower_coverage
from tests.benchmarks.evidence_tasks import TASKS, Task, shuffled_completions

RESULTS = Path(__file__).parent / "results" / "evidence"
METRICS = ("semantic", "logit_z")


@dataclass(frozen=True)
class Asked:
    """What the command line says."""

    model: str
    model_name: str
    data: Path
    out: Path
    steps: int
    seeds: int
    device: str
    collect: bool


def main() -> None:
    """Train what is missing, task by task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        help="folder of the tasks' JSONL files",
    )
    parser.add_argument("--out", type=Path, required=True, help="working folder; what it holds is used")
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--model-name", default="", help="of another model, in words; its cells are kept apart")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--collect", action="store_true", help="train nothing: keep the cells that are there")
    parsed = vars(parser.parse_args())
    names = parsed.pop("tasks").split(",")
    asked = Asked(**parsed)
    if (asked.model != "embedded") != bool(asked.model_name):
        parser.error("--model-name belongs to a --model other than the embedded one")
    for name in names:
        run_task(TASKS[name], asked)


def run_task(task: Task, asked: Asked) -> None:
    """Read the model on the task, then train every depth with every seed."""
    train, evaluation = task.files(asked.data, asked.out / "data")
    reading = _reading(train, asked.out / "runs" / task.name, task.n_read, asked)
    control = shuffled_completions(train, asked.out / "data" / f"shuffled_{task.name}.jsonl")
    shuffled = _reading(control, asked.out / "runs" / f"shuffled_{task.name}", task.n_read, asked)
    plan = make_plan(reading, rule="manual", depth=reading.shape.n_layers // 2)
    depths = auto_depths(reading.shape.n_layers, ())
    request = ValidationRequest(
        plan,
        train,
        evaluation,
        TrainingSetup(batch_size=task.batch_size, sequence_length=512, train_examples=task.n_train, steps=asked.steps),
        arms=depth_arms(depths),
        seeds=asked.seeds,
        n_eval=task.n_eval,
        n_accuracy=0,
        n_between=4,
        share_caches=True,
    )
    folder = asked.out / "sweeps" / task.name
    report = read_validation(folder) if asked.collect else validate(request, folder, progress=_tell)
    keep(task, asked.model_name, reading, shuffled, report)


def keep(task: Task, model_name: str, reading: Run, shuffled: Run, report: ValidationReport) -> None:
    """Write the cells there are, and what every rule says of the task."""
    cells = []
    for name, arm in report.arms.items():
        runs = [run for run in report.runs if run.arm == name]
        at_steps = losses_at(runs, "steps")
        at_compute = losses_at(runs, "compute") if arm.freeze_depth else at_steps
        for run in runs:
            if run.seed in at_steps:
                cells.append(
                    Cell(
                        freeze_depth=arm.freeze_depth,
                        seed=run.seed,
                        losses={
                            "steps": [round(x, 5) for x in at_steps[run.seed]],
                            "compute": [round(x, 5) for x in at_compute[run.seed]],
                        },
                        curve=[(point.step, point.flop, round(point.curve_loss, 5)) for point in run.points],
                        readings=[[round(x, 5) for x in point.item_losses or ()] for point in run.points],
                        flop=run.flop.counted,
                        relative_flop=arm.relative_flop,
                        seconds=run.points[-1].seconds,
                        steps=run.steps,
                    )
                )
    depths, coverage, low, verdicts = {}, {}, {}, dict[str, str]()
    for metric in METRICS:
        candidates = candidates_of(gather_opinions(reading, metric=metric))
        depths[metric] = {
            name: Pick(depth=pick.depth, recommended=pick.recommended) for name, pick in candidates.items()
        }
        curve = curve_of(reading, metric)
        coverage[metric] = _or_none(curve.coverage.mean)
        low[metric] = _or_none(lower_coverage(curve.coverage_replicates))
        verdicts[metric] = curve.evidence.verdict
    document = TaskCells(
        task=task.name,
        about=task.about,
        model=model_name,
        contrary=task.contrary,
        settings=report.settings.model_copy(
            update={"train": task.name, "eval": task.name, "model": model_name or "embedded"}
        ),
        n_layers=report.n_layers,
        before=[round(x, 5) for x in report.baseline.item_losses],
        cells=cells,
        n_cells_asked=len(report.settings.arms) * len(report.settings.seeds),
        picks=depths,
        coverage=coverage,
        coverage_low=low,
        verdicts=verdicts,
        shuffled={metric: curve_of(shuffled, metric).evidence.verdict for metric in METRICS},
        provenance=report.provenance,
    )
    name = "-".join([task.name, *model_name.split()])
    write_atomically(RESULTS / f"{name}.json", document.model_dump_json(indent=None) + "\n")


def _or_none(values: Floats) -> list[float | None]:
    return [float(round(x, 5)) if np.isfinite(x) else None for x in values]


def _reading(train: str, folder: Path, n: int, asked: Asked) -> Run:
    if not folder.exists():
        request = AnalysisRequest(asked.model, train, device=asked.device, max_length=512, examples=n)
        write_run(analyze(request, _tell), folder)
    return read_run(folder)


def _tell(event: ProgressEvent) -> None:
    if event.message:
        print(event.message, flush=True)


if __name__ == "__main__":
    main()
