"""What gpu_session.py measures, part by part, by the code that semfreeze trains and analyzes with.

Models have random weights, stored in bfloat16 as published ones are: neither time nor memory depends on the values.
Every example has the same length, so that no token is padding and FLOPs are exact.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from semfreeze_core.cost import find_gpu, parts_at_depth, step_flop, training_bytes
from semfreeze_core.device import free_bytes, release_unused_memory, synchronize, weight_dtype
from semfreeze_core.errors import SemfreezeError
from semfreeze_core.finetune.arm.arms import Arm
from semfreeze_core.finetune.arm.settings import ArmSettings
from semfreeze_core.finetune.arm.training import ArmTraining
from semfreeze_core.finetune.model.batches import Collator
from semfreeze_core.finetune.model.network import Network, build_network
from semfreeze_core.finetune.quantize.quantize import quantize_layers, require_bitsandbytes
from semfreeze_core.progress import silent
from semfreeze_core.records.examples import TokenizedExample
from semfreeze_core.records.training import LoraSetup, TrainableParts, TrainingSetup
from semfreeze_core.records.usual_depths import two_thirds_depth
from semfreeze_core.sources.models.causal_lm import LoadedModel
from semfreeze_core.sources.models.decoder import find_decoder
from semfreeze_core.sources.models.known_shapes import KNOWN_SHAPES, PREFIX, known_shape
from semfreeze_core.sources.models.model_shape import identify, measure_shape
from semfreeze_core.sources.models.vocabulary import Vocabulary
from tests.benchmarks.extraction_speed import compare

Record = Callable[[str, Any], None]  # keeps what was measured under a name, also when the part ends before its end

# Largest first; the first whose full finetuning should fit is measured.
SIZES = ("llama-3.2-3b", "llama-3.2-1b", "smollm2-135m")
MEMORY_SIZE = "smollm2-360m"
_TINY = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 512, "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}  # fmt: skip
_LORA = LoraSetup(16)
_WARM_STEPS = 3  # before those whose median is taken


@dataclass(frozen=True)
class Session:
    """What to measure on.

    Attributes:
        device: as torch writes it.
        tiny: a model of four layers and few tokens, to try the script itself.
    """

    device: str
    tiny: bool

    def setup(self, **changes: Any) -> TrainingSetup:
        """How to train: in bf16-autocast, half of the tokens target tokens."""
        sizes = {"batch_size": 2, "sequence_length": 16} if self.tiny else {"batch_size": 8, "sequence_length": 1024}
        base = TrainingSetup(**sizes, supervised_fraction=0.5, precision="bf16-autocast", prefix_cache=False, steps=10)
        return replace(base, **changes)

    def size(self) -> str:
        """The largest model whose full finetuning takes at most 70% of the device's free memory by our estimate."""
        if self.tiny:
            return "tiny"
        free = free_bytes(torch.device(self.device))
        for name in SIZES:
            shape = known_shape(PREFIX + name)
            assert shape is not None
            if training_bytes(shape, self.setup(), parts_at_depth(shape, 0)).known <= 0.7 * free:
                return name
        return SIZES[-1]

    def model(self, size: str, precision: str, device: str | None = None) -> LoadedModel:
        """A model of that size with random weights, ready to train."""
        torch.manual_seed(0)
        entries = dict(_TINY if self.tiny else KNOWN_SHAPES[size])
        config = AutoConfig.for_model(entries.pop("model_type"), **entries)
        auto: Any = AutoModelForCausalLM
        with torch.device(device or self.device):
            model = auto.from_config(config, dtype=torch.bfloat16, attn_implementation="sdpa")
        if weight_dtype(precision) != torch.bfloat16:  # else it would round its float32 buffers
            model = model.to(weight_dtype(precision))
        decoder = find_decoder(model.eval())
        shape = replace(measure_shape(model, decoder), stored_in_bfloat16=True)
        rows = decoder.head.out_features
        identity = identify(model, source=size, revision=None)
        return LoadedModel(decoder, None, shape, identity, Vocabulary(rows, 0, frozenset(), frozenset()), ())

    def examples(self, n: int, length: int, rows: int) -> list[TokenizedExample]:
        """Random tokens, the second half of each example its target."""
        rng = np.random.default_rng(0)
        targets = np.arange(length) >= length // 2
        return [TokenizedExample(rng.integers(5, rows, length), targets, None, i) for i in range(n)]


@dataclass(frozen=True)
class Variant:
    """One way of training.

    Attributes:
        parts: what is trained.
        setup: how.
    """

    parts: TrainableParts
    setup: TrainingSetup


