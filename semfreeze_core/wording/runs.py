"""An analysis run as text: what was analyzed, the evidence check, and the numbers of every hidden state."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from semfreeze_core.records.defaults import EXAMPLES, POSITIONS
from semfreeze_core.wording.numbers import (
    CI,
    Estimate,
    duration,
    gib,
    interval,
    interval_with_ci,
    layer_range,
    number,
    parameter_count,
    percent_with_ci,
)
from semfreeze_core.wording.rules import method_name
from semfreeze_core.wording.tables import Column, Table, table

if TYPE_CHECKING:
    from pathlib import Path

    from semfreeze_core.records.display import DisplaySample
    from semfreeze_core.records.gain import Band, GainCurve, Verdict
    from semfreeze_core.records.job import JobState
    from semfreeze_core.records.manifest import PartName, RunManifest
    from semfreeze_core.records.preview import (
        LayerPlacement,
        MemoryForecast,
        PrefixPlacement,
        ReadingForecast,
        TrainingForecast,
    )
    from semfreeze_core.records.scores import LayerScore, ScoreName

BASELINE = "random-label baseline"
PLAN_READY = "The plan is ready"
_PART_NAMES: Mapping[PartName, str] = {"projection": "projection of hidden states"}  # beside the scores
PROJECTION_ON_ITS_WAY = "The projection of hidden states is being computed. It appears here when it is ready."
LAYER_SOURCES = (
    "The distance and the paper rule are the paper's; the baselines, the lift, layer contributions and coverage are "
    "ours."
)


def model_sentence(manifest: RunManifest, data_name: str | None = None) -> str:
    """Which model was analyzed on which data.

    Args:
        manifest: of the run.
        data_name: what to call the data, where its source says too much.
    """
    model, shape, data = manifest.model.identity, manifest.model.shape, manifest.data
    return (
        f"{model.source} ({model.architecture}, {shape.n_layers} layers, {parameter_count(shape.total_parameters)}), "
        f"analyzed on {data.n_examples:,} of {data.n_usable:,} examples of {data_name or data.source}."
    )


def sample_sentence(manifest: RunManifest) -> str:
    """How many tokens were analyzed, and in which precision."""
    data, model = manifest.data, manifest.model
    return (
        f"{data.n_positions_read:,} of {data.n_supervised_tokens:,} target tokens analyzed; {data.n_tokens:,} tokens "
        f"in total; seed {manifest.settings.seed}; {model.dtype} on {model.device}."
    )


def job_state(state: JobState) -> str:
    """The state of a background job, in a word; documents spell it as 0.1.0 did."""
    return "canceled" if state == "cancelled" else state


def timing_sentence(manifest: RunManifest) -> str:
    """How long the analysis took, and its peak memory."""
    took = manifest.extraction
    return (
        f"Analysis: {duration(took.seconds)} ({took.tokens_per_second:,.0f} tokens per second), plus "
        f"{duration(took.task_null_seconds)} for the swapped-completion control. Peak memory {gib(took.peak_bytes)} "
        f"({took.peak_kind})."
    )


def evidence_check(verdict: Verdict) -> str:
    """Whether the analysis shows that the layers do the task."""
    return f"Evidence check: {'passed' if verdict == 'evidence' else 'failed'}"


def layer_table(curve: GainCurve) -> Table:
    """One row per hidden state: distance to the target token, its baseline, the lift, and what the next layer adds.

    The row of hidden state s has the contribution of layer s, which moves it on, and R(s), the coverage when s layers
    are frozen.
    """

    def cell(band: Band, index: int, decimals: int) -> str:
        return interval(band.at(index), decimals) if index < len(band.mean) else ""

    rows = [
        (
            str(s),
            cell(curve.deviation, s, 3),
            cell(curve.null, s, 3),
            cell(curve.advantage, s, 3),
            cell(curve.gain, s, 4),
            cell(curve.coverage, s, 2),
        )
        for s in range(curve.n_layers + 1)
    ]
    titles = ("hidden state", "distance to target", BASELINE, "lift", "layer contribution", "R(k)")
    return table([Column(title) for title in titles], rows)


def layer_table_caption(curve: GainCurve) -> str:
    """What the layer table's numbers are, and on how many examples they rest."""
    return (
        f"Hidden states (0 = embeddings), {curve.metric} distance to the target token. Means over {curve.n_examples:,} "
        f"examples [{CI}, bootstrap over examples]."
    )


def contribution_sentence(curve: GainCurve, depth: int) -> str:
    """Which share of the measured layer contributions lies in the layers that train at a depth."""
    n_layers, evidence = curve.n_layers, curve.evidence
    if evidence.verdict == "no evidence":
        return f"{evidence_check(evidence.verdict)}. No depth is recommended. {' '.join(evidence.reasons)}"
    if depth == 0:
        return (
            f"All {n_layers} layers train. From the first to the last layer, lift over random labels rises by "
            f"{interval_with_ci(evidence.advantage)}."
        )
    if depth == n_layers:
        return f"All {n_layers} layers are frozen, so none of the layer contributions is trained."
    layers = layer_range(depth, n_layers)
    share = percent_with_ci(curve.coverage.at(depth)).replace(" (", " of the measured layer contributions (", 1)
    return f"{layers.capitalize()} (trained) account for {share}."


