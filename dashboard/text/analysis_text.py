"""Words of a new analysis: the examples it would read, the jobs, and how far they are."""

import re
import shlex
from collections.abc import Sequence
from typing import Any

import pandas as pd

from semfreeze_core.records.job import Job, JobProgress
from semfreeze_core.records.preview import DataPreview, RenderedExample, RenderedPiece
from semfreeze_core.sources.data.fields import FIELD_FLAGS, READ_AS
from semfreeze_core.wording.escaping import markdown_sentence, terminal_text
from semfreeze_core.wording.numbers import duration, percent
from semfreeze_core.wording.runs import job_state

INTRODUCTION = (
    "The model runs once over a sample of your examples; what each layer means for them is kept as a run. It runs "
    "in the background: close the page, come back, and find it here."
)
escaped = markdown_sentence  # as pages call it
# What a page says in the place of phrases of the command line, which are patterns.
_ON_PAGES = {
    r"--rule measured runs (.*): give --train and --eval": r"The rule measured runs \1: start pilots on the page Prove",
    r"Run `semfreeze sweep` first, and train with `--keep-best`": "Start a sweep on the page Prove first, and keep the "
    "checkpoint with the lowest eval loss when you train",
    r"Use --max-cost-fraction instead": "Set a limit of compute instead",
    r", or continue with --allow-few \([^)]*\)": "",
    r", or continue with --allow-new-tokens": "",
    r"which `semfreeze preview --skipped FILE` lists": "which Download skipped rows lists",
    r", or give its rate, as in --lr \S+?(?=\.?(?:\s|$))": "",
    r"with --eval\b": "under Evaluate on",
    r"which --template can add": "as Read it, template and completion, can",
    r"To freeze a quarter of the layers, (.*?), add --depth (\d+); to train every layer, --depth 0": r"To freeze a "
    r"quarter of the layers, \1, set depth \2 on the page Decide, 0 to train every layer; then choose Freeze depth, as "
    "on Decide, here",
    r" With --model, --calibrate counts it\.": "",
}
# The label of the control that does what a flag does.
_CONTROLS = {
    "batch-size": "Batch",
    "batches": "Batches",
    "checkpointing": "Checkpointing",
    "epochs": "Epochs",
    "eval": "Evaluate on",
    "eval-examples": "Eval examples",
    "frozen-bits": "Quantize frozen layers",
    "gpu": "GPU",
    "lora": "Train adapters",
    "lora-rank": "LoRA rank",
    "loss": "Loss",
    "max-cost-fraction": "Compute",
    "max-memory-gib": "Memory",
    "objective": "Objective",
    "optimizer": "Optimizer",
    "precision": "Precision",
    "prefix-cache": "Prefix cache",
    "rule": "Rule",
    "seeds": "Seeds",
    "sequence-length": "Length",
    "steps": "Steps",
    "stock": "Stock trainer",
    "train": "Train on",
    "train-examples": "Train examples",
}
_LONGEST_PIECE = 700  # characters of one piece that are shown


def preview_sentence(data: DataPreview, name: str, n_asked: int) -> str:
    """How the data would be read, above the examples; without the fields where a note below says them.

    Args:
        data: what would be read.
        name: of the data.
        n_asked: examples to draw; 0 takes all.
    """
    n = min(n_asked, data.n_usable) or data.n_usable
    drawn = f"{n:,} of them are analyzed" if n < data.n_usable else "All of them are analyzed"
    usable = f"Of {escaped(name)}, {data.n_usable:,} of {data.n_rows:,} rows can be used"
    if any(note.startswith(READ_AS) for note in data.notes):
        return f"**{usable}.** {drawn}. Target tokens are marked."
    columns = {name.removesuffix("_field"): column for name, column in data.mapping.items() if column is not None}
    fields = ", ".join(f"{name} from {escaped(repr(column))}" for name, column in columns.items())
    return f"**{usable}**: {fields}. {drawn}. Target tokens are marked."


