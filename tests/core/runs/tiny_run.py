"""A small task, and a tiny random model's reading of it: what runs are made of in these tests."""

import json
import random
from pathlib import Path

from semfreeze_core.records.run import Run
from semfreeze_core.workflow.analysis import analyze
from semfreeze_core.workflow.request import AnalysisRequest

LABELS = ("card", "bank", "top up")


def task_rows(n: int = 48, *, labels: tuple[str, ...] = LABELS, seed: int = 0) -> list[dict[str, str]]:
    """Rows whose completions follow from nothing in their prompts."""
    draw = random.Random(seed)
    rows = []
    for _ in range(n):
        label = draw.choice(labels)
        prompt = f"Message {draw.randrange(50)} about {draw.randrange(50)}: "
        rows.append({"prompt": prompt, "completion": f"{label} now", "label": label})
    return rows


def write_jsonl(path: Path, rows: list) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def read_tiny(model: Path, data: Path, **wishes: object) -> Run:
    """Analyze without the command line, in float32 on the CPU, so that equal requests give equal numbers."""
    request = {"dtype": "float32", "device": "cpu", "display_positions": 100}
    return analyze(AnalysisRequest(str(model), str(data), **{**request, **wishes}))