def variants(loaded: LoadedModel, setup: TrainingSetup) -> dict[str, Variant]:
    """Full finetuning, LoRA on all layers, and a third of the layers with and without the prefix cache."""
    shape = loaded.shape
    deep = parts_at_depth(shape, two_thirds_depth(shape.n_layers))
    adapters = parts_at_depth(shape, 0, lora=True)
    return {
        "full": Variant(parts_at_depth(shape, 0), setup),
        "LoRA": Variant(adapters, replace(setup, lora=_LORA)),
        "planned": Variant(deep, setup),
        "cached": Variant(deep, replace(setup, prefix_cache=True)),
    }


def train(
    loaded: LoadedModel,
    session: Session,
    variant: Variant,
    prepare: Callable[[Network], None] = lambda _: None,
    collator: type[Collator] = Collator,
) -> dict[str, Any]:
    """Seconds and FLOPs of a step, and the peak of memory beside its estimate.

    Args:
        loaded: a model just made.
        session: what it is measured on.
        variant: what is trained, and how; its steps are made.
        prepare: called with the network before it trains.
        collator: of the batches.
    """
    setup, shape = variant.setup, loaded.shape
    examples = session.examples(2 * setup.batch_size, setup.sequence_length, shape.vocab_rows)
    network = build_network(loaded, variant.parts, setup, examples, seed=0)
    prepare(network)
    training = ArmTraining(
        network, collator(examples, network.train_cache), ArmSettings(setup, 0, warmup_steps=1), 0, silent
    )
    recorder = training.recorder(lambda _: None, frozenset(), total=setup.steps, stage="")
    with tempfile.TemporaryDirectory() as folder:
        training.fit(Arm("measured", variant.parts, setup.lora, 1e-5), Path(folder), [recorder])
    network.release()
    if setup.prefix_cache and network.train_cache is None:
        raise SemfreezeError(f"There was no cache: {network.notes}")
    flop = step_flop(shape, setup, variant.parts, cached=network.train_cache is not None).total
    seconds = statistics.median(recorder.record.step_seconds[_WARM_STEPS:])
    return {
        "step_seconds": seconds,
        "step_flop": flop,
        "flop_per_second": flop / seconds,
        "peak_bytes": recorder.record.peak_bytes,
        "peak_kind": recorder.peak_kind,
        "estimated_bytes": training_bytes(shape, setup, variant.parts).total,
    }


def measure_extraction(session: Session, record: Record) -> None:
    """An analysis against bare forward passes, in bfloat16."""
    size = session.size()
    loaded = session.model(size, "bf16")
    n, length = (8, 24) if session.tiny else (256, 512)
    examples = session.examples(n, length, loaded.shape.vocab_rows)
    rounds = 2 if session.tiny else 5
    record("model", size)
    record("ratios", compare(loaded.decoder, examples, real_rows=loaded.vocabulary.real_rows, rounds=rounds))


def measure_steps(session: Session, record: Record) -> None:
    """Steps of full finetuning, LoRA, and a third of the layers, without a cache and from it; and the GPU's share."""
    size = session.size()
    record("model", size)
    record("peak_flop_per_second", _peak_rate(session.device))
    setup = session.setup(steps=5 if session.tiny else 15)
    for name in ("full", "LoRA", "planned", "cached"):
        loaded = session.model(size, setup.precision)
        _keep(record, name, lambda loaded=loaded, name=name: train(loaded, session, variants(loaded, setup)[name]))
        del loaded
        release_unused_memory(torch.device(session.device))
    loaded = session.model(size, setup.precision)
    lora = variants(loaded, setup)["LoRA"]
    # as autocast has it by itself
    _keep(
        record,
        "LoRA, frozen in float32",
        lambda: train(loaded, session, lora, lambda network: network.frozen.release()),
    )


def measure_memory(session: Session, record: Record) -> None:
    """Peaks of 12 setups beside their estimates: three precisions of the four ways to train."""
    for precision in ("float32", "bf16-autocast", "bf16"):
        for name in ("full", "LoRA", "planned", "cached"):
            loaded = session.model(MEMORY_SIZE, precision)
            setup = session.setup(precision=precision, steps=_WARM_STEPS + 1)
            variant = variants(loaded, setup)[name]
            _keep(
                record,
                f"{name}, {precision}",
                lambda loaded=loaded, variant=variant: train(loaded, session, variant),
            )
            del loaded
            release_unused_memory(torch.device(session.device))


