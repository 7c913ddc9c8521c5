"""A tiny model on disk, a task it can learn a little of, and a plan for it."""

import json
from pathlib import Path

import numpy as np

from semfreeze_core.cost import cost_table, full_cost, parts_at_depth
from semfreeze_core.cost.document import CostEntry
from semfreeze_core.plan.document import EvidenceEntry, FreezePlan, IntervalEntry, PlanCost, trainable_regex
from semfreeze_core.records.provenance import provenance_now
from semfreeze_core.records.training import LoraSetup, TrainingSetup
from semfreeze_core.sources.causal_lm import LoadedModel
from tests.core.finetune.loaded import load_tiny

_UNKNOWN = IntervalEntry(estimate=None, low=None, high=None)


def write_task(path: Path, n: int, *, seed: int = 0) -> Path:
    """A task file whose completion follows from one word of the prompt."""
    rng = np.random.default_rng(seed)
    answers = {"card": " pay", "robe": " wear", "fiber": " weave"}
    rows = []
    for _ in range(n):
        word = str(rng.choice(list(answers)))
        filler = " ".join(rng.choice(["my", "blue", "white", "top", "half"], size=rng.integers(1, 5)))
        rows.append({"prompt": f"{filler} {word}?", "completion": answers[word]})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def make_tiny_plan(
    folder: Path, depth: int | None = 2, *, lora: LoraSetup | None = None
) -> tuple[FreezePlan, LoadedModel]:
    """A plan for the tiny Llama in `folder` (made when it is not there); one that abstains without a depth."""
    loaded = load_tiny(folder)
    setup = TrainingSetup(sequence_length=16, lora=lora)
    parts = None if depth is None else parts_at_depth(loaded.shape, depth, lora=lora is not None)
    names = loaded.decoder.names
    full = CostEntry.of(full_cost(loaded.shape, setup))
    planned = None if depth is None else CostEntry.of(cost_table(loaded.shape, setup)[depth])
    evidence = EvidenceEntry(
        verdict="evidence" if parts else "no evidence",
        reasons=["by hand"],
        advantage=_UNKNOWN,
        task_null=_UNKNOWN,
        n_examples=64,
        n_pairs=64,
        isotonic_r_squared=None,
        pick_interval=None,
    )
    plan = FreezePlan(
        model=loaded.identity,
        n_layers=loaded.shape.n_layers,
        freeze_depth=depth,
        candidate_depth=2,
        recommendation="freeze" if parts else "abstain",
        rule="manual",
        rule_parameters={},
        metric="semantic",
        reasons=["by hand"],
        warnings=[],
        gain_coverage=_UNKNOWN,
        trainable=parts,
        trainable_regex=None if parts is None else trainable_regex(names, parts, lora=lora is not None),
        cost=PlanCost(setup=setup, reason=None, planned=planned, full=full),
        evidence=evidence,
        run=None,
        data_digest="",
        provenance=provenance_now(0),
    )
    return plan, loaded
