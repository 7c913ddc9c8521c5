"""Peak memory of an analysis against the number of examples: it should be flat.

    python tests/benchmarks/extraction_memory.py DATA [--model embedded] [--counts 128 512 2048 4096]

Each count runs in a process of its own. The figure is the process's resident peak less what it was before the first
example was read (model loaded, bases not solved); on a GPU the allocator's peak. A file with fewer rows than asked is
repeated. One JSON document on stdout.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path


def measure(model: str, data: str, count: int, device: str) -> dict[str, float]:
    from semfreeze_core.sources.models.causal_lm import load_causal_lm
    from semfreeze_core.workflow.analysis import analyze_loaded
    from semfreeze_core.workflow.request import AnalysisRequest

    loaded = load_causal_lm(model, device=device, dtype="float32" if device == "cpu" else "auto")
    with open("/proc/self/clear_refs", "w") as file:  # sets the resident peak back to what is resident now
        file.write("5")
    before = _status("VmRSS")
    run = analyze_loaded(loaded, AnalysisRequest(model, data, examples=count))
    used = run.manifest.extraction
    peak = used.peak_bytes if used.peak_kind == "cuda allocator" else _status("VmHWM")
    return {"examples": run.n_examples, "before_bytes": before, "peak_bytes": peak, "seconds": used.seconds}


def _status(name: str) -> int:
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--counts", type=int, nargs="+", default=[128, 512, 2048, 4096])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        print(json.dumps(measure(chosen.model, chosen.data, chosen.one, chosen.device)))
        return
    lines = Path(chosen.data).read_text().splitlines()
    results = []
    with tempfile.TemporaryDirectory() as folder:
        repeated = Path(folder) / "data.jsonl"
        repeated.write_text("\n".join((lines * (1 + max(chosen.counts) // len(lines)))[: max(chosen.counts)]))
        for count in chosen.counts:
            command = [sys.executable, __file__, str(repeated), "--one", str(count), "--model", chosen.model]
            done = subprocess.run(
                [*command, "--device", chosen.device], capture_output=True, text=True, check=True, env=os.environ
            )
            results.append(json.loads(done.stdout))
    growth = [r["peak_bytes"] - r["before_bytes"] for r in results]
    print(json.dumps({"model": chosen.model, "counts": results, "growth_last_over_first": growth[-1] / growth[0]}))


if __name__ == "__main__":
    main()
