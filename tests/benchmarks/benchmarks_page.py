"""What docs/benchmarks.md says was measured on CPUs, made from the results.

`python -m tests.benchmarks.benchmarks_page` writes it there, a test compares it. gpu_report.py makes the section about
GPUs.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from textwrap import fill
from typing import Any

from semfreeze_core.storage import write_atomically
from semfreeze_core.wording.numbers import percent
from tests.benchmarks.gpu_report import PAGE
from tests.benchmarks.recorded import recorded_text

RESULTS = Path(__file__).parent / "results"
BEGIN, END = "<!-- made by python -m tests.benchmarks.benchmarks_page -->\n", "<!-- end of what is made -->\n"
_BATCHES = ("8", "16")  # of those in the results


def rendered_page(page: str, results: Path = RESULTS) -> str:
    """The page with its section about CPUs made anew."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    parts = (_training(results), _checkpoints(results), _padding(results))
    return "".join([before, BEGIN, *(f"\n{chr(10).join(lines)}\n" for lines in parts), "\n", END, after])


def _training(results: Path) -> Iterator[str]:
    runs = [_read(results, name) for name in ("training_speed_banking77", "training_speed_banking77_again")]
    shown = {
        "stock LoRA": "LoRA in a stock trainer",
        "full, supervised head": "full finetuning, logits of target tokens only",
        f"freeze {runs[0]['settings']['depth']}, cached": f"{runs[0]['settings']['depth']} layers frozen, prefix cache",
    }
    yield from ("### Steps and peak memory of a finetune", "")
    yield _filled(
        f"Shares of stock full finetuning, in two runs of {runs[0]['settings']['steps']} steps with "
        f"{runs[0]['settings']['train_examples']} examples of banking77 and the bundled model, in "
        f"{runs[0]['settings']['precision']} ({recorded_text(runs[0]['recorded'])}). What filling the cache takes is "
        "not in a step."
    )
    yield from ("", "| | step time | peak memory |", "|---|---:|---:|")
    for name, label in shown.items():
        times = [run["step_ratio"][name] / run["step_ratio"]["stock full"] for run in runs]
        peaks = [run["arms"][name]["peak_bytes"] / run["arms"]["stock full"]["peak_bytes"] for run in runs]
        yield f"| {label} | {' and '.join(map(percent, times))} | {' and '.join(map(percent, peaks))} |"


def _checkpoints(results: Path) -> Iterator[str]:
    measured = _read(results, "cheap_speed")
    checkpoint, frozen, states = measured["checkpoint"], measured["frozen"]["ratio"], measured["states"]["ratio"]
    yield from ("### Checkpoints, states and frozen weights", "")
    asked = measured["asked"]
    yield _filled(
        f"With the shape of {asked['size']} and steps of {asked['batch_size'] * asked['length']} tokens "
        f"({recorded_text(measured['recorded'])}):"
    )
    yield ""
    yield _listed(
        f"A checkpoint takes {checkpoint['checkpoint_bytes'] / 1e6:.0f} MB and the best weights alone "
        f"{checkpoint['weights_alone_bytes'] / 1e6:.0f} MB; writing them takes {checkpoint['checkpoint_in_steps']:.2f} "
        f"and {checkpoint['weights_alone_in_steps']:.2f} of a step's time."
    )
    yield _listed(
        f"Boundary states in bfloat16 take {percent(states['bytes'])} of float32's bytes, and a batch of them "
        f"{percent(states['gather_seconds'])} of the time to gather."
    )
    yield _listed(
        f"LoRA on frozen matrices in bfloat16 holds {percent(frozen['weights_bytes'])} of the weights' bytes in "
        f"float32, at {percent(frozen['step_seconds'])} of the time of a step."
    )


def _padding(results: Path) -> Iterator[str]:
    measured = _read(results, "padding")
    yield from ("### Batches of like length", "")
    yield _filled(
        "Tokens with padding as a multiple of those without, and the FLOPs of full finetuning by length as a share of "
        f"those at random, with the tokenizer of the bundled model ({recorded_text(measured['recorded'])}):"
    )
    header = "".join(f" batch of {size}: random, by length, FLOPs |" for size in _BATCHES)
    yield from ("", f"| task | mean tokens |{header}", f"|---|---:|{'---:|' * len(_BATCHES)}")
    for name, task in measured["tasks"].items():
        cells = "".join(
            f" {one['random']:.2f}, {one['by-length']:.2f}, {percent(one['flop_share'])} |"
            for one in (task["batches"][size] for size in _BATCHES)
        )
        yield f"| {name} | {task['mean_tokens']:.0f} |{cells}"


def flop_range(size: str, results: Path = RESULTS) -> str:
    """Least and most FLOPs of batches by length over the tasks, as other pages quote them: "54% to 73%"."""
    shares = [task["batches"][size]["flop_share"] for task in _read(results, "padding")["tasks"].values()]
    return f"{percent(min(shares))} to {percent(max(shares))}"


def _read(results: Path, name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((results / f"{name}.json").read_text())
    return document


def _filled(text: str) -> str:
    return fill(text, 120, break_on_hyphens=False)


def _listed(text: str) -> str:
    return fill(f"- {text}", 120, subsequent_indent="  ", break_on_hyphens=False)


if __name__ == "__main__":
    write_atomically(PAGE, rendered_page(PAGE.read_text()))
