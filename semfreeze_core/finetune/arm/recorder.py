"""What is recorded while an arm trains: losses, seconds, memory, and evaluations at its marks."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import TrainerCallback

from semfreeze_core.device import PeakMemory, synchronize
from semfreeze_core.finetune.model.supervised_head import SupervisedModel
from semfreeze_core.progress import Progress, ProgressEvent
from semfreeze_core.records.validation import PeakKind


@dataclass
class Record:
    """What was measured so far.

    Attributes:
        losses: train loss of each step, nats per target token.
        step_seconds: wall time of each step, without evaluation.
        peak_bytes: most memory used by training, without evaluation.
        failure: why the arm had to end, or "".
    """

    losses: list[float] = field(default_factory=list)
    step_seconds: list[float] = field(default_factory=list)
    peak_bytes: int = 0
    failure: str = ""


class Recorder(TrainerCallback):
    """Records each step, and calls `evaluate(step)` after the steps in `at`; neither time nor memory counts it.

    `begin` is called once the trainer has put the model on its device, before the first step; `follow` after every
    step, with the clock stopped. `record` holds the steps that a resumed training made before.
    """

    def __init__(
        self,
        network: SupervisedModel,
        evaluate: Callable[[int], None],
        at: frozenset[int],
        *,
        begin: Callable[[], None],
        device: torch.device,
        baseline_bytes: int,
        total: int,
        stage: str,
        progress: Progress,
        follow: Callable[[], None] = lambda: None,
        record: Record | None = None,
    ) -> None:
        self.network, self.evaluate, self.at, self.begin = network, evaluate, at, begin
        self.device, self.baseline_bytes = device, baseline_bytes
        self.total, self.stage, self.progress = total, stage, progress
        self.follow = follow
        self.record = Record() if record is None else record
        self._clock = 0.0
        self._peak = PeakMemory(device, baseline_bytes)

    @property
    def peak_kind(self) -> PeakKind:
        """What the recorded peak measures."""
        return "cuda allocator" if self._peak.is_allocator else "process resident, less its baseline after import"

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Start the clock."""
        self.begin()
        self._forget_peak()
        synchronize(self.device)
        self._clock = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Record the step; end the training when its loss is not a number."""
        loss = self.network.take_loss()  # the one wait of a step: what the device does next is queued behind the rest
        self.record.step_seconds.append(time.perf_counter() - self._clock)
        self.record.peak_bytes = max(self.record.peak_bytes, self._peak.read())
        self.record.losses.append(loss)
        self.progress(ProgressEvent(self.stage, state.global_step, self.total, "steps"))
        if not math.isfinite(loss):
            self.record.failure = f"the loss was {loss} at step {state.global_step}: a lower --lr may help"
            control.should_training_stop = True
        elif state.global_step in self.at:
            self.evaluate(state.global_step)
            self._forget_peak()
            synchronize(self.device)
        self.follow()
        self._clock = time.perf_counter()

    def _forget_peak(self) -> None:
        """Exclude what an evaluation used; not after every step, as garbage collection can take longer than a step."""
        self._peak = PeakMemory(self.device, self.baseline_bytes)
