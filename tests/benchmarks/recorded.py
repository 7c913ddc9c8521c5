"""When, on what and with which versions a benchmark was measured, as its results keep it."""

import os
import platform
from typing import Any

from semfreeze_core.records.provenance import provenance_now


def recorded_now() -> dict[str, Any]:
    """Date, versions, and the machine without its name."""
    made = provenance_now(seed=0)
    return {
        "date": made.created[:10],
        "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}",
        "versions": {"python": made.python, "torch": made.torch, "transformers": made.transformers},
    }


def recorded_text(recorded: dict[str, Any]) -> str:
    """The same in a sentence's part: "2026-11-30, 2 CPU cores, torch 2.13.0"."""
    versions = ", ".join(f"{name} {version}" for name, version in recorded["versions"].items() if version)
    return f"{recorded['date']}, {recorded['machine']}, {versions}"
