"""Where a training keeps the weights whose eval loss was lowest."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from transformers import TrainerCallback, TrainingArguments

from semfreeze_core.finetune.arm.trainer import (
    TRAINED,
    PlanTrainer,
    complete_checkpoints,
    trained_tensors,
    trainer_state,
    write_trainer_state,
)
from semfreeze_core.processes import is_first, wait_for_all
from semfreeze_core.storage import disk_errors
from semfreeze_core.temporary import temporary_folder

_BEST = "best"  # of the name of a folder that holds weights alone


class BestTrainer(PlanTrainer):
    """Ends with the weights whose eval loss was lowest: those of a checkpoint, or where their step has none kept alone.

    Args:
        args: of the Trainer.
        evaluated: after which steps there is an eval loss.
        last_loss: returns the eval loss measured after this step.
        after: weights of this step or before are of other parameters: they are left to the caller.
        how: as for the Trainer.
    """

    def __init__(
        self,
        *,
        args: TrainingArguments,
        evaluated: frozenset[int],
        last_loss: Callable[[], float],
        after: int = 0,
        **how: Any,
    ) -> None:
        args.load_best_model_at_end, args.metric_for_best_model, args.greater_is_better = True, "eval_loss", False
        super().__init__(args=args, **how)
        self._last_loss, self._after = last_loss, after
        self.add_callback(_EvaluateAt(evaluated))

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """The measured loss, in place of an evaluation by the Trainer."""
        metrics = {"eval_loss": self._last_loss()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _determine_best_metric(self, *args: Any, **how: Any) -> bool:
        is_best: bool = super()._determine_best_metric(*args, **how)
        if is_best and not self.control.should_save:
            self._keep_weights()
        return is_best

    def _keep_weights(self) -> None:
        """Write this step's weights, a third of a checkpoint with AdamW's moments."""
        checkpoints = Path(str(self.args.output_dir))
        best = checkpoints / f"{_BEST}-{self.state.global_step}"
        tensors = trained_tensors(self._network())
        if is_first():
            with disk_errors(checkpoints), temporary_folder(checkpoints.parent) as partial:
                made = partial / _BEST
                made.mkdir()
                save_file(tensors, made / TRAINED)
                checkpoints.mkdir(exist_ok=True)
                shutil.rmtree(best, ignore_errors=True)  # of a training that was killed after this step
                os.replace(made, best)
            remove_surpassed(checkpoints, self.state.global_step)
        wait_for_all()
        self.state.best_model_checkpoint = str(best)

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        super()._save_checkpoint(*args, **kwargs)
        if is_first():
            remove_surpassed(Path(str(self.args.output_dir)), self.state.best_global_step)

    def _load_best_model(self) -> None:
        if int(self.state.best_global_step or 0) > self._after:
            super()._load_best_model()


class _EvaluateAt(TrainerCallback):
    def __init__(self, steps: frozenset[int]) -> None:
        self.steps = steps

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        control.should_evaluate = state.global_step in self.steps


def best_weights(last: Path, folder: Path) -> Path | None:
    """Where the weights are whose eval loss was lowest until `last`, as that knows; None where they are gone.

    Args:
        last: the checkpoint to resume from.
        folder: of the training's checkpoints.
    """
    step = trainer_state(last).get("best_global_step")
    checkpoint = folder / f"checkpoint-{step}"
    if checkpoint in complete_checkpoints(folder):
        return checkpoint
    alone = folder / f"{_BEST}-{step}"
    return alone if _has_weights(alone) else None


def relocate_best(last: Path, folder: Path) -> None:
    """Name the best weights that a checkpoint knows where they are now: the Trainer wrote their absolute path.

    Args:
        last: the checkpoint to resume from, whose folder may have been moved or copied.
        folder: of the training's checkpoints.
    """
    best, state = best_weights(last, folder), trainer_state(last)
    if best is not None and state.get("best_model_checkpoint") not in (None, str(best)):
        write_trainer_state(last, {**state, "best_model_checkpoint": str(best)})


def remove_surpassed(folder: Path, best_step: int | None) -> None:
    """Delete weights kept alone, but those of the best step and of what a checkpoint may resume with.

    Args:
        folder: of the training's checkpoints.
        best_step: with the lowest eval loss so far.
    """
    needed = {best_step, *(trainer_state(path).get("best_global_step") for path in complete_checkpoints(folder))}
    for path in folder.glob(f"{_BEST}-*"):
        if path.name not in {f"{_BEST}-{step}" for step in needed}:
            shutil.rmtree(path, ignore_errors=True)


def _has_weights(checkpoint: Path) -> bool:
    try:
        with safe_open(checkpoint / TRAINED, framework="pt"):
            return True
    except (OSError, SafetensorError):
        return False
