"""The script for a GPU, tried on a CPU: every part ends, what fails says why, and the page shows what was measured."""

import json
import multiprocessing
import os
import time

import pytest

from tests.benchmarks.gpu_parts import PARTS, Session, variants
from tests.benchmarks.gpu_report import NOT_RUN, PAGE, RESULTS, rendered_page, section
from tests.benchmarks.gpu_session import MINUTES, run_part, run_session

WAYS = ("full", "LoRA", "planned", "cached")


def test_the_parts_leave_time_to_start_them():
    assert sum(seconds for seconds, _ in PARTS.values()) + 10 * len(PARTS) <= 60 * MINUTES


def test_the_page_shows_what_was_measured_or_that_nothing_was():
    assert rendered_page(PAGE.read_text(), RESULTS) == PAGE.read_text()


def step(seconds, flop, peak=2**30):
    return {
        "step_seconds": seconds, "step_flop": flop, "flop_per_second": flop / seconds, "peak_bytes": peak,
        "peak_kind": "cuda allocator", "estimated_bytes": peak * 9 // 10,
    }  # fmt: skip


def part(measured, reason=None):
    return {"seconds": 1.0, "reason": reason, "measured": measured}


DOCUMENT = {
    "machine": {"device": "H100", "torch": "2.13", "transformers": "5.23", "created": "2026-01-02T03:04:05+00:00"},
    "tiny": False,
    "parts": {
        "steps": part(
            {
                "model": "llama-3.2-1b", "peak_flop_per_second": {"gpu": "H100", "bf16": 989e12},
                "full": step(1.0, 400e12), "LoRA": {"reason": "OutOfMemoryError: CUDA out of memory. " + "x" * 300},
                "planned": step(0.5, 200e12), "cached": step(0.3, 100e12),
            }
        ),
        "memory": part({f"{way}, {p}": step(1.0, 1) for p in ("float32", "bf16-autocast", "bf16") for way in WAYS}),
        "extraction": part(
            {
                "model": "llama-3.2-1b",
                "ratios": {
                    "examples": 256, "tokens": 131072, "dtype": "bfloat16", "bare_over_reading": 0.981,
                    "rounds": [0] * 5,
                },
            }
        ),
        "loss": part(
            {
                "model": "llama-3.2-1b", "supervised-only": {**step(0.3, 1), "notes": []},
                "chunked": {**step(0.25, 1), "notes": ["Loss in chunks: Liger Kernel 0.8.5."]},
            }
        ),
        "gathering": part({"ahead": step(0.3, 1), "at once": step(0.33, 1)}),
        "offload": part({"offload": {"seconds": 0.5, "freed_bytes": 2**31}}, "It was stopped after 40 s."),
        "bitsandbytes": part({}, "InputError: 8- and 4-bit bases need bitsandbytes"),
    },
}  # fmt: skip


def test_what_was_measured_is_rendered(tmp_path):
    results = tmp_path / "results.json"
    assert section(results) == NOT_RUN
    results.write_text(json.dumps(DOCUMENT))
    page = rendered_page(PAGE.read_text(), results)
    lines = page.splitlines()
    assert NOT_RUN not in page
    assert len(lines) <= 140
    assert [line for line in lines if len(line) > 120] == []
    assert "| cached | 0.300 | 3.33x | 4.00x | 83% | 333 TFLOP/s | 34% | 1.0 GiB |" in lines
    assert next(line for line in lines if line.startswith("| LoRA | OutOfMemoryError: CUDA out of memory"))
    assert sum("| 1.0 GiB | 0.90 GiB | -10% |" in line for line in lines) == 12
    chunked = "- chunked: 0.250 s a step, 1.0 GiB at the peak, 0.90 GiB estimated. Loss in chunks: Liger Kernel 0.8.5."
    assert chunked in lines
    assert "reaches 98% of the speed of bare" in " ".join(page.split())
    assert "offload: It was stopped after 40 s." in lines
    assert "bitsandbytes: InputError: 8- and 4-bit bases need bitsandbytes" in lines
    assert rendered_page(page, tmp_path / "none.json") == rendered_page(PAGE.read_text(), tmp_path / "none.json")


def test_results_of_a_tiny_model_are_not_rendered(tmp_path):
    (tmp_path / "tiny.json").write_text(json.dumps({**DOCUMENT, "tiny": True}))
    with pytest.raises(ValueError, match="its numbers mean nothing"):
        section(tmp_path / "tiny.json")


def test_the_four_ways_of_training_differ():
    session = Session("cpu", tiny=True)
    loaded = session.model("tiny", "bf16-autocast")
    ways = variants(loaded, session.setup())
    assert tuple(ways) == WAYS
    assert ways["planned"].parts == ways["cached"].parts != ways["full"].parts
    assert ways["cached"].setup.prefix_cache
    assert not ways["planned"].setup.prefix_cache
    assert ways["LoRA"].setup.lora is not None


def measures(session, record):
    record("first", session)


def fails(session, record):
    record("first", 1)
    raise RuntimeError("CUDA out\nof memory")


def hangs(session, record):
    record("first", 1)
    time.sleep(600)


def dies(session, record):
    record("first", 1)
    os._exit(7)


@pytest.mark.slow
def test_a_part_that_does_not_end_well_keeps_what_it_measured_and_why(tmp_path):
    parts = {"measures": (60.0, measures), "fails": (60.0, fails), "hangs": (0.5, hangs), "dies": (60.0, dies)}
    document = run_session(parts, "asked", tmp_path / "out.json", {"device": "a CPU"})
    assert json.loads((tmp_path / "out.json").read_text()) == document
    assert document["machine"] == {"device": "a CPU"}
    reasons = {name: part["reason"] for name, part in document["parts"].items()}
    assert reasons == {
        "measures": None,
        "fails": "RuntimeError: CUDA out of memory",
        "hangs": "It was stopped after 0 s, its share of the time.",
        "dies": "Its process ended with code 7.",
    }
    assert [part["measured"] for part in document["parts"].values()] == [{"first": "asked"}, *[{"first": 1}] * 3]


@pytest.mark.slow
@pytest.mark.parametrize("name", PARTS)
def test_every_part_measures_on_a_tiny_model(name):
    measured = run_part(multiprocessing.get_context("spawn"), PARTS[name][1], Session("cpu", tiny=True), 300)
    assert measured["reason"] is None
    for one in measured["measured"].values():
        assert not isinstance(one, dict) or set(one) != {"reason"} or "CPU" in one["reason"], one
    measurements = measured["measured"]
    if name == "memory":
        assert len(measurements) == 12
        assert all(one["peak_bytes"] > 0 < one["estimated_bytes"] for one in measurements.values())
    if name == "steps":
        assert set(WAYS) < measurements.keys()
        assert (
            measurements["cached"]["step_flop"]
            < measurements["planned"]["step_flop"]
            < measurements["full"]["step_flop"]
        )
    if name == "extraction":
        assert measurements["ratios"]["bare_over_reading"] > 0
    if name == "loss":
        note = "Loss in chunks: semfreeze's loop, because Liger Kernel needs a CUDA GPU, and the device is cpu."
        assert [measurements[one]["notes"] for one in ("supervised-only", "chunked-loop", "chunked")] == [
            [],
            [],
            [note],
        ]
    if name == "offload":
        assert measurements.keys() == {"offload", "onload", "offloaded"}
