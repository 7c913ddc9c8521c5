"""Real finetunes of many tasks by several variants, each at its own searched learning rate: what claims rest on.

`python -m tests.benchmarks.searched_evidence --data DIR --out DIR` trains what tests/benchmarks/results/searched lacks:
one cell a task and variant, in a validation of its own on the same rows and batches, added to TASK.json as it ends.
Interrupted, it goes on, also where DIR is lost. The cells hold each eval item's loss at every rate that a search tried,
and after a quarter, a half and all of the steps, so that rules can be replayed on them. searched_evidence.md says what
was expected before the first of them ran.
"""

import argparse
from pathlib import Path

import numpy as np

from semfreeze_core.finetune.validation.request import ValidationRequest, prepare
from semfreeze_core.finetune.validation.validate import validate
from semfreeze_core.gains.task_checks import check_task
from semfreeze_core.plan.decide import AUTOMATIC_RULES
from semfreeze_core.plan.make import make_plan
from semfreeze_core.plan.rules import depth_cap
from semfreeze_core.progress import ProgressEvent
from semfreeze_core.records.defaults import PROGRESSIVE, WIDE_STEPS
from semfreeze_core.records.rates import RateSearch
from semfreeze_core.records.run import Run
from semfreeze_core.records.training import TrainingSetup
from semfreeze_core.records.usual_depths import quarter_depth
from semfreeze_core.records.validation import ArmRun, ValidationReport
from semfreeze_core.runs.folder import read_run, write_run
from semfreeze_core.storage import write_atomically
from semfreeze_core.workflow.analysis import analyze
from semfreeze_core.workflow.request import AnalysisRequest
from tests.benchmarks.searched_cells import RESULTS, Cell, Reading, Task

STEPS, BATCH, LENGTH, N_TRAIN, N_EVAL, N_READ = 80, 4, 384, 480, 128, 128
# In order of worth. Those with a colon come with the product; the others are files of --data.
TASKS = (
    "alpaca_en",
    "code_alpaca",
    "short_instructions",
    "sample:sentence_to_json",
    "nl2bash",
    "en_lug",
    "banking77",
    "sample:quantity_problems",
    "many_tasks",
    "gsm8k",
    "advising_sql",
    "sample:support_intents",
)


def main() -> None:
    """Train what is missing, task by task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder above the tasks' JSONL files")
    parser.add_argument("--out", type=Path, required=True, help="working folder; what it holds is used")
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--variants", help="with commas, in this order; all by default")
    parser.add_argument("--model", default="embedded")
    asked = parser.parse_args()
    wanted = asked.variants.split(",") if asked.variants else None
    for name in asked.tasks.split(","):
        run_task(name, wanted, asked.model, asked.data, asked.out)


def run_task(name: str, wanted: list[str] | None, model: str, data: Path, out: Path) -> None:
    """Read the model on the task, then train every variant whose cell is missing."""
    short = name.removeprefix("sample:")
    run = reading(model, files(name, data)[0], out / "runs" / short)
    path = RESULTS / f"{short}.json"
    for variant in wanted or all_variants(run.shape.n_layers):
        known = read(path)
        if known is None or known.cell(variant) is None:
            trained = train(run, variant, name, data, out / "validations" / f"{short}-{variant}")
            # Another process may have added a variant in the meantime.
            write_atomically(path, join(read(path), trained).model_dump_json() + "\n")


def read(path: Path) -> Task | None:
    """A task's cells so far; None where it has none."""
    return Task.model_validate_json(path.read_text()) if path.exists() else None


def all_variants(n_layers: int) -> list[str]:
    """What is compared, in order of worth."""
    two_thirds, quarter = 2 * n_layers // 3, quarter_depth(n_layers)
    return [
        *("full", f"depth:{two_thirds}", f"depth:{quarter}", f"depth:{n_layers // 2}", "lora"),
        *(f"{PROGRESSIVE}:{quarter}-{two_thirds}@{WIDE_STEPS}", f"depth:{depth_cap(n_layers)}"),
    ]


