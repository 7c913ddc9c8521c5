"""Freezing deeper within a training: it ends with a checkpoint, and goes on from what of it is still trained."""

import json
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import TrainerCallback

from semfreeze_core.finetune.arm.trainer import OPTIMIZED, TRAINED
from semfreeze_core.storage import disk_errors

_OPTIMIZER = "optimizer.pt"  # as the Trainer names it


class EndPhase(TrainerCallback):
    """Ends a training after a step, with a checkpoint; called after the recorder, which may end it before."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.step and not control.should_training_stop:
            control.should_training_stop = control.should_save = True


def deeper_checkpoint(checkpoint: Path, trained: Collection[str], folder: Path) -> Path:
    """The checkpoint that a training goes on from when it trains fewer parameters; returns where it is.

    Weights, moments and step counts of what stays trained, the schedule, the generators' states and the place in the
    order of examples are the checkpoint's; what is frozen has no part in it.

    Args:
        checkpoint: of a PlanTrainer.
        trained: names of the parameters that stay trained.
        folder: where it is written; made when it is missing.

    Raises:
        ResourceError: the disk is full.
    """
    target = folder / checkpoint.name
    with disk_errors(folder):
        shutil.copytree(checkpoint, target, ignore=shutil.ignore_patterns(TRAINED, OPTIMIZED, _OPTIMIZER))
        with safe_open(checkpoint / TRAINED, framework="pt") as saved:
            save_file({name: saved.get_tensor(name) for name in trained}, target / TRAINED)
        groups = json.loads((checkpoint / OPTIMIZED).read_text())
        state = torch.load(checkpoint / _OPTIMIZER, map_location="cpu", weights_only=True, mmap=True)
        torch.save(_fewer(state, groups, trained), target / _OPTIMIZER)
        names_by_group = [[name for name in group if name in trained] for group in groups]
        (target / OPTIMIZED).write_text(json.dumps(names_by_group))
    return target


def _fewer(state: dict[str, Any], groups: list[list[str]], trained: Collection[str]) -> dict[str, Any]:
    """An optimizer's state without the parameters that are no longer trained, whose numbers the others close up."""
    states: dict[int, Any] = {}
    param_groups = []
    numbers = 0
    for names, group in zip(groups, state["param_groups"], strict=True):
        numbers_of_group = []
        for name, number in zip(names, group["params"], strict=True):
            if name not in trained:
                continue
            if number in state["state"]:
                states[numbers] = state["state"][number]
            numbers_of_group.append(numbers)
            numbers += 1
        param_groups.append({**group, "params": numbers_of_group})
    return {**state, "state": states, "param_groups": param_groups}
