"""A model made ready to train: adapters, boundary, prefix cache, and the head's loss."""

import functools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from semfreeze_core.cost.memory import holds_frozen_in_bfloat16
from semfreeze_core.device import free_bytes
from semfreeze_core.errors import ResourceError
from semfreeze_core.finetune.freezing.freeze import Freezing, freeze
from semfreeze_core.finetune.model.adapters import add_adapters
from semfreeze_core.finetune.model.frozen_matrices import FrozenMatrices
from semfreeze_core.finetune.model.loss_kernel import SummedLoss, choose_loss_kernel
from semfreeze_core.finetune.model.sharding import shard_trained
from semfreeze_core.finetune.model.supervised_head import SupervisedModel
from semfreeze_core.finetune.prefix.cache import PrefixCache, build_prefix_cache
from semfreeze_core.finetune.prefix.key import prefix_digest
from semfreeze_core.finetune.prefix.proof import verify_cache
from semfreeze_core.finetune.prefix.store import CacheUnavailable
from semfreeze_core.finetune.prefix.suffix import Suffix
from semfreeze_core.processes import WHOLE, Share, gathered, launch
from semfreeze_core.progress import Progress, ProgressEvent, silent
from semfreeze_core.records.examples import TokenizedExample
from semfreeze_core.records.training import Checkpointing, Precision, TrainableParts, TrainingSetup
from semfreeze_core.sources.models.causal_lm import LoadedModel
from semfreeze_core.sources.models.decoder import Decoder
from semfreeze_core.temporary import scratch_parent
from semfreeze_core.wording.runs import prefix_placement_sentence

_MEMORY_SHARE = 0.25  # of what is free, for boundary states
_STATES = "Computing boundary states"


@dataclass(frozen=True)
class CacheSettings:
    """Where a prefix cache may store its states.

    Attributes:
        memory_limit_bytes: of all caches of an arm together; above it they go to files. None takes a quarter of the
            free memory.
        folder: of the files; None for no files.
        disk_limit_bytes: of all caches in the folder; None for the free disk space.
        train_share, eval_share: examples that this process trains and evaluates on, whose states alone it needs.
        met: indices of the training examples that its steps meet, where they are not all.
        shared_from: states are left in the folder for other arms, and computed from those of this lower depth on, or
            with 0 from the embedding on; None keeps them to this arm where memory holds them.
    """

    memory_limit_bytes: int | None = None
    folder: Path | None = None
    disk_limit_bytes: int | None = None
    shared_from: int | None = None
    train_share: Share = WHOLE
    eval_share: Share = WHOLE
    met: Sequence[int] | None = None


@dataclass(frozen=True)
class Network:
    """A model in training.

    Attributes:
        supervised: what the trainer trains.
        tuned: the model with its adapters (PEFT's wrapper), or the model itself.
        decoder: its parts.
        freezing: what trains, and the boundary below it.
        suffix: runs it from boundary states; None without a cache.
        train_cache: boundary states of the training examples; None when training runs uncached.
        eval_cache: of the eval examples, likewise.
        trainable_parameters: number of trained elements.
        notes: decisions worth reporting.
        frozen: matrices, which may be held in bfloat16 until the network is released.
        offloads: whether frozen weights leave the device where a cache replaces them.
    """

    supervised: SupervisedModel
    tuned: Any
    decoder: Decoder
    freezing: Freezing
    suffix: Suffix | None
    train_cache: PrefixCache | None
    eval_cache: PrefixCache | None
    trainable_parameters: int
    notes: tuple[str, ...]
    frozen: FrozenMatrices
    offloads: bool = True

    def onload(self) -> None:
        """Bring the frozen weights back to the device, where the whole model can run."""
        if self.suffix is not None:
            self.suffix.onload()

    def offload(self) -> None:
        """Take the frozen weights off the device, where a cache replaces them."""
        if self.suffix is not None and self.offloads:
            self.suffix.offload(scratch_parent())

    def release(self) -> None:
        """Make the model an ordinary one again, with its finetuned weights."""
        if self.suffix is not None:
            self.suffix.remove()
        self.frozen.release()

    def unfreeze(self) -> None:
        """Make the model as it was before it was frozen, with its finetuned weights, ready for another freeze depth."""
        self.release()
        self.freezing.undo()


