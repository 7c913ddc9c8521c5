"""Which process this is of those that read or train one model together, and how they agree; alone, it does nothing.

A launcher (torchrun, accelerate launch) starts the processes and names them by environment variables; accelerate makes
their process group. What is exchanged here are Python objects, over the processors' own connection (gloo); gradients
are exchanged by torch's DistributedDataParallel.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from semfreeze_core.errors import InputError, RunError, SemfreezeError

_T = TypeVar("_T")

# By environment variables that accelerate launch sets.
_OTHER_WAYS = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "tensor or context parallelism",
}

# One process may load, save or evaluate for long while the others wait; the launcher ends them all when one has died.
_LONGEST_WAIT = timedelta(hours=2)
# Processes that fail for the same reason do so within this time; one that fails alone reports it after this time.
_FAILURE_WAIT = timedelta(seconds=10)


@dataclass(frozen=True)
class Launch:
    """What the launcher says of this process; that of a process that was started alone by default.

    Attributes:
        index, count: of all processes.
        local_index, local_count: of those on this machine.
    """

    index: int = 0
    count: int = 1
    local_index: int = 0
    local_count: int = 1


@dataclass(frozen=True)
class Share:
    """Every `of`-th of some examples, from the `index`-th on.

    Attributes:
        index: 0-based.
        of: how many shares there are.
    """

    index: int = 0
    of: int = 1

    def indices(self, n_examples: int) -> range:
        """Which of so many examples are in it."""
        return range(self.index, n_examples, self.of)


WHOLE = Share()


def launch() -> Launch:
    """What a launcher's environment variables say; without LOCAL_RANK none has started this process."""
    if int(os.environ.get("LOCAL_RANK", "-1")) < 0:
        return Launch()
    index, count = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    return Launch(index, count, int(os.environ["LOCAL_RANK"]), int(os.environ.get("LOCAL_WORLD_SIZE", count)))


def refuse_launcher(what: str) -> None:
    """Refuse what one process does where a launcher started several.

    Args:
        what: it does, such as "comparing variants".

    Raises:
        InputError: there are several; with what may be started so.
    """
    count = launch().count
    if count > 1:
        raise InputError(
            f"A launcher started {count} processes, but {what} takes one: start it without torchrun or accelerate "
            "launch, and choose a GPU with --device cuda:N. Several GPUs analyze a model or train a plan: "
            "torchrun --nproc-per-node N -m semfreeze_core analyze, or train."
        )


def refuse_other_ways() -> None:
    """Refuse what `accelerate config` may ask for, and the Trainer would do, besides several plain processes.

    Raises:
        InputError: it is named, with what to do.
    """
    asked = [way for name, way in _OTHER_WAYS.items() if os.environ.get(name, "false").lower() == "true"]
    if os.environ.get("ACCELERATE_DYNAMO_BACKEND", "no").lower() != "no":
        asked.append("torch.compile")
    if asked:
        shards = " `semfreeze train --shard` shards what trains by itself." if "FSDP" in asked else ""
        raise InputError(
            f"accelerate is configured for {' and '.join(asked)}, and semfreeze works without: choose multi-GPU alone "
            f"in `accelerate config`, or start the command with torchrun.{shards}"
        )


def own_device(name: str) -> str:
    """The device of this process, where one of several is named for all; alone, what was named.

    Args:
        name: auto, cpu or cuda.

    Raises:
        InputError: a device that several processes cannot share, or fewer GPUs than processes.
    """
    at = launch()
    if at.count == 1:
        return name
    from semfreeze_core.device import count_gpus  # brings torch

    n_gpus = count_gpus()
    if name == "auto":
        name = "cuda" if n_gpus else "cpu"
    if name == "cpu":
        return name
    if name != "cuda":
        raise InputError(
            f"--device {name}: {at.count} processes cannot use one device. Use --device cuda, which gives each "
            "process a GPU of its own, or --device cpu."
        )
    if n_gpus < at.local_count:
        raise InputError(
            f"The launcher started {at.local_count} processes on this machine, and torch sees {n_gpus} CUDA devices: "
            "start as many processes as there are GPUs (--nproc-per-node), or use --device cpu."
        )
    return f"cuda:{at.local_index}"


@dataclass(frozen=True)
class _Joined:
    """The processes that work together.

    Attributes:
        share: which of them this is.
        group: to agree in.
        failures: to report failures in, with a short time-out.
    """

    share: Share
    group: Any
    failures: Any


_joined: _Joined | None = None


