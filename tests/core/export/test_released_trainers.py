"""By the trainers' released packages, unmodified: an export trains what the plan trains, or says what stays frozen."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

from semfreeze_core.errors import PlanError
from semfreeze_core.export import export_plan
from semfreeze_core.plan.document import FreezePlan, trainable_names
from semfreeze_core.records.training import TrainableParts
from tests.core.export.exports import MODELS, names_of, tiny_plan
from tests.core.tiny_models import build_tiny

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
SELECTION = Path(__file__).with_name("released_selection.py")
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "exporters.json"

# What the release's selection code imports and the environment lacks or has in a version the release does not take.
_HUB = ("tokenizers==0.23.1", "huggingface_hub==1.17.0", "httpx==0.28.1", "httpcore==1.0.9")
REQUIREMENTS = {
    "axolotl": ("axolotl==0.19.0", "transformers==5.16.1", "peft==0.20.0", "addict", *_HUB),
    "llama-factory": (
        *("llamafactory==0.9.5", "transformers==5.6.0", "peft==0.18.1", "trl==0.24.0", "accelerate==1.11.0"),
        *("datasets==4.0.0", "omegaconf==2.3.0", "antlr4-python3-runtime==4.9.3", "tiktoken"),
        *("tokenizers==0.22.2", *_HUB[1:]),
    ),
    "ms-swift": (
        *("ms-swift==4.6.0", "transformers==5.16.1", "peft==0.20.0", "addict", *_HUB),
        *("modelscope", "modelscope-hub", "json-repair", "cryptography", "cffi"),
    ),
    "nemo-automodel": ("nemo-automodel==0.7.0", "transformers==5.18.0", "torchdata"),
    "oumi": (
        *("oumi==0.9", "transformers==5.16.1", "peft==0.19.1", "trl==1.6.0", "omegaconf==2.4.0.dev4", "jsonschema"),
        *_HUB,
    ),
}
UNREACHABLE = ("(from versions: none)", "Max retries exceeded", "Failed to establish", "Temporary failure", "timed out")

# A module that transformers 5.6 names otherwise than the one here: LLaMA-Factory's newest is older than the rename.
RENAMED = {("llama-factory", "gpt_neox, untied"): ("lm_head", "embed_out")}

# Twelve layers, so that layer 1 is a prefix of 10 and 11.
N_LAYERS, SIZES = 12, {"n_layers": 12, "d_model": 16, "n_heads": 2, "head_dim": 8, "mlp_width": 16, "vocab": 40}
LAST_TWO = tuple(i >= 10 for i in range(N_LAYERS))
CHOICES = {
    "depth 1": 1,
    "depth 10": 10,
    "all": 0,
    "with head": TrainableParts(LAST_TWO, False, True, True),
    "with embeddings": TrainableParts(LAST_TWO, True, True, False),
    "every other": TrainableParts(tuple(i % 2 == 1 for i in range(N_LAYERS)), False, True, False),
}


class Job(NamedTuple):
    """A plan, its export, and the names of its model."""

    label: str
    plan: FreezePlan
    folder: str
    text: str
    notes: tuple[str, ...]
    names: list[str]

    @property
    def expected(self) -> set[str]:
        """What the plan trains, less what the export's notes say stays frozen."""
        left = {
            name for note in self.notes if " stays frozen: " in note for name in note.split(" stays")[0].split(", ")
        }
        return set(trainable_names(self.plan, self.plan.model, self.names)) - left


def label_of(family, tied):
    return f"{family}, {'tied' if tied else 'untied'}"


def tiny_jobs(trainer, folder):
    """Every choice that the trainer can be told, for every tiny model."""
    jobs = []
    for family, tied in MODELS:
        model = build_tiny(family, tied=tied, **SIZES)
        model_folder = folder / label_of(family, tied)
        model.config.save_pretrained(model_folder)
        for choice in CHOICES.values():
            parts = choice if isinstance(choice, TrainableParts) else None
            plan = tiny_plan(model, parts.freeze_depth if parts else choice, parts=parts)
            if trainer == "llama-factory" and choice == CHOICES["every other"]:
                with pytest.raises(PlanError, match="can train only the last layers"):
                    export_plan(plan, trainer)
                continue
            exported = export_plan(plan, trainer)
            jobs.append(
                Job(label_of(family, tied), plan, str(model_folder), exported.text, exported.notes, names_of(model))
            )
    return jobs