def join(known: Task | None, trained: Task) -> Task:
    """A task with one more variant.

    Raises:
        ValueError: they were not trained and evaluated alike.
    """
    if known is None:
        return trained
    alike = ("train_digest", "eval_digest", "n_train", "n_eval", "setup", "seeds", "n_between")
    other = [name for name in alike if getattr(known.settings, name) != getattr(trained.settings, name)]
    if not np.allclose(known.before, trained.before, atol=1e-3):
        other.append("the losses before training")
    if other:
        raise ValueError(f"{known.task}: {', '.join(other)} differ from those of the cells that are there")
    arms = [*known.settings.arms, *(arm for arm in trained.settings.arms if arm not in known.settings.arms)]
    replaced = {(cell.variant, cell.seed) for cell in trained.cells}
    cells = [cell for cell in known.cells if (cell.variant, cell.seed) not in replaced]
    return known.model_copy(
        update={"settings": known.settings.model_copy(update={"arms": arms}), "cells": [*cells, *trained.cells]}
    )


def train(run: Run, variant: str, name: str, data: Path, folder: Path) -> Task:
    """One variant on one task, as a validation in `folder`."""
    train_file, evaluation = files(name, data)
    short = name.removeprefix("sample:")
    request = ValidationRequest(
        make_plan(run, rule="manual", depth=2 * run.shape.n_layers // 3),
        train_file,
        evaluation,
        TrainingSetup(batch_size=BATCH, sequence_length=LENGTH, train_examples=N_TRAIN, steps=STEPS),
        arms=(variant,),
        seeds=1,
        match="steps",
        n_eval=N_EVAL,
        n_accuracy=0,
        n_between=2,
    )
    prepared = prepare(request).data

    def show(event: ProgressEvent) -> None:
        if event.message:
            print(event.message, flush=True)

    report = validate(request, folder, progress=show)
    return Task(
        task=short,
        settings=report.settings.model_copy(update={"train": short, "eval": short, "model": "embedded"}),
        n_layers=report.n_layers,
        before=rounded(report.baseline.item_losses),
        checks=check_task(prepared.train.tokenized, prepared.evaluation.tokenized),
        picks={rule: make_plan(run, rule=rule).freeze_depth for rule in AUTOMATIC_RULES},
        completion_tokens=[int(item.supervised.sum()) for item in prepared.evaluation.tokenized],
        cells=[cell(run, report) for run in report.runs],
        provenance=report.provenance,
    )


def files(name: str, data: Path) -> tuple[str, str]:
    """A task's training and eval file."""
    if name.startswith("sample:"):
        return f"{name}_train", f"{name}_eval"
    train = next(iter(sorted(data.rglob(f"{name}_train.jsonl"))), None)
    ends = ("eval", "test")
    beside = [] if train is None else [train.with_name(f"{name}_{end}.jsonl") for end in ends]
    evaluation = next((path for path in beside if path.exists()), None)
    if train is None or evaluation is None:
        raise SystemExit(f"{data} has no {name}_train.jsonl with a file to evaluate on beside it")
    return str(train), str(evaluation)


def reading(model: str, train: str, folder: Path) -> Run:
    """The analysis of the task."""
    if not folder.exists():
        write_run(analyze(AnalysisRequest(model, train, max_length=LENGTH, examples=N_READ)), folder)
    return read_run(folder)


def cell(run: ArmRun, report: ValidationReport) -> Cell:
    """What is kept of a run."""
    summary = report.arms[run.arm]
    return Cell(
        variant=run.arm,
        seed=run.seed,
        freeze_depth=summary.freeze_depth,
        status=run.status,
        reason=run.reason,
        rate=run.learning_rate,
        search=None if run.rate_search is None else short_search(run.rate_search),
        readings=[
            Reading(step=p.step, flop=p.flop, seconds=p.seconds, item_losses=rounded(p.item_losses or []))
            for p in run.points
        ],
        relative_flop=summary.relative_flop,
        peak_bytes=run.peak_bytes.measured,
    )


def short_search(search: RateSearch) -> RateSearch:
    """With losses of five digits."""
    trials = [
        trial.model_copy(
            update={
                name: None if (losses := getattr(trial, name)) is None else rounded(losses)
                for name in ("half_losses", "losses", "train_losses")
            }
        )
        for trial in search.trials
    ]
    return search.model_copy(update={"trials": trials})


def rounded(losses: list[float]) -> list[float]:
    """To five digits."""
    return [round(loss, 5) for loss in losses]


if __name__ == "__main__":
    main()
