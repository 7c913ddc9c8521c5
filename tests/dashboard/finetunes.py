"""Guided finetunes as their folders stand: finished, and while the race runs."""

import json

from semfreeze_core.records.finetune_report import DECISION, FINETUNE_REPORT, FinetuneReport
from semfreeze_core.records.provenance import provenance_now
from semfreeze_core.records.race import RACE_FOLDER, Objective, Race, RaceVariant
from semfreeze_core.records.rates import RateTrial
from semfreeze_core.records.task_checks import TaskChecks
from semfreeze_core.runs.reports import list_validations
from semfreeze_core.runs.store import example_run


def variant(name, depth, loss, **changes):
    values = {
        "name": name, "freeze_depth": depth, "learning_rate": 1e-4, "loss": loss, "token_loss": loss + 0.01,
        "items_standing": "within", "tokens_standing": "within", "run_flop": (30 - depth) * 10**12, "run_seconds": 90.0,
    }  # fmt: skip
    return RaceVariant(**values | changes)


def raced():
    variants = [variant("full", 0, 1.2), variant("depth:7", 7, 1.21), variant("depth:20", 20, 1.5, learning_rate=3e-4)]
    return Race(
        objective=Objective(), steps=20, batch_size=8, n_eval=128, margin=0.05, confidence=0.9, loss_before=2.0,
        token_loss_before=2.1, loss_variation=0.4, variants=variants, chosen="depth:7", told_apart=True,
        reason="Chosen: freeze 7, the cheapest.", lost_flop=3 * 10**12, full_flop=30 * 10**12,
    )  # fmt: skip


def report(folder, **changes):
    race = raced()
    values = {
        "folder": str(folder), "n_layers": 30, "freeze_depth": 7, "rule": "auto", "badge": "checked",
        "reasons": [race.reason], "objective": race.objective, "n_train": 400, "n_eval": 128, "held_out": True,
        "steps": 150, "race": race, "planned_flop": 23 * 10**12, "full_flop": 30 * 10**12, "race_flop": 3 * 10**12,
        "planned_bytes": 2**31, "full_bytes": 2**32, "provenance": provenance_now(0),
        "checks": TaskChecks(
            n_train_completions=80, n_eval_completions=80, bigram_coverage=0.6, n_prompts=80, answer_tag_share=1.0
        ),
        "training": {"before": {"loss": 2.0}, "after": {"loss": 1.0, "step": 150}, "notes": [f"Kept in {folder}."]},
    }  # fmt: skip
    return FinetuneReport(**values | changes)


def write_finished(folder):
    (folder / DECISION).mkdir(parents=True)
    (folder / FINETUNE_REPORT).write_text(report(folder).model_dump_json())
    return folder


def trial(rate, loss, end="read"):
    return RateTrial(
        rate=rate, end=end, steps=20 if end == "read" else 10, half_losses=[loss + 0.5],
        losses=[loss] if end == "read" else None, train_losses=[loss], flop=10, seconds=1.0,
    )  # fmt: skip


def write_racing(folder, losses=None, **trials):
    """A race that runs: trials by the file names of its variants, and eval losses of those that have ended, by name."""
    runs = folder / DECISION / RACE_FOLDER / "runs"
    runs.mkdir(parents=True)
    for name, tried in trials.items():
        path = runs / f"{name}-seed0.rates" / "trials.json"
        path.parent.mkdir()
        document = {"loss_before": 2.0, "n_items": 64, "trials": [t.model_dump() for t in tried], "best": None}
        path.write_text(json.dumps(document))
    for name, loss in (losses or {}).items():
        run = list_validations(example_run())["sentence_to_json_train"].runs[0]
        points = [*run.points[:-1], run.points[-1].model_copy(update={"loss": loss})]
        ended = run.model_copy(update={"arm": name, "points": points, "learning_rate": 3e-5, "rate_search": None})
        (runs / f"{name.replace(':', '-')}-seed0.json").write_text(ended.model_dump_json())
    return folder
