"""An arm's process sees one GPU: the job's, counted among those that were visible to who started it."""

import json
import os

import pytest

from semfreeze_core.finetune.arm import process
from semfreeze_core.finetune.arm.process import main, one_gpu_environment


@pytest.mark.parametrize(
    ("device", "visible", "expected"),
    [
        ("cuda:1", None, ("1", "cuda")),
        ("cuda", None, ("0", "cuda")),
        ("auto", None, ("0", "auto")),
        ("cuda:1", "4,6", ("6", "cuda")),
        ("cuda", "4,6", ("4", "cuda")),
        ("auto", "4", ("4", "auto")),
        ("cuda:1", "GPU-8932f937, GPU-1a2b3c4d", ("GPU-1a2b3c4d", "cuda")),
        ("cuda:2", "4,6", (None, "cuda:2")),
        ("auto", "", (None, "auto")),
        ("cuda:x", "4,6", (None, "cuda:x")),
        ("cpu", "4,6", (None, "cpu")),
        ("mps", None, (None, "mps")),
    ],
)
def test_one_gpu_environment_maps_an_index_to_its_entry(device, visible, expected):
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    changes, name = one_gpu_environment(device, environment)
    assert (changes.get("CUDA_VISIBLE_DEVICES"), name) == expected


def test_one_gpu_environment_sets_the_variable_that_rocm_takes_first():
    visible = {"HIP_VISIBLE_DEVICES": "2,3", "CUDA_VISIBLE_DEVICES": "0,1"}
    assert one_gpu_environment("cuda:1", visible) == ({"HIP_VISIBLE_DEVICES": "3"}, "cuda")


def test_a_process_hides_the_other_gpus_before_it_runs_its_job(monkeypatch, tmp_path):
    devices = []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    monkeypatch.setattr(process, "_end_with_parent", lambda: None)
    monkeypatch.setattr(
        process, "run_job", lambda path, device: devices.append((path, device, os.environ["CUDA_VISIBLE_DEVICES"]))
    )
    job = tmp_path / "job.json"
    job.write_text(json.dumps({"model": {"source": "embedded", "device": "cuda:1"}}))
    assert main(str(job)) == 0
    assert devices == [(job, "cuda", "6")]
