"""Default learning rates, one a kind of arm, chosen on a task that no claim is made on.

`python -m tests.benchmarks.learning_rates --out DIR` trains full finetuning, a frozen depth and LoRA on
sample:support_intents_train at several rates each and writes tests/benchmarks/learning_rates.md. Interrupted, it
goes on.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from semfreeze_core.finetune.validation.request import VALIDATION_SETUP, ValidationRequest
from semfreeze_core.finetune.validation.validate import validate
from semfreeze_core.plan.make import make_plan
from semfreeze_core.progress import ProgressEvent
from semfreeze_core.records.validation import ValidationReport
from semfreeze_core.runs.folder import read_run
from semfreeze_core.runs.store import example_run
from semfreeze_core.storage import write_atomically

ARMS = {"full": "full", "frozen": "depth:20", "lora": "lora"}
GRID = {"full": (3e-5, 1e-4, 3e-4, 1e-3), "frozen": (1e-4, 3e-4, 1e-3), "lora": (3e-4, 1e-3, 3e-3)}
TASK = "sample:support_intents"
REPORT_PATH = Path(__file__).with_suffix(".md")


def main() -> None:
    """Train the grid and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=30)
    asked = parser.parse_args()
    plan = make_plan(read_run(example_run()), rule="manual", depth=20)
    reports = []
    for index in range(max(map(len, GRID.values()))):
        kinds = [kind for kind, rates in GRID.items() if index < len(rates)]
        request = ValidationRequest(
            plan,
            f"{TASK}_train",
            f"{TASK}_eval",
            replace(VALIDATION_SETUP, steps=asked.steps, train_examples=8 * asked.steps),
            arms=tuple(ARMS[kind] for kind in kinds),
            rates={kind: GRID[kind][index] for kind in kinds},
            match="steps",
            n_eval=64,
            n_accuracy=0,
            n_between=1,
        )
        reports.append(validate(request, asked.out / str(index), progress=_tell))
    write_atomically(REPORT_PATH, table(reports, asked.steps))
    print(REPORT_PATH.read_text())


def table(reports: list[ValidationReport], steps: int) -> str:
    """The grid as Markdown, the best rate of each kind in bold."""
    lines = [
        "# Learning rates",
        "",
        f"Made by `python -m tests.benchmarks.learning_rates`: embedded model, {TASK}_train, {steps} steps of 8 "
        "examples, one seed, AdamW, constant after warm-up. Mean eval loss of 64 items, nats a token; "
        f"{reports[0].baseline.loss:.3f} before.",
        "",
        "| kind | rates: losses |",
        "|---|---|",
    ]
    for kind, arm in ARMS.items():
        losses = [report.arms[arm].eval_loss_after for report in reports if arm in report.arms]
        best = min(loss for loss in losses if loss is not None)
        cells = [_cell(rate, loss, best) for rate, loss in zip(GRID[kind], losses, strict=True)]
        lines.append(f"| {kind} ({arm}) | {', '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(rate: float, loss: float | None, best: float) -> str:
    if loss is None:
        return f"{rate:g}: failed"
    return f"**{rate:g}: {loss:.3f}**" if loss == best else f"{rate:g}: {loss:.3f}"


def _tell(event: ProgressEvent) -> None:
    if event.message or not event.done:
        print(event.stage, event.message, flush=True)


if __name__ == "__main__":
    main()
