"""Searching one variant's learning rate: short trainings from the same weights on the same batches.

The trial that wins leaves a checkpoint, from which the variant's training goes on: only the others' steps are lost.
"""

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from transformers import TrainerCallback

from semfreeze_core.finetune.arm.files import TRIALS, trial_folder
from semfreeze_core.finetune.arm.flop import BatchSize
from semfreeze_core.finetune.arm.recorder import Record
from semfreeze_core.finetune.arm.trainer import last_complete_checkpoint
from semfreeze_core.gains.rates import at_edge, best_trial, is_behind, is_unstable, later_half, next_rate
from semfreeze_core.processes import from_first
from semfreeze_core.progress import Progress, ProgressEvent
from semfreeze_core.records.provenance import Document
from semfreeze_core.records.rates import RateSearch, RateTrial, TrialEnd
from semfreeze_core.storage import write_atomically
from semfreeze_core.wording.rates import trial_line

Sizes = list[BatchSize]


class WinningTrial(Document):
    """What goes on with a trial's checkpoint: its steps as they were recorded, and its batches' sizes."""

    rate: float
    train_losses: list[float]
    step_seconds: list[float]
    peak_bytes: int
    sizes: list[BatchSize]


class SearchState(Document):
    """The trials so far, as they are kept for a search that is killed, and what goes on with the best one."""

    loss_before: float | None
    n_items: int
    trials: list[RateTrial]
    best: WinningTrial | None