@contextmanager
def joined(device_type: str, work: str, again: str) -> Iterator[None]:
    """Join the other processes that the launcher started, if there are any, while the block runs.

    An error of ours that this process alone met has its `process` set.

    Args:
        device_type: that they compute on, "cpu" or "cuda".
        work: what they do together, such as "training".
        again: what the same command does after a process was lost, such as "it resumes from the last checkpoint".

    Raises:
        RunError: another process has ended.
    """
    global _joined
    at = launch()
    if at.count == 1:
        yield
        return
    import torch.distributed as dist

    made = not dist.is_initialized()
    if made:
        _make_group(device_type)
    ranks = list(range(at.count))
    group, failures = (dist.new_group(ranks, timeout=wait, backend="gloo") for wait in (_LONGEST_WAIT, _FAILURE_WAIT))
    _joined = _Joined(Share(at.index, at.count), group, failures)
    try:
        try:
            yield
            wait_for_all()
        except RuntimeError as error:
            if not _is_lost(error):
                raise
            raise RunError(f"Another process of this {work} has ended. Run the same command again: {again}.") from error
        if made:
            dist.destroy_process_group()
    except SemfreezeError as error:
        if not _all_fail(failures, at.count):
            error.process = at.index
        raise
    finally:
        _joined = None


def _make_group(device_type: str) -> None:
    from accelerate.state import AcceleratorState, PartialState

    AcceleratorState._reset_state(reset_partial_state=True)
    PartialState(cpu=device_type == "cpu", timeout=_LONGEST_WAIT)


def _is_lost(error: RuntimeError) -> bool:
    """Whether an error is of a connection to another process, as gloo and NCCL report them."""
    import torch.distributed as dist

    return isinstance(error, dist.DistError) or "gloo" in str(error).lower()


def _all_fail(failures: Any, count: int) -> bool:
    """Whether all processes come here, within the time-out."""
    import torch.distributed as dist

    try:
        dist.all_gather_object([None] * count, True, group=failures)
    except RuntimeError:
        return False
    return True


def own_share() -> Share:
    """Which of the joined processes this is; the whole where it works alone."""
    return WHOLE if _joined is None else _joined.share


def is_first() -> bool:
    """Whether this process claims, writes and reports for all."""
    return own_share().index == 0


def gathered(value: _T) -> list[_T]:
    """Every process's value, in their order; small objects that can be pickled."""
    if _joined is None:
        return [value]
    import torch.distributed as dist

    values: list[Any] = [None] * _joined.share.of
    dist.all_gather_object(values, value, group=_joined.group)
    return values


def interleaved(share: Sequence[_T]) -> list[_T]:
    """The results for all examples in their order, from every process's for its share of them."""
    by_process = gathered(list(share))
    n_results = sum(map(len, by_process))
    return [by_process[i % len(by_process)][i // len(by_process)] for i in range(n_results)]


def summed(*values: float) -> list[float]:
    """Each value's sum over the processes."""
    if _joined is None:
        return list(values)
    import torch
    import torch.distributed as dist

    sums = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(sums, group=_joined.group)
    return sums.tolist()


def from_first(compute: Callable[[], _T]) -> _T:
    """What `compute` returns in the first process, which alone calls it; its errors are every process's.

    Args:
        compute: works as one process does, and asks nothing of the others; its result can be pickled.
    """
    if _joined is None:
        return compute()
    import torch.distributed as dist

    sent: list[Any] = [None, None]
    if _joined.share.index == 0:
        try:
            with _alone():
                sent[0] = compute()
        except SemfreezeError as error:
            sent[1] = error
    dist.broadcast_object_list(sent, src=0, group=_joined.group)
    if sent[1] is not None:
        raise sent[1]
    result: _T = sent[0]
    return result


@contextmanager
def _alone() -> Iterator[None]:
    """While the block runs, this process works alone: the others wait, and would not answer."""
    global _joined
    joined_before, _joined = _joined, None
    try:
        yield
    finally:
        _joined = joined_before


def by_first(compute: Callable[[], _T]) -> _T | None:
    """What `compute` returns in the first process, which alone calls it; None in the others.

    Its errors are every process's.
    """
    results: list[_T] = []
    from_first(lambda: results.append(compute()))
    return results[0] if results else None


def from_all(compute: Callable[[], _T]) -> list[_T]:
    """What `compute` returns in every process, in their order; an error of ours that one met is every process's.

    Args:
        compute: its result can be pickled.
    """
    if _joined is None:
        return [compute()]
    result, failure = None, None
    try:
        result = compute()
    except SemfreezeError as error:
        failure = error
    outcomes = gathered((result, failure))
    for _, error_there in outcomes:
        if error_there is not None:
            raise error_there
    return [value for value, _ in outcomes]  # type: ignore[misc]  # whoever raised no error has a result


def sent_to_first(value: _T) -> list[_T]:
    """Every process's value, in their order, in the first process; none in the others."""
    if _joined is None:
        return [value]
    import torch.distributed as dist

    values: list[Any] | None = [None] * _joined.share.of if is_first() else None
    dist.gather_object(value, values, dst=0, group=_joined.group)
    return values or []


def wait_for_all() -> None:
    """Wait until every process is here."""
    gathered(None)
