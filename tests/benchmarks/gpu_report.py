"""What gpu_session.py measured, as a section of docs/benchmarks.md."""

import json
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from semfreeze_core.wording.numbers import flops_per_second, gib, percent

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "tests" / "benchmarks" / "results" / "gpu_session.json"
PAGE = ROOT / "docs" / "benchmarks.md"
_BEGIN, _END = "<!-- from tests/benchmarks/gpu_session.py -->\n", "<!-- end -->\n"
NOT_RUN = (
    "Not run yet: nothing on this page was measured on a GPU. `python -m tests.benchmarks.gpu_session` measures it in\n"
    "ten minutes on one GPU. Run it, and its numbers appear here.\n"
)


def rendered_page(page: str, results: Path) -> str:
    """The page with its section made anew from a file of results, or from none."""
    before, rest = page.split(_BEGIN)
    _, after = rest.split(_END)
    return f"{before}{_BEGIN}{section(results)}{_END}{after}"


def section(results: Path) -> str:
    """What the file of results says.

    Raises:
        ValueError: it is of a tiny model, whose numbers mean nothing.
    """
    if not results.exists():
        return NOT_RUN
    document = json.loads(results.read_text())
    if document["tiny"]:
        raise ValueError(f"{results} is of a tiny model: its numbers mean nothing")
    about, parts = document["machine"], document["parts"]
    lines = [
        f"Measured on one {about['device']} with torch {about['torch']} and transformers {about['transformers']},",
        f"{about['created'][:10]}. Models have random weights.",
    ]
    for name, render in _TABLES.items():
        part = parts.get(name, {"measured": {}, "reason": "It was not asked for."})
        lines += ["", *render(part["measured"])] if part["measured"] else []
        if part["reason"] is not None:
            lines += ["", *_wrapped(f"{name}: {part['reason']}")]
    return "\n".join(lines) + "\n"


def _extraction(measured: dict[str, Any]) -> Iterator[str]:
    ratios = measured["ratios"]
    yield from _wrapped(
        f"An analysis of {ratios['examples']} examples ({ratios['tokens']:,} tokens, {measured['model']}, "
        f"{ratios['dtype']}) reaches {percent(ratios['bare_over_reading'])} of the speed of bare forward passes "
        f"(goal: 97%); median of {len(ratios['rounds'])} rounds."
    )


def _steps(measured: dict[str, Any]) -> Iterator[str]:
    full = measured.get("full", {})
    peak = measured.get("peak_flop_per_second", {}).get("bf16")
    yield f"Steps of {measured['model']} in bf16-autocast; speed and FLOPs against full finetuning's step:"
    yield ""
    yield "| | seconds | speed | by FLOPs | share of that | FLOP/s | of the peak rate | memory |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|"
    for name, one in _variants(measured):
        if "reason" in one:
            yield _row(name, [one["reason"][:60]])
            continue
        cells = [f"{one['step_seconds']:.3f}"]
        if "step_seconds" in full:
            speed, limit = full["step_seconds"] / one["step_seconds"], full["step_flop"] / one["step_flop"]
            cells += [f"{speed:.2f}x", f"{limit:.2f}x", percent(speed / limit)]
        else:
            cells += ["", "", ""]
        rate = one["flop_per_second"]
        yield _row(
            name, [*cells, flops_per_second(rate), percent(rate / peak) if peak else "unknown", gib(one["peak_bytes"])]
        )


def _memory(measured: dict[str, Any]) -> Iterator[str]:
    yield "Peak memory of a training, by CUDA's allocator, beside its estimate:"
    yield ""
    yield "| | measured | estimated | error |"
    yield "|---|---:|---:|---:|"
    for name, one in _variants(measured):
        if "reason" in one:
            yield _row(name, [one["reason"][:60], "", ""])
        else:
            estimated, peak = one["estimated_bytes"], one["peak_bytes"]
            yield _row(name, [gib(peak), gib(estimated), f"{estimated / peak - 1:+.0%}"])


def _loss(measured: dict[str, Any]) -> Iterator[str]:
    yield f"Cached steps of {measured['model']} in bf16-autocast, by `--loss`:"
    yield ""
    for name, one in _variants(measured):
        yield from _wrapped(f"- {name}: {_step_text(one)}" + "".join(f". {note}" for note in one.get("notes", [])))


def _gathering(measured: dict[str, Any]) -> Iterator[str]:
    ahead, at_once = (measured.get(name, {}).get("step_seconds") for name in ("ahead", "at once"))
    if ahead and at_once:
        yield from _wrapped(
            f"A cached step takes {ahead:.3f} s with the next batch's states gathered ahead, and {at_once:.3f} s "
            "without."
        )


def _offload(measured: dict[str, Any]) -> Iterator[str]:
    for name in ("offload", "onload"):
        if name in measured:
            one = measured[name]
            freed = f"{gib(abs(one['freed_bytes']))} {'freed' if one['freed_bytes'] > 0 else 'taken'}"
            yield f"- {name} of the frozen layers: {one['seconds']:.2f} s, {freed}"


def _bitsandbytes(measured: dict[str, Any]) -> Iterator[str]:
    for name, one in _variants(measured):
        yield from _wrapped(f"- {name}: {_step_text(one)}")


def _step_text(one: dict[str, Any]) -> str:
    if "reason" in one:
        return str(one["reason"])
    memory = f"{gib(one['peak_bytes'])} at the peak, {gib(one['estimated_bytes'])} estimated"
    return f"{one['step_seconds']:.3f} s a step, {memory}"


_TABLES = {
    "extraction": _extraction,
    "steps": _steps,
    "memory": _memory,
    "loss": _loss,
    "gathering": _gathering,
    "offload": _offload,
    "bitsandbytes": _bitsandbytes,
}


def _variants(measured: dict[str, Any]) -> Iterable[tuple[str, dict[str, Any]]]:
    return (
        (name, one)
        for name, one in measured.items()
        if isinstance(one, dict) and ("step_seconds" in one or set(one) == {"reason"})
    )


def _row(name: str, cells: list[str]) -> str:
    return f"| {name} | {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 118, break_on_hyphens=False)
