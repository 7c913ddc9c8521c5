"""transformers' Trainer with checkpoints of the trained parameters only: frozen ones are in the base model."""

import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin, save_fsdp_optimizer
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import Sampler
from transformers import Trainer, TrainerCallback
from transformers.training_args import ParallelMode

from semfreeze_core.errors import RunError
from semfreeze_core.finetune.arm.example_order import ExampleOrder
from semfreeze_core.finetune.model.sharding import is_sharded, put_whole, whole
from semfreeze_core.processes import is_first, wait_for_all
from semfreeze_core.storage import disk_errors, write_atomically

TRAINED = "trained.safetensors"
OPTIMIZED = "optimized.json"  # names of the parameters by group of the optimizer, whose own state numbers them
_STATE = "trainer_state.json"
_FSDP_VARIABLE = "ACCELERATE_USE_FSDP"

# A training continues the trial of its learning rate, which was saved at other steps. What else must match is held by
# the folder's settings.
logging.getLogger("transformers.trainer_utils").addFilter(
    lambda record: "do not match the ones in the `trainer_state.json`" not in record.getMessage()
)


class PlanTrainer(Trainer):
    """Saves and loads what is trained, by name; everything else about checkpoints is the Trainer's.

    Of several processes the first one saves what all share.

    Args:
        order: of the examples; None is the Trainer's own.
        autocast: what a sharded model's passes run in; None where it is not sharded.
        how: as for the Trainer.
    """

    def __init__(
        self,
        *,
        order: Sampler[Any] | None = None,
        autocast: Callable[[], AbstractContextManager[Any]] | None = None,
        **how: Any,
    ) -> None:
        self._autocast = autocast
        super().__init__(**how)
        self._order = order
        if isinstance(order, ExampleOrder):
            self.add_callback(_BeginEpoch(order))
        if self.args.parallel_mode is ParallelMode.DISTRIBUTED:
            network = self._network()
            trained = trained_names(network)
            # Every process has loaded the same ones: neither they nor what a cache has taken off the device is sent.
            network._ddp_params_and_buffers_to_ignore = [  # type: ignore[assignment]
                name for name, _ in (*network.named_parameters(), *network.named_buffers()) if name not in trained
            ]

    def create_accelerator_and_postprocess(self) -> None:
        if self._autocast is None:
            super().create_accelerator_and_postprocess()
            return
        with _without(_FSDP_VARIABLE):  # accelerate sets it for all that follows in this process
            super().create_accelerator_and_postprocess()
        if self.is_fsdp_enabled:
            return
        # accelerate shards on GPUs alone, and on processors it would wrap the model in DistributedDataParallel instead.
        plugin = FullyShardedDataParallelPlugin(**self.args.fsdp_plugin_args)
        self.accelerator.state.distributed_type = DistributedType.FSDP
        self.accelerator.state.fsdp_plugin = plugin
        self.is_fsdp_enabled = True

    def autocast_smart_context_manager(self, *args: Any, **kwargs: Any) -> AbstractContextManager[Any]:
        if self._autocast is not None:
            return self._autocast()
        context: AbstractContextManager[Any] = super().autocast_smart_context_manager(*args, **kwargs)
        return context

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Sampler[Any] | None:
        if self._order is not None:
            return self._order
        sampler: Sampler[Any] | None = super()._get_train_sampler(*args, **kwargs)
        return sampler

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        with disk_errors(Path(str(self.args.output_dir))):  # trackers write elsewhere, and over the network
            super()._save_checkpoint(*args, **kwargs)
        wait_for_all()  # whoever reads it next finds it whole

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        wait_for_all()  # the Trainer's state is written next, and marks the checkpoint as complete

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        if self._autocast is None:
            super().save_model(output_dir, _internal_call)
        else:
            self._save(output_dir)  # the Trainer itself writes no model of shards

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if self._autocast is None:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        # Not the model, whose frozen parts are in the base model.
        save_fsdp_optimizer(
            self.accelerator.state.fsdp_plugin, self.accelerator, self.optimizer, self._network(), output_dir
        )
        if is_first() and self.lr_scheduler is not None:
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / "scheduler.pt")

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        tensors = trained_tensors(self._network())
        if not is_first():
            return
        folder = Path(str(output_dir or self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        save_file(tensors, folder / TRAINED)
        if self.optimizer is not None:
            names = {id(parameter): name for name, parameter in self._network().named_parameters()}
            groups = [[names[id(parameter)] for parameter in group["params"]] for group in self.optimizer.param_groups]
            (folder / OPTIMIZED).write_text(json.dumps(groups))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        load_trained(self._network(), Path(resume_from_checkpoint))

    def _load_best_model(self) -> None:
        load_trained(self._network(), Path(str(self.state.best_model_checkpoint)))

    def _network(self) -> nn.Module:
        if not isinstance(self.model, nn.Module):
            raise TypeError("the trainer has no model")
        return self.model


def end_shards() -> None:
    """Let the next training of this process shard nothing, as accelerate would go on to."""
    AcceleratorState._reset_state()


@contextmanager
def _without(variable: str) -> Iterator[None]:
    """Take an environment variable away again that the block may set."""
    try:
        yield
    finally:
        os.environ.pop(variable, None)


class _BeginEpoch(TrainerCallback):
    """Names the epoch to the order: accelerate does not where it skips the batches that a checkpoint has seen."""

    def __init__(self, order: ExampleOrder) -> None:
        self.order = order

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.order.set_epoch(state.global_step // self.order.steps)


class SaveLastStep(TrainerCallback):
    """Saves a checkpoint after the last step, and none before."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        control.should_save |= state.global_step >= state.max_steps


def trained_tensors(model: nn.Module) -> dict[str, Any]:
    """The trained parameters by name; a shared one once.

    Of a sharded model, whose processes must all ask, they are on the CPU, in the first process alone.
    """
    if not is_sharded(model):
        return {name: p.data.contiguous() for name, p in model.named_parameters() if p.requires_grad}
    tensors = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            values = whole(parameter.data)
            if is_first():
                tensors[name] = values.cpu().contiguous()
    return tensors


def trained_names(model: nn.Module) -> set[str]:
    """Names of the trained parameters; of a shared one the first."""
    return {name for name, p in model.named_parameters() if p.requires_grad}


def load_trained(model: nn.Module, checkpoint: Path) -> None:
    """Put a checkpoint's parameters into the model.

    Raises:
        RunError: it holds parameters other than those the model trains.
    """
    saved = load_file(checkpoint / TRAINED)
    wanted = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if saved.keys() != wanted.keys() or any(saved[n].shape != p.shape for n, p in wanted.items()):
        raise RunError(
            f"{checkpoint} is from another training: it holds {len(saved)} tensors, but {len(wanted)} are trained."
        )
    for name, parameter in wanted.items():
        put_whole(parameter.data, saved[name])


def last_complete_checkpoint(folder: Path) -> Path | None:
    """The last complete checkpoint; an incomplete one is skipped."""
    return next(iter(complete_checkpoints(folder)), None)


def complete_checkpoints(folder: Path) -> list[Path]:
    """All complete checkpoints, the last one first."""
    return [path for _, path in sorted(_numbered(folder), reverse=True) if _is_complete(path)]


def trainer_state(checkpoint: Path) -> dict[str, Any]:
    """What the Trainer knew when it wrote a complete checkpoint."""
    state: dict[str, Any] = json.loads((checkpoint / _STATE).read_text())
    return state


def write_trainer_state(checkpoint: Path, state: dict[str, Any]) -> None:
    """Replace what the Trainer knew."""
    write_atomically(checkpoint / _STATE, json.dumps(state, indent=2) + "\n")


def checkpoint_step(checkpoint: Path) -> int:
    """After how many steps a checkpoint was written, or weights kept alone."""
    return int(checkpoint.name.rpartition("-")[2])


def remove_incomplete_checkpoints(folder: Path) -> None:
    """Delete what a kill or a full disk left of checkpoints that were being written or deleted."""
    for _, path in _numbered(folder):
        if not _is_complete(path):
            shutil.rmtree(path, ignore_errors=True)


def _numbered(folder: Path) -> list[tuple[int, Path]]:
    return [
        (int(m[1]), path) for path in folder.glob("checkpoint-*") if (m := re.fullmatch(r"checkpoint-(\d+)", path.name))
    ]


def _is_complete(path: Path) -> bool:
    """Whether the Trainer wrote its state, which it does last."""
    try:
        if not isinstance(json.loads((path / _STATE).read_text()), dict):
            return False
        with safe_open(path / TRAINED, framework="pt"):
            return True
    except (OSError, ValueError, SafetensorError):
        return False
