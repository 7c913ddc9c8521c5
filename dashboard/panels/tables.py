"""Records as rows of words for tables on a page."""

from collections.abc import Mapping, Sequence

from semfreeze_core.cost.hardware import GPUS, Gpu, least_fitting_depth
from semfreeze_core.records.cost import DepthCost
from semfreeze_core.records.validation import ValidationReport
from semfreeze_core.runs.store import RunEntry
from semfreeze_core.wording.numbers import duration_at, gib, percent
from semfreeze_core.wording.validation import short_verdicts

from ..data.run_folder import CatalogEntry
from ..text.visitor_text import visitor_text


def gpu_rows(
    alternatives: Mapping[str, DepthCost], depths: Sequence[DepthCost], gpu: Gpu | None
) -> list[dict[str, str]]:
    """A line a card: its memory, the least freeze depth that fits, and the headroom of each alternative.

    Args:
        alternatives: by what they are called.
        depths: every freeze depth.
        gpu: that was chosen, which has a line too where it is none of the table.
    """
    others = [] if gpu is None or gpu in GPUS else [gpu]
    return [
        {"GPU": gpu.name, "memory": gib(gpu.memory_bytes), "fits from depth": _least(depths, gpu)}
        | {name: _headroom(cost, gpu) for name, cost in alternatives.items()}
        for gpu in [*others, *GPUS]
    ]


def alternative_rows(
    alternatives: Mapping[str, DepthCost], rates: Sequence[float], gpu: Gpu | None
) -> list[dict[str, str]]:
    """A line an alternative: its compute, memory, time where rates are known, and whether a GPU holds it."""
    return [
        {"train": name, "compute": percent(cost.relative_flop), "memory": gib(cost.bytes.total)}
        | ({"time": duration_at(cost.flop, rates)} if rates else {})
        | ({gpu.name: _headroom(cost, gpu)} if gpu else {})
        for name, cost in alternatives.items()
    ]


def _least(depths: Sequence[DepthCost], gpu: Gpu) -> str:
    depth = least_fitting_depth(depths, gpu)
    return "none" if depth is None else str(depth)


def _headroom(cost: DepthCost, gpu: Gpu) -> str:
    if cost.bytes.total is None:
        return "unknown"
    left = gpu.memory_bytes - cost.bytes.total
    return f"fits, {gib(left)} left" if left >= 0 else f"{gib(-left)} too much"


def unreadable_rows(entries: Sequence[CatalogEntry]) -> list[dict[str, str]]:
    """A line a run that cannot be read: its name, and why."""
    return [{"run": entry.name, "problem": visitor_text(entry.problem)} for entry in entries if entry.problem]


def folder_rows(
    entries: Sequence[RunEntry], validations: Mapping[str, Mapping[str, ValidationReport]]
) -> list[dict[str, object]]:
    """A line a run of the folder: what was read, what finetunes showed, how large it is, and its note."""
    rows: list[dict[str, object]] = []
    for entry in entries:
        m = entry.manifest
        rows.append(
            {
                "run": entry.name,
                "note": entry.note if m else f"unreadable: {visitor_text(entry.problem)}",
                "model": short_source(m.model.identity.source) if m else "",
                "data": short_source(m.data.source) if m else "",
                "examples": m.data.n_examples if m else None,
                "validated": "; ".join(map(short_verdicts, validations.get(entry.name, {}).values())),
                "layers": m.model.shape.n_layers if m else None,
                "MiB": round(entry.bytes / 2**20, 1),
                "analyzed": m.provenance.created[:16].replace("T", " ") if m else "",
            }
        )
    return rows


def short_source(source: str) -> str:
    """The end of a path, which tells more in a narrow column than its beginning; hub ids as they are."""
    return source.rsplit("/", 1)[-1] if source.startswith(("/", "~", ".")) else source


def answer_rows(report: ValidationReport) -> list[dict[str, str]]:
    """A line an eval item that was answered: before, and by the first seed of every arm at its last mark.

    Items whose answer became right or wrong stand first, then those whose words changed.
    """
    answers_by_arm: dict[str, list[str]] = {}
    for run in report.runs:
        answers = [point.answers for point in run.points if point.answers]
        if answers and run.arm not in answers_by_arm:
            answers_by_arm[run.arm] = answers[-1]
    ordered = []
    for i, item in enumerate(report.baseline.shown):
        given = {arm: texts[i] for arm, texts in answers_by_arm.items() if i < len(texts)}
        right = [answer.strip() == item.reference.strip() for answer in (item.answer, *given.values())]
        changed = any(answer != item.answer for answer in given.values())
        row = {"prompt": item.prompt, "reference": item.reference, "before": item.answer} | given
        ordered.append((len(set(right)) == 1, not changed, i, row))
    return [row for *_, row in sorted(ordered, key=lambda entry: entry[:3])]
