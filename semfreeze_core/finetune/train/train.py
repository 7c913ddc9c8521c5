"""Training a plan: a full finetune with a prefix cache, checkpoints and resumption."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from transformers import TrainerCallback

from semfreeze_core.cost import parts_at_depth, require_step
from semfreeze_core.cost.setup import padded_length
from semfreeze_core.device import choose_device, is_out_of_memory
from semfreeze_core.errors import InputError, PlanError, ResourceError
from semfreeze_core.finetune.arm.arms import DEFAULT_RATES, Arm
from semfreeze_core.finetune.arm.job import ModelSource
from semfreeze_core.finetune.arm.loading import load_to_train
from semfreeze_core.finetune.arm.settings import ArmSettings
from semfreeze_core.finetune.model.sharding import require_sharding, whole_state
from semfreeze_core.finetune.model.task_data import read_task_data
from semfreeze_core.finetune.quantize.quantize import quantize_layers, require_bitsandbytes, trained_bits
from semfreeze_core.finetune.train.folder import RESULT, claimed_for_all, remove_what_only_resumes, saved_parts
from semfreeze_core.finetune.train.phases import PhasedTraining
from semfreeze_core.finetune.train.request import TrainRequest, memory_advice, setup_note
from semfreeze_core.finetune.train.result import Trained, training_result
from semfreeze_core.finetune.train.save import save_finetuned
from semfreeze_core.finetune.train.trackers import reporters
from semfreeze_core.gains.rates import compared_steps, compared_steps_on_batches, starting_rate
from semfreeze_core.plan.consistency import require_names
from semfreeze_core.plan.document import FreezePlan, require_model, require_recommendation
from semfreeze_core.processes import (
    from_first,
    is_first,
    joined,
    own_device,
    own_share,
    refuse_other_ways,
)
from semfreeze_core.progress import Progress, ProgressEvent, silent
from semfreeze_core.records.defaults import MIN_RATE_EXAMPLES, MIN_RATE_STEPS, TRAINING_WARMUP_FRACTION
from semfreeze_core.records.model import ModelShape
from semfreeze_core.records.rates import ComparedOn
from semfreeze_core.records.training import TrainingSetup
from semfreeze_core.sources.models.causal_lm import LoadedModel
from semfreeze_core.storage import write_atomically
from semfreeze_core.wording.rates import rate_note
from semfreeze_core.wording.training import padding_note

UNQUANTIZED_NOTE = (
    "The plan's cost estimate has frozen layers in {bits} bits, but this finetune of whole layers keeps their "
    "precision. With the prefix cache they leave the device anyway; without it training takes more memory "
    "than estimated."
)


def train_plan(request: TrainRequest, folder: Path, progress: Progress = silent) -> Trained:
    """Finetune the plan's model as the plan says, and write it in a format that others load.

    A second call with the same request resumes from the last checkpoint. Of several processes that a launcher started
    each takes its share of every batch; the first one writes, and receives the progress. A LoRA plan with frozen bits
    trains on layers in 8 or 4 bits: the model is loaded on the CPU and rounded on its way to the device.

    Args:
        request: what to train, and how.
        folder: gets the model; its checkpoints while it is being trained.
        progress: receives steps, stages and notes.

    Raises:
        InputError: the plan makes no recommendation or is another model's, the data cannot be used, the folder holds
            something else, bitsandbytes is needed and missing, or the loss is not a number.
        ResourceError: memory or disk ran out; checkpoints remain.
    """
    plan = request.plan
    parts = require_recommendation(plan)
    refuse_other_ways()
    if request.shard:
        require_sharding()
    source = request.model or ModelSource.of(plan.model)
    source = source.model_copy(update={"device": own_device(source.device)})
    trackers = reporters(request.report_to, folder)
    bits = trained_bits(plan)
    if bits is not None:
        require_bitsandbytes()
    device = choose_device(source.device)
    together = joined(device.type, "training", "it resumes from the last checkpoint")
    with together, claimed_for_all(folder, request):
        progress = progress if is_first() else silent
        loaded = load_to_train(source, parts, request.how, plan.switch, bits=bits, progress=progress)
        require_model(plan, loaded.identity)
        require_names(plan, loaded.decoder.names)
        try:
            quantized: tuple[str, ...] = ()
            if bits is not None:
                quantized = quantize_layers(
                    loaded.decoder, bits, precision=request.how.precision, device=device, progress=progress
                )
            elif plan.cost.setup.frozen_bits is not None:
                quantized = (UNQUANTIZED_NOTE.format(bits=plan.cost.setup.frozen_bits),)
            return _train(request, loaded, trackers, quantized, folder, progress)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise ResourceError(memory_advice(request)) from error


def _train(
    request: TrainRequest,
    loaded: LoadedModel,
    trackers: list[TrainerCallback],
    quantized: tuple[str, ...],
    folder: Path,
    progress: Progress,
) -> Trained:
    plan, setup = request.plan, request.how
    data = read_task_data(
        request.data,
        request.evaluation or request.data,
        loaded.tokenizer,
        mapping=request.mapping,
        # no more than its steps use: the others' boundary states would be computed for nothing
        n_train=request.steps and request.steps * setup.batch_size,
        n_eval=None if request.evaluation else 1,
        max_length=min(setup.sequence_length, loaded.shape.max_positions or setup.sequence_length),
        add_eos=request.add_eos,
        seed=request.seed,
        progress=progress,
    )
    train, evaluation = data.train.tokenized, data.evaluation.tokenized if request.evaluation else ()
    all_steps = request.steps or request.epochs * -(-len(train) // setup.batch_size)
    steps = min(all_steps, request.last_step or all_steps)
    arm = _planned_arm(plan, loaded.shape, steps)
    on: ComparedOn = "eval examples" if len(evaluation) >= MIN_RATE_EXAMPLES else "training batches"
    compared = None
    if request.learning_rate is None:
        on_batches = compared_steps_on_batches(steps, setup.batch_size, len(train))
        compared = compared_steps(steps) if on == "eval examples" else on_batches
    if compared is not None and arm.switch is not None:
        compared = min(compared, arm.switch.step)  # a trial that froze deeper could not be gone on from
        if compared < MIN_RATE_STEPS:
            raise InputError(
                f"The plan freezes deeper after step {compared}, too early to compare learning rates: name one with "
                f"--lr, or make a plan that freezes deeper after step {MIN_RATE_STEPS} or later."
            )
    if arm.switch is not None and arm.switch.measured and len(evaluation) < MIN_RATE_EXAMPLES:
        raise InputError(
            f"Trials on eval examples decide when the plan freezes deeper: expected at least {MIN_RATE_EXAMPLES}, "
            f"found {len(evaluation)}. Give more with --eval, or make a plan that names the step, as --progressive "
            f"@{arm.switch.step} does."
        )
    before = None if request.first_steps is None else request.first_steps.steps  # whose warm-up is over
    start = starting_rate(loaded.shape.d_model, arm.kind) if compared else DEFAULT_RATES[arm.kind]
    arm = replace(arm, learning_rate=request.learning_rate or start)
    warmup = int(TRAINING_WARMUP_FRACTION * all_steps)
    settings = ArmSettings(
        setup=replace(setup, steps=steps, lora=arm.lora),
        seed=request.seed,
        warmup_steps=max(1, min(warmup, (compared or before or steps) // 4)),
        rate_steps=compared,
        rates_on=on,
        processes=own_share().of,
        parts=from_first(lambda: saved_parts(folder, request)) or _parts(setup, arm, len(train)),
        n_accuracy=request.n_accuracy,
        sharded=request.shard,
    )
    note = setup_note(request, settings.setup)
    progress(ProgressEvent("Training", message=note))
    lengths = [len(example.input_ids) for example in train]
    if setup.batches == "random" and (padding := padding_note(*_padded(lengths, settings.micro_batch_size))):
        progress(ProgressEvent("Training", message=padding))
    warnings = data.warnings if request.evaluation else data.skipped[:1]
    training = PhasedTraining(request, loaded, arm, settings, train, evaluation, trackers, folder, progress)
    trained, network = training.fit_phases()
    network.release()
    state = whole_state(network.tuned) if request.shard else None
    rate = rate_note(trained.search, arm.learning_rate, given=request.learning_rate is not None)
    of_the_data = (*data.train_notes, *data.train.notes, *warnings)
    notes = (f"{note} {rate}", *of_the_data, *quantized, *network.notes, *trained.notes)
    trained = replace(trained, notes=tuple(dict.fromkeys(notes)))
    sentence = trained.sentence(setup.batch_size, len(evaluation), trained_bits(plan))
    result = json.dumps(training_result(trained, request, arm.learning_rate), indent=1) + "\n"

    def save() -> None:
        save_finetuned(network.tuned, loaded.tokenizer, plan, sentence, folder, state)
        write_atomically(folder / RESULT, result)
        remove_what_only_resumes(folder)

    from_first(save)
    return trained


def _padded(lengths: Sequence[int], batch_size: int) -> tuple[int, int]:
    """Mean tokens of an example in random batches, and in those of like length."""
    return padded_length(lengths, batch_size), padded_length(lengths, batch_size, "by-length")


def _parts(setup: TrainingSetup, arm: Arm, n_examples: int) -> int:
    """In how many parts a new training takes its data: with a cache, each process caches its own part alone."""
    count, depth = own_share().of, arm.parts.freeze_depth if arm.switch is None else arm.switch.deep_depth
    return count if setup.prefix_cache and depth > 0 and n_examples >= count else 1


def _planned_arm(plan: FreezePlan, shape: ModelShape, steps: int) -> Arm:
    """What the plan trains, at first where it freezes deeper at a step.

    Raises:
        PlanError: so few steps end before it freezes deeper.
    """
    parts, switch = require_recommendation(plan), plan.switch
    if switch is None:
        return Arm("planned", parts, plan.cost.setup.lora, 0.0)
    try:
        require_step(switch, steps)
    except PlanError as error:
        raise PlanError(
            f"The plan {error}. Train for more --steps or --epochs, or make a plan with another --progressive."
        ) from error
    return Arm("planned", parts_at_depth(shape, switch.wide_depth), None, 0.0, switch)