def distance_sentence(display: DisplaySample | None, curve: GainCurve, depth: int) -> str:
    """How far hidden states get towards the target token, and how many displayed tokens, if any, the model predicts."""
    distance, last = curve.deviation.mean, curve.n_layers
    falls = (
        f"Distance to the target token falls from {number(distance[curve.start], 2)} to {number(distance[last], 2)} "
        f"across the layers ({number(distance[depth], 2)} at freeze depth {depth})."
    )
    if display is None:
        return falls
    right, shown = int(display.right.sum()), len(display.right)
    return f"{falls} The model predicts {right:,} of {shown:,} displayed tokens correctly."


def coverage_bars(curve: GainCurve) -> list[str]:
    """R(k) of every freeze depth as a bar of up to ten blocks."""
    return ["▇" * round(10 * share) if math.isfinite(share) else "" for share in curve.coverage.mean]


def first_and_later_sentence(first: Estimate, later: Estimate) -> str:
    """The lift at the last hidden state, for the first target tokens and for the later ones."""
    return (
        f"Lift over random labels at the last hidden state: first target tokens {interval_with_ci(first)}, later ones "
        f"{interval_with_ci(later)}."
    )


def scaling_law_sentence(curve: GainCurve) -> str:
    """Where the lift begins to rise by the scaling law, how it rises, how well that fits, and the turning depth."""
    law = curve.law
    if law.reason:
        return f"No scaling law fits: {law.reason}."
    spaces = curve.n_layers + 1 - curve.start
    begins = (
        "rises from the first layer on"
        if law.turn.estimate < 1
        else f"is flat up to hidden state {interval_with_ci(law.turn, 1)}, then rises"
    )
    return (
        f"Scaling law: lift over random labels {begins} as a power law of the depth, exponent "
        f"{interval_with_ci(law.exponent, 2)}; R² {number(law.r_squared, 2)} over {spaces} hidden states, "
        f"{curve.n_examples:,} examples. {_turning_sentence(law.turning_depth)}"
    )


def _turning_sentence(turning_depth: Estimate) -> str:
    """Before which depth every layer contributes less than the average layer."""
    ends = f"({CI} {number(turning_depth.low, 0)}–{number(turning_depth.high, 0)})"
    if not turning_depth.estimate:
        return f"Turning depth: 0 {ends}. The first layers contribute no less than the average layer."
    depth = number(turning_depth.estimate, 0)
    return f"Turning depth: {depth} {ends}. Every layer before it contributes less than the average layer."


def score_lines(scores: Mapping[str, LayerScore]) -> list[str]:
    """Which other layer scores were measured, and why others could not be."""
    measured = [name for name, score in scores.items() if not score.reason]
    lines = [f"Other layer scores: {', '.join(measured)}. `semfreeze plan --compare` shows what they recommend."]
    return lines + [f"{name} was not measured: {score.reason}." for name, score in scores.items() if score.reason]


def analysis_command(manifest: RunManifest, folder: Path | str) -> list[str]:
    """The words of the `semfreeze` command whose run this is, which adds the parts that are to come.

    Args:
        manifest: of the run.
        folder: of the run, or its name in the store.
    """
    data, settings, model = manifest.data, manifest.settings, manifest.model.identity
    options = {"model": model.source, "revision": model.revision, "data": data.source, "split": data.split}
    options |= {name.replace("_", "-"): value for name, value in data.mapping.items()}
    changed = {
        "examples": (settings.examples, EXAMPLES),
        "positions": (settings.positions, POSITIONS),
        "seed": (settings.seed, 0),
        "max-length": (settings.max_length, None),
        "metrics": (",".join(settings.metrics), "semantic,logit_z"),
        "scores": (",".join(name for name in manifest.scores_to_come if name != "spectrum"), ""),
    }
    options |= {name: str(value) for name, (value, default) in changed.items() if value != default}
    flags = [f"--{name}={value}" for name, value in options.items() if value is not None]
    return ["analyze", *flags, *(() if settings.add_eos else ("--no-eos",)), f"--out={folder}"]


def parts_to_come_sentence(parts: Sequence[PartName], manifest: RunManifest, folder: Path | str) -> str:
    """What an analysis has not added to its run yet, and the command that does; "" for no parts.

    Args:
        parts: of those that are to come.
        manifest: of the run.
        folder: of the run, or its name in the store.
    """
    if not parts:
        return ""
    names, command = _named(parts), shlex.join(["semfreeze", *analysis_command(manifest, folder)])
    return f"Not computed yet: {names}. The plan does not depend on this. To compute it, run `{command}`."


def computing_sentence(scores: Sequence[ScoreName]) -> str:
    """Which scores a running analysis is measuring."""
    return f"Being computed: {_named(scores)}. The plan does not depend on this."


def _named(parts: Sequence[PartName]) -> str:
    *others, last = [_PART_NAMES.get(part) or method_name(part) for part in parts]
    return f"{', '.join(others)} and {last}" if others else last


