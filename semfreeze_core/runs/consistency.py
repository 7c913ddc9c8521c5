"""Whether the parts of a run fit together: as many examples, layers and positions in one as in the others."""

from collections.abc import Iterator

import numpy as np
from pandas.api.types import is_integer_dtype

from semfreeze_core.records.display import DisplaySample
from semfreeze_core.records.run import Run

_NUMBERS = ("row", "n_tokens", "n_supervised", "n_read", "n_truncated")
_COLUMNS = {"label", "prompt", "completion", *_NUMBERS}


def contradictions(run: Run) -> Iterator[str]:
    """What does not fit, one phrase each; none of a run that was written by an analysis."""
    n, n_states = run.manifest.data.n_examples, run.shape.n_layers + 1
    if len(run.examples) != n or n < 1:
        yield f"{len(run.examples)} rows in examples.parquet, {n} examples in the manifest"
    if missing := _COLUMNS - {*run.examples.columns}:
        yield f"examples.parquet has no column {', '.join(sorted(missing))}"
    elif odd := [name for name in _NUMBERS if not is_integer_dtype(run.examples[name])]:
        yield f"examples.parquet's column {odd[0]} does not hold integers"
    if not run.traces:
        yield "there is no metric"
    for metric, trace in run.traces.items():
        if trace.deviation.shape != (n, n_states):
            yield f"{metric} is {trace.deviation.shape}, expected {(n, n_states)}"
        always = (trace.null, trace.first_deviation, trace.first_null)
        if not all(np.isfinite(matrix).all() for matrix in always):
            yield f"{metric} is not finite"
    for metric, pairs in run.pairs.items():
        if pairs.own.ndim != 2 or pairs.own.shape[1] != n_states:
            yield f"{metric}'s pairs are {pairs.own.shape}, expected (pairs, {n_states})"
        elif not (np.isfinite(pairs.own).all() and np.isfinite(pairs.swapped).all()):
            yield f"{metric}'s pairs are not finite"
    counts: dict[str, int] = {entry.name: entry.replicates for entry in run.manifest.scores}
    for name, score in run.scores.items():
        if score.values.shape != (run.shape.n_layers,):
            yield f"score {name} is {score.values.shape}, expected {(run.shape.n_layers,)}"
        if name in run.manifest.scores_to_come:
            yield f"score {name} is measured, and is to come in the manifest"
        if score.replicates is not None and len(score.replicates) != counts[name]:
            yield f"score {name} has {len(score.replicates)} replicates, {counts[name]} in the manifest"
    if run.display is not None:
        yield from _of_display(run, run.display, n, n_states)
    elif listed := [name for name in run.manifest.files if name.startswith("display.")]:
        yield f"{listed[0]} is there, and the projection is to come in the manifest"


def _of_display(run: Run, display: DisplaySample, n: int, n_states: int) -> Iterator[str]:
    m, positions, components = len(display.basis_ids), display.coordinates.shape[1], display.coordinates.shape[-1]
    shapes = {
        "coordinates": (n_states, positions, components),
        "variance_fraction": (components,),
        "basis_ids": (m,),
        "basis_coordinates": (m, components),
        "read_top": (min(len(display.read_top), positions), n_states, 5),
    }
    wrong = [name for name, shape in shapes.items() if getattr(display, name).shape != shape]
    if wrong:
        yield f"display.{wrong[0]} is {getattr(display, wrong[0]).shape}, expected {shapes[wrong[0]]}"
    tokens = [display.label_ids, display.predicted_ids, display.basis_ids, display.read_top]
    if not all(np.issubdtype(ids.dtype, np.integer) for ids in (*tokens, display.example, display.order)):
        yield "display's indices are not integers"
    elif ((display.example < 0) | (display.example >= n)).any():
        yield "display.example names an example that there is not"
    elif not {int(i) for ids in tokens for i in np.unique(ids)} <= display.token_text.keys():
        yield "display.token_text lacks tokens"
    if not all(isinstance(text, str) for text in display.token_text.values()):
        yield "display.token_text does not hold texts"
    if not all(isinstance(number, int) for number in (display.n_positions_total, display.seed)):
        yield "display.json does not hold integers"
    if not {*display.metrics} <= {*run.traces}:
        yield f"display.metrics are {display.metrics}, the run's {tuple(run.traces)}"
