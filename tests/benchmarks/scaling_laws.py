"""Which formula of the depth predicts the lift at hidden states that it has not seen.

Run: python -m tests.benchmarks.scaling_laws [RUN ...]

Over the example run, the tasks of the evidence, whose kept coverage is the lift's rising fit up to scale, and any runs
named as arguments. The tasks of 80 examples repeat others, and remapped_words is the contrary task, on which no law is
expected.
"""

import json
import sys
from pathlib import Path

import numpy as np

from semfreeze_core.gains import compare_formulas
from semfreeze_core.gains.scaling_law import FORMULAS
from semfreeze_core.runs.folder import read_run
from semfreeze_core.runs.store import find_run

EVIDENCE = Path(__file__).parent / "results" / "evidence"
METRICS = ("semantic", "logit_z")


def curves(runs: list[str]) -> dict[str, dict[str, np.ndarray]]:
    """The lift of spaces 0..L by task and metric."""
    by_task = {}
    for name in runs:
        traces = read_run(find_run(name)).traces
        by_task[name] = {metric: traces[metric].advantage.mean(axis=0, dtype=np.float64) for metric in METRICS}
    for file in sorted(EVIDENCE.glob("*.json")):
        if not file.stem.endswith("_80"):
            coverage = json.loads(file.read_text())["coverage"]
            by_task[f"{file.stem} (rising fit)"] = {metric: 1 - np.array(coverage[metric]) for metric in METRICS}
    return by_task


def main() -> None:
    """Print a table per metric: R² and the error of left-out spaces in percent of the lift's range."""
    by_task = curves(["example", *sys.argv[1:]])
    for metric in METRICS:
        print(f"\n{metric} | " + " | ".join(FORMULAS))
        values: dict[str, list[float]] = {name: [] for name in FORMULAS}
        for task, lifts in by_task.items():
            comparison = compare_formulas(lifts[metric])
            cells = [f"{fit.r_squared:.2f}, {100 * fit.left_out_error:.1f}%" for fit in comparison.values()]
            print(" | ".join([task, *cells]))
            if not task.startswith("remapped"):
                for name, fit in comparison.items():
                    values[name].append(100 * fit.left_out_error)
        print("mean error | " + " | ".join(f"{np.mean(errors):.1f}%" for errors in values.values()))


if __name__ == "__main__":
    main()
