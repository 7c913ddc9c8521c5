"""Made-up finetunes of a task, whose losses say what is right."""

import numpy as np

from semfreeze_core.records.provenance import provenance_now
from semfreeze_core.records.rates import RateSearch, RateTrial
from semfreeze_core.records.task_checks import TaskChecks
from semfreeze_core.records.training import LoraSetup, TrainingSetup
from semfreeze_core.records.validation import ValidationSettings
from tests.benchmarks.searched_cells import Cell, Reading, Task

N = 40
BEFORE = np.linspace(2.0, 4.0, N)
DEPTHS = {"full": 0, "depth:8": 8, "depth:6": 6, "depth:3": 3}
FLOP = {"full": 1000, "depth:8": 400, "depth:6": 600, "depth:3": 800}
SEARCHED = 4  # steps of the search


def cell(variant, fraction):
    """Lowers every loss by `fraction` at its end, by half of that at half of its steps and at the search's end."""
    half, losses = (((1 - share) * BEFORE).tolist() for share in (fraction / 2, fraction))
    trials = [
        RateTrial(
            rate=rate, end=end, steps=steps, half_losses=None, losses=read, train_losses=[3.0, 2.9, 2.5, 2.4][:steps],
            flop=steps * FLOP[variant] // 8, seconds=0.0,
        )
        for rate, end, read, steps in ((1e-4, "read", half, SEARCHED), (3e-4, "diverged", None, SEARCHED // 2))
    ]  # fmt: skip
    search = RateSearch(
        rate=1e-4, start=1e-4, steps=SEARCHED, n_items=N, loss_before=float(BEFORE.mean()), trials=trials,
        spent_flop=50, spent_seconds=0.0,
    )  # fmt: skip
    flop = FLOP[variant]
    readings = [Reading(step=step, flop=f, seconds=0.0, item_losses=read) for step, f, read in
                ((0, 0, BEFORE.tolist()), (4, flop // 2, half), (8, flop, losses))]  # fmt: skip
    return Cell(
        variant=variant, seed=0, freeze_depth=DEPTHS[variant], status="done", reason="", rate=1e-4, search=search,
        readings=readings, relative_flop=flop / 1000, peak_bytes=1,
    )  # fmt: skip


def task(name="made-up", coverage=0.6, **fractions):
    """Three variants that lower losses alike, or by other fractions; depth_6 adds the one that freezes half."""
    fractions = {"full": 0.5, "depth:8": 0.5, "depth:3": 0.5} | {k.replace("_", ":"): v for k, v in fractions.items()}
    settings = ValidationSettings(
        plan_digest="p", freeze_depth=8, model="m", train="t", eval="e", train_digest="t", eval_digest="e", n_train=8,
        n_eval=N, n_accuracy=0, setup=TrainingSetup(steps=8), arms=[*fractions], learning_rates={}, lora=LoraSetup(1),
        seeds=[0], warmup_steps=1, budget="steps", margin=0.05, device="cpu", n_between=2,
    )  # fmt: skip
    return Task(
        task=name,
        checks=TaskChecks(
            n_train_completions=80, n_eval_completions=N, bigram_coverage=coverage, n_prompts=N, answer_tag_share=1.0
        ),
        picks={"coverage": 7},
        settings=settings,
        n_layers=12,
        before=BEFORE.tolist(),
        completion_tokens=[5] * N,
        cells=[cell(variant, fraction) for variant, fraction in fractions.items()],
        provenance=provenance_now(0),
    )
