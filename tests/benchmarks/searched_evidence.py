"""Real finetunes of many tasks by several variants, each at its own searched learning rate: what claims rest on.

`python -m tests.benchmarks.searched_evidence --data DIR --out DIR` trains one cell a task, variant and seed, and keeps
each task's in tests/benchmarks/results/searched/TASK.json after every cell. Interrupted, it goes on. The cells hold
each eval item's loss at every rate that a search tried, and after a quarter, a half and all of the steps, so that rules
can be replayed on them. searched_evidence.md says what was expected before the first of them ran.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

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
from semfreeze_core.records.task_checks import TaskChecks
from semfreeze_core.records.training import TrainingSetup
from semfreeze_core.records.usual_depths import quarter_depth
from semfreeze_core.records.validation import ArmRun, ValidationReport
from semfreeze_core.runs.folder import read_run, write_run
from semfreeze_core.runs.reports import read_validation
from semfreeze_core.storage import write_atomically
from semfreeze_core.workflow import AnalysisRequest, analyze
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


@dataclass(frozen=True)
class Known:
    """What is known of a task before anything is trained; fields as in Task, whose picks are the rules' depths."""

    checks: TaskChecks
    rule_depths: dict[str, int | None]
    completion_tokens: list[int]


def main() -> None:
    """Train what is missing, task by task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder above the tasks' JSONL files")
    parser.add_argument("--out", type=Path, required=True, help="working folder; what it holds is used")
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--model", default="embedded")
    asked = parser.parse_args()
    for name in asked.tasks.split(","):
        run_task(name, asked.model, asked.data, asked.out)


def run_task(name: str, model: str, data: Path, out: Path) -> None:
    """Read the model on the task, then train every variant."""
    train, evaluation = files(name, data)
    short = name.removeprefix("sample:")
    run = reading(model, train, out / "runs" / short)
    n_layers = run.shape.n_layers
    two_thirds, quarter = 2 * n_layers // 3, quarter_depth(n_layers)
    request = ValidationRequest(
        make_plan(run, rule="manual", depth=two_thirds),
        train,
        evaluation,
        TrainingSetup(batch_size=BATCH, sequence_length=LENGTH, train_examples=N_TRAIN, steps=STEPS),
        arms=(
            *("full", f"depth:{two_thirds}", f"depth:{quarter}", "lora"),
            f"{PROGRESSIVE}:{quarter}-{two_thirds}@{WIDE_STEPS}",
            *(f"depth:{n_layers // 2}", f"depth:{depth_cap(n_layers)}"),
        ),
        seeds=1,
        match="steps",
        n_eval=N_EVAL,
        n_accuracy=0,
        n_between=2,
        share_caches=True,
    )
    data = prepare(request).data
    known = Known(
        checks=check_task(data.train.tokenized, data.evaluation.tokenized),
        rule_depths={rule: make_plan(run, rule=rule).freeze_depth for rule in AUTOMATIC_RULES},
        completion_tokens=[int(item.supervised.sum()) for item in data.evaluation.tokenized],
    )
    folder = out / "validations" / short

    def keep(event: ProgressEvent) -> None:
        if event.message:
            print(event.message, flush=True)
        if (folder / "report.json").exists() and not event.done:  # a stage begins: another cell may have ended
            write(short, read_validation(folder), known)

    write(short, validate(request, folder, progress=keep), known)


def files(name: str, data: Path) -> tuple[str, str]:
    """A task's training and eval file."""
    if name.startswith("sample:"):
        return f"{name}_train", f"{name}_eval"
    train = next(iter(sorted(data.rglob(f"{name}_train.jsonl"))), None)
    ends = ("eval", "test")
    beside = [] if train is None else [train.with_name(f"{name}_{end}.jsonl") for end in ends]
    path = next((path for path in beside if path.exists()), None)
    if train is None or path is None:
        raise SystemExit(f"{data} has no {name}_train.jsonl with a file to evaluate on beside it")
    return str(train), str(path)


def reading(model: str, train: str, folder: Path) -> Run:
    """The analysis of the task."""
    if not folder.exists():
        write_run(analyze(AnalysisRequest(model, train, max_length=LENGTH, examples=N_READ)), folder)
    return read_run(folder)


def write(name: str, report: ValidationReport, known: Known) -> None:
    """Keep the cells there are."""
    document = Task(
        task=name,
        settings=report.settings.model_copy(update={"train": name, "eval": name, "model": "embedded"}),
        n_layers=report.n_layers,
        before=rounded(report.baseline.item_losses),
        checks=known.checks,
        picks=known.rule_depths,
        completion_tokens=known.completion_tokens,
        cells=[cell(run, report) for run in report.runs],
        provenance=report.provenance,
    )
    write_atomically(RESULTS / f"{name}.json", document.model_dump_json() + "\n")


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