def rendered_example(example: RenderedExample) -> str:
    """One example as Markdown, as the model gets it, its supervised text marked."""
    pieces = []
    for piece in example.pieces:
        *lines, last = map(escaped, _shortened(piece.text).split("\n"))
        lines = [*(f"{line}⏎" for line in lines), last]
        if piece.supervised:
            lines = [f":orange-background[{line}]" if line else "" for line in lines]
        pieces.append("  \n".join(lines))
    supervised = sum(piece.n_tokens for piece in example.pieces if piece.supervised)
    total = sum(piece.n_tokens for piece in example.pieces)
    label = "" if example.label is None else f", label {escaped(example.label)}"
    cut = f", {example.truncated} cut on the left" if example.truncated else ""
    return f"{''.join(pieces)}\n\n:small[:gray[{supervised} of {total} tokens are targets{label}{cut}]]"


def run_example(example: "pd.Series[Any]") -> RenderedExample:
    """An example of a run, prompt and completion, as `rendered_example` takes it."""
    label = example["label"]
    pieces = (
        RenderedPiece(terminal_text(example["prompt"]), False, example["n_tokens"] - example["n_supervised"]),
        RenderedPiece(terminal_text(example["completion"]), True, example["n_supervised"]),
    )
    return RenderedExample(int(example["row"]), None if pd.isna(label) else str(label), pieces, 0)


def form_message(text: str) -> str:
    """A message of the command line's, naming a page's controls where it names flags."""
    message = text.replace(f"with {FIELD_FLAGS}", "under Read it")
    for phrase, here in _ON_PAGES.items():
        message = re.sub(phrase, here, message)
    message = re.sub(r" \(--(?:\w+-field|template)\)", "", message)
    message = re.sub(r"--(\w+)-field\b|--(template)\b", lambda match: (match[1] or match[2]).capitalize(), message)
    return re.sub(r"(?<![\w-])--([a-z][a-z-]*)", lambda match: _CONTROLS.get(match[1], match[0]), message)


def _shortened(text: str) -> str:
    if len(text) <= _LONGEST_PIECE:
        return text
    half = _LONGEST_PIECE // 2
    return f"{text[:half]} … ({len(text) - 2 * half:,} characters left out) … {text[-half:]}"


def as_command(arguments: Sequence[str]) -> str:
    """A semfreeze command as it is typed."""
    return shlex.join(["semfreeze", *arguments])


def job_line(job: Job, now: float) -> str:
    """What a job does and how it stands."""
    title = f"**{escaped(job.spec.title)}**"
    match job.state:
        case "queued":
            queued = (
                f"behind {job.jobs_ahead} other{'' if job.jobs_ahead == 1 else 's'}" if job.jobs_ahead else "starting"
            )
            return f"{title}: queued, {queued}"
        case "running":
            return f"{title}: running for {duration(now - (job.started or now))}"
        case "done":
            took = (job.ended or now) - (job.started or now)
            return f"{title}: done in {duration(took)}"
        case "dead":
            return f"{title}: stopped without an error message (killed or out of memory)"
    return f"{title}: {job_state(job.state)}"


def jobs_label(jobs: Sequence[Job], progress: JobProgress | None) -> str:
    """How the jobs stand, in two or three words.

    Args:
        jobs: oldest first.
        progress: of the one that runs.
    """
    unfinished = [job for job in jobs if not job.finished]
    if not unfinished:
        failed = jobs[-1].state in ("failed", "dead")
        return "Jobs: the last one failed" if failed else "Jobs"
    share = "" if progress is None or progress.fraction is None else f", {percent(progress.fraction)} of this part"
    waiting = f", {len(unfinished) - 1} waiting" if unfinished[1:] else ""
    return f"Jobs: {'running' if progress else 'starting'}{share}{waiting}"


def stage_line(progress: JobProgress | None) -> str:
    """The stage a job is in, how much of it is done, and how long that takes yet."""
    if progress is None:
        return "Starting"
    line = escaped(progress.stage)
    if progress.total:
        line += f": {progress.done:,} of {progress.total:,} {progress.unit}"
    if progress.seconds_left is not None and progress.seconds_left >= 1:  # what is left then is not of this count
        line += f", about {duration(progress.seconds_left)} left of this part"
    return line