def build_network(
    loaded: LoadedModel,
    parts: TrainableParts,
    setup: TrainingSetup,
    train: Sequence[TokenizedExample],
    evaluation: Sequence[TokenizedExample] = (),
    *,
    seed: int,
    cache: CacheSettings | None = None,
    shard: bool = False,
    progress: Progress = silent,
) -> Network:
    """Make a loaded model ready to train, in place.

    Args:
        loaded: the model, not yet frozen or adapted.
        parts: what is trained.
        setup: how: its adapters, precision ("bf16-autocast" lets the cache be computed in bfloat16 too), checkpointing,
            loss and prefix cache; where a cache is not possible training runs uncached, with a note.
        train, evaluation: examples whose boundary states are needed.
        seed: of new adapters.
        cache: where boundary states may be stored.
        shard: spread what trains over the joined processes.
        progress: receives stages and decisions.

    Raises:
        InputError: as freeze, add_adapters and shard_trained.
        ResourceError: layers are kept off the device, and no prefix cache can stand in for them.
    """
    decoder, model = loaded.decoder, loaded.decoder.model
    torch.manual_seed(seed)
    tuned = model
    if setup.lora is not None:
        tuned = add_adapters(model, loaded.shape, decoder.names, parts, setup.lora)
    if setup.checkpointing != "none":
        _checkpoint(model, setup.checkpointing)
    freezing = freeze(tuned, parts, names=decoder.names, lora=setup.lora is not None)
    trainable = sum(p.numel() for p in freezing.trainable_parameters())
    kernel, loss_notes = _loss_kernel(decoder, setup, progress, shard=shard)
    head = SupervisedModel(tuned, decoder, loss=setup.loss, kernel=kernel)
    frozen = FrozenMatrices(decoder, loaded.shape)
    notes = loss_notes
    if loaded.placement is not None and loaded.placement.prefix is not None:
        notes = (prefix_placement_sentence(loaded.placement.prefix, str(decoder.device)), *notes)
        progress(ProgressEvent(_STATES, message=notes[0]))
    network = Network(
        head, tuned, decoder, freezing, None, None, None, trainable, notes, frozen, offloads=setup.prefix_off_device
    )
    if setup.prefix_cache and parts.freeze_depth > 0:
        network = _cached_if_possible(network, loaded, parts.freeze_depth, train, evaluation, setup, cache, progress)
    if holds_frozen_in_bfloat16(setup):  # after the states are computed, whose key tells the weights' dtype
        frozen.hold(progress)
    if shard:
        shard_trained(network.supervised, decoder)
        freezing.replace_parameters(tuned)
    return network


def _loss_kernel(
    decoder: Decoder, setup: TrainingSetup, progress: Progress, *, shard: bool
) -> tuple[SummedLoss | None, tuple[str, ...]]:
    """Who computes a chunked loss, where that is not settled, and the note on it."""
    if setup.loss != "chunked":
        return None, ()
    kernel, note = choose_loss_kernel(decoder, setup.precision, sharded=shard)
    progress(ProgressEvent("Preparing the loss", message=note))
    return kernel, (note,)


