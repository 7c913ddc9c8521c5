"""All that only a GPU can show, measured in ten minutes on one, and written to one JSON document.

    python -m tests.benchmarks.gpu_session [--out FILE] [--device cuda:0] [--minutes 10] [--parts steps,memory]
    python -m tests.benchmarks.gpu_session --render           # writes what FILE holds into docs/benchmarks.md
    python -m tests.benchmarks.gpu_session --tiny --device cpu --out FILE    # tries the script itself

Each part runs in a process of its own and has a share of the time. Where it fails, runs out of memory or of time, the
reason is kept beside what it had measured, and the next part begins. The document is written after each part.

    extraction    an analysis against bare forward passes in bfloat16 (goal: at least 0.97 of their speed)
    steps         full finetuning, LoRA, a third of the layers without a cache and from it (goal: at least 0.9 of the
                  ratio of their FLOPs), and which share of the GPU's peak rate each reaches
    memory        the allocator's peak of 12 setups beside their estimates
    loss          cached steps by how the loss is computed, by Liger Kernel where it is installed
    gathering     cached steps with boundary states gathered ahead, and when they are asked for
    offload       frozen layers on their way off the device and back
    bitsandbytes  LoRA on layers in 4 bits and AdamW with states in 8, where it is installed
"""

import argparse
import json
import multiprocessing
import platform
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from semfreeze_core.records.provenance import provenance_now
from semfreeze_core.storage import write_atomically
from tests.benchmarks.gpu_report import PAGE, RESULTS, rendered_page

MINUTES = 10.0
_STARTING = 120.0  # seconds that a part may take to import torch, before its share counts


def main() -> None:
    """Measure, or render what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--parts", help="comma-separated; all without it")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--render", action="store_true")
    asked = parser.parse_args()
    if asked.render:
        PAGE.write_text(rendered_page(PAGE.read_text(), asked.out or RESULTS))
        return
    if asked.tiny and asked.out is None:
        parser.error("--tiny measures nothing worth keeping: name a file with --out")
    import torch

    from tests.benchmarks.gpu_parts import PARTS, Session

    if not asked.tiny and not torch.cuda.is_available():
        sys.exit("torch sees no CUDA device here: nothing was measured. --tiny --device cpu tries the script itself.")
    names = asked.parts.split(",") if asked.parts else list(PARTS)
    if unknown := set(names) - PARTS.keys():
        parser.error(f"--parts {', '.join(sorted(unknown))}: expected some of {', '.join(PARTS)}")
    session = Session(asked.device, asked.tiny)
    shares = {name: PARTS[name][0] * asked.minutes / MINUTES for name in names}
    run_session(
        {name: (shares[name], PARTS[name][1]) for name in names}, session, asked.out or RESULTS, machine(asked.device)
    )


def machine(device: str) -> dict[str, Any]:
    """What it is measured on."""
    import torch

    name = torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else platform.machine()
    return {"device": name, **provenance_now(0).model_dump(mode="json")}


Part = Callable[[Any, Callable[[str, Any], None]], None]


def run_session(parts: dict[str, tuple[float, Part]], session: Any, out: Path, about: dict[str, Any]) -> dict[str, Any]:
    """Run the parts one after the other; what each gave is in the file before the next begins.

    Args:
        parts: by name, seconds and what to call in a process.
        session: its first argument; pickled.
        out: the file.
        about: the machine, for the document.
    """
    document: dict[str, Any] = {"machine": about, "tiny": bool(getattr(session, "tiny", False)), "parts": {}}
    context = multiprocessing.get_context("spawn")  # none has another one's CUDA context, or its memory
    out.parent.mkdir(parents=True, exist_ok=True)
    for name, (seconds, measure) in parts.items():
        print(f"{name}: up to {seconds:.0f} s", flush=True)
        document["parts"][name] = run_part(context, measure, session, seconds)
        write_atomically(out, json.dumps(document, indent=1) + "\n")
        reason = document["parts"][name]["reason"]
        print(f"{name}: {'done' if reason is None else reason}", flush=True)
    return document


def run_part(context: Any, measure: Part, session: Any, seconds: float) -> dict[str, Any]:
    """What one part measured, the seconds it took, and why it ended before its end, or None."""
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(measure, session, sending), daemon=True)
    process.start()
    sending.close()
    measured: dict[str, Any] = {}
    begun, started = time.monotonic(), False
    while True:
        left = begun + seconds + (0 if started else _STARTING) - time.monotonic()
        if not receiving.poll(max(0.0, left)):
            process.kill()
            reason: str | None = f"It was stopped after {seconds:.0f} s, its share of the time."
            break
        try:
            kind, content = receiving.recv()
        except EOFError:
            process.join()
            reason = f"Its process ended with code {process.exitcode}."
            break
        if kind == "start":
            begun, started = time.monotonic(), True
        elif kind == "found":
            measured |= content
        else:
            reason = content
            break
    process.join()
    return {"seconds": time.monotonic() - begun, "reason": reason, "measured": measured}


def _measure(measure: Part, session: Any, sending: Connection) -> None:
    """In the part's own process."""
    sending.send(("start", None))
    try:
        measure(session, lambda name, value: sending.send(("found", {name: value})))
    except Exception as error:
        sending.send(("end", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"))
    else:
        sending.send(("end", None))


if __name__ == "__main__":
    main()