def interrupted_sentence(folder: Path, parts: Sequence[PartName]) -> str:
    """What an analysis that was interrupted leaves when its plan is ready and parts are missing."""
    return (
        f"The run in {folder} is whole and ready for a plan. Not computed: {_named(parts)}. Run the same command "
        "again to add what is missing."
    )


def memory_sentence(memory: MemoryForecast) -> str:
    """What an analysis needs beside what is free, and what to do when it does not fit."""
    parts = [
        f"{gib(memory.model_bytes)} for {parameter_count(memory.parameters)} in {memory.dtype}",
        f"{gib(memory.states_bytes)} for displayed hidden states",
    ]
    parts += [f"{gib(memory.process_bytes)} for the process"] if memory.process_bytes else []
    needs = (
        f"The analysis needs about {gib(memory.needed_bytes)} ({', '.join(parts)}); {gib(memory.free_bytes)} are free "
        f"on {memory.device}."
    )
    if memory.placement is not None:
        reading = "" if memory.reading is None else f" {reading_sentence(memory.reading)}"
        return f"{needs} {placement_sentence(memory.placement, memory.device)}{reading}"
    if memory.fits:
        return needs
    other = "a smaller model" if memory.dtype == "bfloat16" else "bfloat16, which needs half, or a smaller model"
    return f"Not enough memory. {needs} Use {other}, or another device."


def placement_sentence(placement: LayerPlacement, device: str) -> str:
    """Where the layers are that a device has no room for, and what that costs."""
    n_layers = placement.on_device + placement.in_memory + placement.on_disk
    parts = [f"{placement.on_device} of {n_layers} layers stay on {device}"]
    parts += [f"{placement.in_memory} in the machine's memory"] if placement.in_memory else []
    if placement.on_disk:
        parts.append(f"{placement.on_disk} on disk, {gib(placement.disk_bytes)}")
    return f"Slow: {'; '.join(parts)}."


def reading_sentence(reading: ReadingForecast) -> str:
    """How often an analysis brings in the layers that are kept off the device, and what it keeps meanwhile."""
    if reading.n_batches == 1:
        return "All examples fit into one batch, so each layer comes in once."
    between = f"the hidden states between two layers, about {gib(reading.states_bytes)}"
    if reading.states_in is None:
        return (
            f"Each of about {reading.n_batches:,} batches brings these layers in again: {between}, have no room in the "
            "machine's memory or in the folder for temporary files (TMPDIR)."
        )
    where = "the machine's memory" if reading.states_in == "memory" else "a temporary file (TMPDIR)"
    return (
        f"Each layer comes in once for all of about {reading.n_batches:,} batches; meanwhile {between}, are kept in "
        f"{where}."
    )


def training_memory_sentence(memory: TrainingForecast) -> str:
    """What training a plan takes beside what is free, and where its frozen layers go that find no room."""
    steps = "an unknown amount" if memory.steps_bytes is None else f"about {gib(memory.steps_bytes)}"
    needs = (
        f"Training the plan (freeze depth {memory.depth}, {memory.precision}) takes {steps} in its steps, and about "
        f"{gib(memory.whole_bytes)} before them for the whole model; {gib(memory.free_bytes)} are free on "
        f"{memory.device}."
    )
    if memory.prefix is not None:
        needs = f"{needs} {prefix_placement_sentence(memory.prefix, memory.device)}"
    elif memory.whole_bytes > memory.free_bytes:
        why = f", but {memory.whole_reason}" if memory.whole_reason else ", but the others have no room either"
        return (
            f"Not enough memory. {needs} Frozen layers are kept off the device where a prefix cache stands in for "
            f"them{why}."
        )
    if memory.steps_bytes is not None and memory.steps_bytes > memory.free_bytes:
        return f"Not enough memory. {needs} `semfreeze cost` shows which depths and setups take less."
    return needs


def loss_kernel_sentence(version: str, difference: float) -> str:
    """That a training's loss comes from Liger Kernel, and how far its check was from semfreeze's loop."""
    return (
        f"Loss in chunks: Liger Kernel {version}. On a small batch its loss and gradients differ from those of "
        f"semfreeze's loop by {difference:.1g} at most, relative; --loss chunked-loop trains without it."
    )


def loss_loop_sentence(reason: str) -> str:
    """That a training's loss comes from semfreeze's loop, and why."""
    return f"Loss in chunks: semfreeze's loop, because {reason}."


def prefix_placement_sentence(placement: PrefixPlacement, device: str) -> str:
    """Where a training keeps the frozen layers that a prefix cache stands in for, and what the device needs."""
    embedding = " and the token embedding" if placement.embedding else ""
    places = [
        f"{gib(size)} {where}"
        for size, where in ((placement.memory_bytes, "in the machine's memory"), (placement.disk_bytes, "on disk"))
        if size
    ]
    return (
        f"The first {placement.depth} of {placement.n_layers} layers{embedding} are kept off {device}, which has no "
        f"room for the whole model: {', '.join(places)}. They come in one at a time while their states are computed, "
        f"which needs {gib(placement.device_bytes)} there; the steps do without them."
    )