def _cached_if_possible(
    network: Network,
    loaded: LoadedModel,
    k: int,
    train: Sequence[TokenizedExample],
    evaluation: Sequence[TokenizedExample],
    setup: TrainingSetup,
    cache: CacheSettings | None,
    progress: Progress,
) -> Network:
    """The network with its cache, or without one and with a note that says why."""
    cached, reason = None, ""
    try:
        cached = _with_cache(
            network,
            loaded,
            k,
            train,
            evaluation,
            setup.precision,
            cache or CacheSettings(),
            progress,
        )
    except CacheUnavailable as error:
        reason = str(error)
    reasons = [text for text in gathered(reason) if text]  # with several processes, all train from states or none
    if cached is not None and not reasons:
        return cached
    if cached is not None:
        cached.release()
    if loaded.placement is not None:
        raise ResourceError(
            f"No prefix cache: {reasons[0]} Training needs one, because {network.decoder.device} has no room for the "
            "frozen layers."
        )
    note = f"No prefix cache: {reasons[0]} Training runs uncached."
    progress(ProgressEvent(_STATES, message=note))
    return replace(network, notes=(*network.notes, note))


def _checkpoint(model: Any, checkpointing: Checkpointing) -> None:
    """Turn checkpointing on as trainers do; the hook on the embedding stays with "transformers-5" alone."""
    with warnings.catch_warnings():
        # transformers has a new name for it, which its older releases of the same major version lack
        warnings.filterwarnings("ignore", message="`gradient_checkpointing_enable`", category=FutureWarning)
        reentrant = {"use_reentrant": checkpointing == "reentrant"}
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=reentrant)
    if checkpointing != "transformers-5":
        model.disable_input_require_grads()


def _with_cache(
    network: Network,
    loaded: LoadedModel,
    k: int,
    train: Sequence[TokenizedExample],
    evaluation: Sequence[TokenizedExample],
    precision: Precision,
    cache_settings: CacheSettings,
    progress: Progress,
) -> Network:
    decoder = network.decoder
    limit = cache_settings.memory_limit_bytes
    if limit is None:
        limit = int(_MEMORY_SHARE * free_bytes(torch.device("cpu"))) // launch().local_count
    # Every bit of the prefix's weights is digested, once a depth; a model finetuned above it keeps them.
    prefix_weights = functools.cache(functools.partial(prefix_digest, decoder))
    in_memory: list[PrefixCache] = []  # what is held already leaves less of the limit to the next

    def build(
        examples: Sequence[TokenizedExample], share: Share, depth: int, start: PrefixCache | None = None
    ) -> PrefixCache:
        # Each share in a folder of its own: who fills one locks it.
        part = "" if share == WHOLE else f", share {share.index} of {share.of}"
        cache = build_prefix_cache(
            decoder,
            depth,
            examples,
            key_base=loaded.identity.structure_digest + part,
            weights=prefix_weights,
            memory_limit_bytes=max(0, limit - sum(held.bytes for held in in_memory)),
            folder=cache_settings.folder,
            disk_limit_bytes=cache_settings.disk_limit_bytes,
            compute_dtype=torch.bfloat16 if precision == "bf16-autocast" else None,
            start=start,
            keep=cache_settings.shared_from is not None,
            progress=progress,
        )
        if cache.where == "memory":
            in_memory.append(cache)
        return cache

    suffix = Suffix(decoder, k)

    def build_on(
        examples: Sequence[TokenizedExample], share: Share, met: Sequence[int] | None = None
    ) -> PrefixCache | None:
        share_examples = [examples[i] for i in (share.indices(len(examples)) if met is None else met)]
        if not share_examples:
            return None
        if not cache_settings.shared_from:
            cache = build(share_examples, share, k)
        else:
            # A lower depth's states that were evicted are computed again: that costs what skipping them would.
            start = build(share_examples, share, cache_settings.shared_from)
            cache = build(share_examples, share, k, start)
            in_memory[:] = [held for held in in_memory if held is not start]
        verify_cache(decoder, suffix, cache, share_examples)
        return cache if len(share_examples) == len(examples) else cache.indexed_as(examples)

    caches = (
        build_on(train, cache_settings.train_share, cache_settings.met),
        build_on(evaluation, cache_settings.eval_share),
    )
    suffix.install()
    before = network.supervised
    supervised = SupervisedModel(network.tuned, decoder, suffix, loss=before.loss, kernel=before.kernel)
    return replace(network, supervised=supervised, suffix=suffix, train_cache=caches[0], eval_cache=caches[1])