def install(trainer, target):
    """The release and what its selection code imports, in a folder of their own; skips without an index."""
    if importlib.util.find_spec("pip") is None:
        pytest.skip("pip, which gets the released packages, is not installed here")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--retries", "1", "--timeout", "20"]
    command = [*pip, "--disable-pip-version-check", "--target", str(target), *REQUIREMENTS[trainer]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    if done.returncode:
        if any(sign in done.stderr for sign in UNREACHABLE):
            pytest.skip(f"the package index cannot be reached: {done.stderr.strip().splitlines()[-1]}")
        pytest.fail(f"pip cannot install {trainer}: {done.stderr}")


def in_names_of_here(trainer, job, answer):
    """An answer in the names that the plan's model has."""
    now, before = RENAMED.get((trainer, job.label), ("", ""))
    if not now:
        return answer
    return answer | {
        key: [name.replace(f"{before}.", f"{now}.") for name in answer[key]] for key in ("names", "trained")
    }


def outcome_of(job, answer):
    """What became of a plan, in words."""
    if answer["refusal"] is not None:
        return "refused"
    if set(answer["trained"]) == set(trainable_names(job.plan, job.plan.model, job.names)):
        return "as planned"
    return "as the notes say" if set(answer["trained"]) == job.expected else "otherwise"


def file_results(trainer, versions, jobs, answers):
    """Put the trainer's entry into the results' file."""
    outcomes = Counter(outcome_of(job, answer) for job, answer in zip(jobs, answers, strict=True))
    refusals = sorted(
        {f"{job.label}: {a['refusal'].split(',')[0]}" for job, a in zip(jobs, answers, strict=True) if a["refusal"]}
    )
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    results[trainer] = {
        "versions": versions,
        "models": len({job.label for job in jobs}),
        "plans": dict(outcomes),
        "refusals": refusals,
    }
    RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n", encoding="utf-8")


@pytest.fixture(scope="module", params=REQUIREMENTS)
def released(request, tmp_path_factory):
    """A trainer's name, the jobs, and what its released code would train of each."""
    trainer = request.param
    folder = tmp_path_factory.mktemp(trainer)
    packages = folder / "packages"
    install(trainer, packages)
    jobs = tiny_jobs(trainer, folder)
    asked, answered = folder / "jobs.json", folder / "answers.json"
    asked.write_text(json.dumps([{"model": job.folder, "text": job.text} for job in jobs]), encoding="utf-8")
    quiet = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "AXOLOTL_DO_NOT_TRACK": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-P", str(SELECTION), trainer, str(asked), str(answered)],
        env={**os.environ, **quiet, "PYTHONPATH": str(packages), "MODELSCOPE_CACHE": str(folder / "cache")},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
    )
    shutil.rmtree(packages)
    assert done.returncode == 0, done.stderr[-4000:]
    answer = json.loads(answered.read_text(encoding="utf-8"))
    answers = [in_names_of_here(trainer, *pair) for pair in zip(jobs, answer["answers"], strict=True)]
    file_results(trainer, answer["versions"], jobs, answers)
    return trainer, jobs, answers


@pytest.mark.parametrize("label", [label_of(*model) for model in MODELS])
def test_released_code_trains_what_the_plan_trains(released, label):
    trainer, jobs, answers = released
    chosen = [(job, answer) for job, answer in zip(jobs, answers, strict=True) if job.label == label]
    assert len(chosen) >= (len(CHOICES) - 1 if trainer == "llama-factory" else len(CHOICES))
    for job, answer in chosen:
        assert set(answer["names"]) == set(job.names)
        if (trainer, label) in RENAMED and job.plan.trainable == CHOICES["with head"]:
            # its transformers has another name for that module, as the export's notes say
            assert any("called embed_out" in note for note in job.notes)
            assert answer["refusal"].startswith("Module lm_head is not found, please choose from ")
            continue
        assert answer["refusal"] is None
        assert set(answer["trained"]) == job.expected