@dataclass
class Trial:
    """A trial while it trains.

    Attributes:
        rate: its learning rate.
        steps: where it ends.
        evaluate: losses of the search's eval items now; None compares training batches.
        best_half: the best trial's losses half-way, or None.
        best_loss: the best trial's loss, or the loss before training; infinite where neither is there.
        half, losses: its own losses half-way and at its end, once there.
        end: how it ended.
    """

    rate: float
    steps: int
    evaluate: Callable[[], list[float]] | None
    best_half: Sequence[float] | None
    best_loss: float
    half: list[float] | None = None
    losses: list[float] | None = None
    end: TrialEnd = "diverged"

    @property
    def at(self) -> frozenset[int]:
        """After which steps it is evaluated."""
        return frozenset({self.steps // 2, self.steps})

    def read(self, step: int, train_losses: Sequence[float]) -> None:
        """Evaluate after a step, and decide whether the trial ends.

        Args:
            step: steps done.
            train_losses: of the steps so far.
        """
        losses = later_half(train_losses) if self.evaluate is None else self.evaluate()
        if step == self.steps:
            self.losses, self.end = losses, "read"
            return
        self.half = losses
        if self.best_half is not None and is_behind(losses, self.best_half, on_batches=self.evaluate is None):
            self.end = "behind"

    @property
    def is_best(self) -> bool:
        """Whether its loss is the lowest so far."""
        return self.losses is not None and _mean(self.losses) < self.best_loss


@dataclass
class RateTrials:
    """The search of one variant.

    Attributes:
        folder: of the trials' state and the best one's checkpoint.
        start: the first rate.
        steps: where trials are compared.
        reset: puts the trained parameters back as they were.
        train: trains a trial, in a folder; returns what was recorded, the batches' sizes and their FLOPs.
        evaluate: losses of the eval items now, nats; of the same ones at every call; None compares training batches,
            which takes no evaluation.
        n_batch: examples of a batch.
        evaluation_flop: FLOPs of one such evaluation.
        lower_first, too_high: as in next_rate.
    """

    folder: Path
    start: float
    steps: int
    reset: Callable[[], None]
    train: Callable[[Trial, Path], tuple[Record, Sizes, int]]
    evaluate: Callable[[], list[float]] | None
    n_batch: int
    evaluation_flop: int
    progress: Progress
    stage: str
    lower_first: bool = False
    too_high: float | None = None

    def run(self) -> tuple[RateSearch, WinningTrial | None]:
        """Try rates until none is left to try; the best one's checkpoint is in `checkpoint_folder`, if it is not None.

        What another call left in the folder is used. The parameters are as before, whichever trial was last.
        """
        state = from_first(self._state)
        if state is None:
            state = self._untried()
        loss_before = state.loss_before
        while (rate := self._next_rate(state)) is not None:
            state = self._try(rate, state)
        self.reset()
        best = best_trial(state.trials, loss_before)
        lost = [trial for trial in state.trials if best is None or trial.rate != best.rate]
        search = RateSearch(
            rate=None if best is None else best.rate,
            start=self.start,
            steps=self.steps,
            n_items=state.n_items,
            loss_before=loss_before,
            trials=state.trials,
            spent_flop=sum(t.flop for t in lost) + self._n_evaluations(state.trials) * self.evaluation_flop,
            spent_seconds=sum(t.seconds for t in lost),
            at_edge=best is not None and at_edge(state.trials, best.rate, self.too_high),
            unstable=best is not None and is_unstable(best.train_losses),
            compared_on="training batches" if self.evaluate is None else "eval examples",
            too_high=self.too_high,
        )
        winner = state.best
        if winner is None or best is None or winner.rate != best.rate or not self.checkpoint(winner.rate):
            return search, None
        return search, winner

    def checkpoint(self, rate: float) -> Path | None:
        """The checkpoint of a rate's trial, or None."""
        folder = self._trial_folder(rate)
        return from_first(lambda: last_complete_checkpoint(folder) if folder.is_dir() else None)

    def _untried(self) -> SearchState:
        if self.evaluate is None:
            n_items = (self.steps - self.steps // 2) * self.n_batch
            return SearchState(loss_before=None, n_items=n_items, trials=[], best=None)
        before = self.evaluate()
        return SearchState(loss_before=_mean(before), n_items=len(before), trials=[], best=None)

    def _next_rate(self, state: SearchState) -> float | None:
        return next_rate(
            state.trials, self.start, state.loss_before, lower_first=self.lower_first, too_high=self.too_high
        )

    def _try(self, rate: float, state: SearchState) -> SearchState:
        best = best_trial(state.trials, state.loss_before)
        bound = math.inf if state.loss_before is None else state.loss_before
        trial = Trial(
            rate,
            self.steps,
            self.evaluate,
            None if best is None else best.half_losses,
            bound if best is None or best.loss is None else best.loss,
        )
        self.reset()
        folder = self._trial_folder(rate)
        from_first(lambda: shutil.rmtree(folder, ignore_errors=True))  # of a trial that was killed
        record, sizes, flop = self.train(trial, folder)
        done = RateTrial(
            rate=rate,
            end="diverged" if record.failure else trial.end,
            steps=len(record.losses),
            half_losses=trial.half,
            losses=trial.losses,
            train_losses=record.losses,
            flop=flop,
            seconds=sum(record.step_seconds),
        )
        self.progress(ProgressEvent(self.stage, message=f"{self.stage}: {trial_line(done)}"))
        trials = [*state.trials, done]
        stored_best = state.best
        if (winner := best_trial(trials, state.loss_before)) is done:
            stored_best = WinningTrial(
                rate=rate,
                train_losses=record.losses,
                step_seconds=record.step_seconds,
                peak_bytes=record.peak_bytes,
                sizes=sizes,
            )
        state = state.model_copy(update={"trials": trials, "best": stored_best})
        from_first(lambda: self._keep(state, winner))
        return state

    def _keep(self, state: SearchState, winner: RateTrial | None) -> None:
        """Write the trials, and delete the checkpoints of all but the winner."""
        write_atomically(self._file, state.model_dump_json() + "\n")
        for other in state.trials:
            if winner is None or other.rate != winner.rate:
                shutil.rmtree(self._trial_folder(other.rate), ignore_errors=True)

    def _state(self) -> SearchState | None:
        """The trials of a call that was killed; a damaged file is no trial."""
        try:
            return SearchState.model_validate_json(self._file.read_text())
        except (OSError, UnicodeDecodeError, ValidationError):
            return None

    def _n_evaluations(self, trials: Sequence[RateTrial]) -> int:
        if self.evaluate is None:
            return 0
        return 1 + sum((t.half_losses is not None) + (t.losses is not None) for t in trials)

    @property
    def _file(self) -> Path:
        return self.folder / TRIALS

    def _trial_folder(self, rate: float) -> Path:
        return trial_folder(self.folder, rate)


class EndTrial(TrainerCallback):
    """Ends a trial once it is read or behind, and has a new best one saved; called after the recorder, which reads."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.trial.end != "diverged":
            control.should_training_stop = True
            control.should_save = self.trial.is_best


def parameters_before(model: torch.nn.Module) -> Callable[[], None]:
    """A function that puts the trained parameters back as they are now, from a copy in the machine's memory."""
    saved = {name: p.detach().to("cpu", copy=True) for name, p in model.named_parameters() if p.requires_grad}

    def reset() -> None:
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name in saved:
                    parameter.copy_(saved[name])
                    parameter.grad = None

    return reset


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