def measure_offload(session: Session, record: Record) -> None:
    """The frozen layers' way off the device and back."""
    loaded = session.model(session.size(), "bf16-autocast")
    device = loaded.decoder.device
    variant = variants(loaded, session.setup())["cached"]
    examples = session.examples(variant.setup.batch_size, variant.setup.sequence_length, loaded.shape.vocab_rows)
    network = build_network(loaded, variant.parts, variant.setup, examples, seed=0)
    assert network.suffix is not None, network.notes
    for name, move in (("offload", network.offload), ("onload", network.onload)):
        synchronize(device)
        before, begun = free_bytes(device), time.perf_counter()
        move()
        synchronize(device)
        seconds = time.perf_counter() - begun
        release_unused_memory(device)
        record(name, {"seconds": seconds, "freed_bytes": free_bytes(device) - before})
    network.offload()
    record("offloaded", vars(network.suffix.offload()))
    network.release()


def measure_loss(session: Session, record: Record) -> None:
    """Steps by how the loss is computed; a chunked one by Liger Kernel where that is installed and passes its check."""
    size = session.size()
    record("model", size)
    for loss in ("supervised-only", "chunked-loop", "chunked"):
        loaded, notes = session.model(size, "bf16-autocast"), []
        setup = session.setup(steps=_WARM_STEPS + 2 if session.tiny else 12, loss=loss)
        cached = variants(loaded, setup)["cached"]

        def measure(loaded=loaded, cached=cached, notes=notes) -> dict[str, Any]:
            return {**train(loaded, session, cached, lambda network: notes.extend(network.notes)), "notes": notes}

        _keep(record, loss, measure)
        del loaded
        release_unused_memory(torch.device(session.device))


def measure_bitsandbytes(session: Session, record: Record) -> None:
    """LoRA on layers in 4 bits, and AdamW's states in 8."""
    require_bitsandbytes()
    size = session.size()
    setup = session.setup(precision="bf16", steps=_WARM_STEPS + 2)

    def quantized() -> dict[str, Any]:
        loaded = session.model(size, "bf16", device="cpu")
        quantize_layers(loaded.decoder, 4, precision="bf16", device=torch.device(session.device))
        how = replace(setup, lora=_LORA, frozen_bits=4)
        return train(loaded, session, Variant(parts_at_depth(loaded.shape, 0, lora=True), how))

    def small_states() -> dict[str, Any]:
        loaded = session.model(size, "bf16")
        return train(loaded, session, Variant(parts_at_depth(loaded.shape, 0), replace(setup, optimizer="adamw8bit")))

    _keep(record, "LoRA on 4 bits", quantized)
    release_unused_memory(torch.device(session.device))
    _keep(record, "full, 8-bit AdamW", small_states)


class _AtOnce(Collator):
    def ahead(self) -> Collator:
        return self


def measure_gathering(session: Session, record: Record) -> None:
    """Cached steps with the next batch's states gathered ahead, and when they are asked for."""
    size = session.size()
    setup = session.setup(steps=5 if session.tiny else 20)
    for name, collator in (("ahead", Collator), ("at once", _AtOnce)):
        loaded = session.model(size, setup.precision)
        variant = variants(loaded, setup)["cached"]
        record(name, train(loaded, session, variant, collator=collator))
        del loaded
        release_unused_memory(torch.device(session.device))


def _keep(record: Record, name: str, measure: Callable[[], dict[str, Any]]) -> None:
    """What was measured, or why it was not: the next one may fit."""
    try:
        record(name, measure())
    except (RuntimeError, MemoryError, SemfreezeError) as error:
        record(name, {"reason": reason_of(error)})


def reason_of(error: BaseException) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _peak_rate(device: str) -> dict[str, Any]:
    """The GPU's peak rate in bfloat16 as its maker states it, or why it is not known."""
    if torch.device(device).type != "cuda":
        return {"reason": "A CPU's peak rate is not known."}
    name = torch.cuda.get_device_name(device)
    try:
        return {"gpu": name, "bf16": find_gpu(name).bf16_flop_per_second}
    except SemfreezeError as error:
        return {"gpu": name, "reason": reason_of(error)}


# In the order of what matters most; seconds of ten minutes, in which each part also imports torch.
PARTS: dict[str, tuple[int, Callable[[Session, Record], None]]] = {
    "steps": (170, measure_steps),
    "memory": (110, measure_memory),
    "extraction": (60, measure_extraction),
    "loss": (40, measure_loss),
    "gathering": (60, measure_gathering),
    "offload": (40, measure_offload),
    "bitsandbytes": (50, measure_bitsandbytes),
}
