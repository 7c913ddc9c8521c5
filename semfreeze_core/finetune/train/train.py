"""Training a plan: a full finetune with a prefix cache, checkpoints and resumption."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from transformers import PrinterCallback, TrainerCallback

from semfreeze_core.device import choose_device, is_out_of_memory, tf32_products
from semfreeze_core.errors import InputError, ResourceError, RunError
from semfreeze_core.finetune.arm.arguments import setup_at_lengths, trainer_arguments
from semfreeze_core.finetune.arm.arms import DEFAULT_RATES, Arm
from semfreeze_core.finetune.arm.evaluate import ArmEvaluator
from semfreeze_core.finetune.arm.job import ModelSource
from semfreeze_core.finetune.arm.recorder import Record, Recorder
from semfreeze_core.finetune.arm.settings import ArmSettings
from semfreeze_core.finetune.arm.trainer import (
    BestTrainer,
    PlanTrainer,
    best_checkpoint,
    checkpoint_step,
    last_complete_checkpoint,
    load_trained,
    relocate_best,
    remove_incomplete_checkpoints,
)
from semfreeze_core.finetune.arm.training import ArmTraining, rate_trials
from semfreeze_core.finetune.model.batches import Collator, ExampleIndices
from semfreeze_core.finetune.model.network import CacheSettings, Network, build_network
from semfreeze_core.finetune.model.task_data import read_task_data
from semfreeze_core.finetune.quantize.quantize import quantize_layers, require_bitsandbytes, trained_bits
from semfreeze_core.finetune.train.request import (
    TrainRequest,
    different_settings,
    kept_settings,
    memory_advice,
    setup_note,
)
from semfreeze_core.finetune.train.result import Trained, best_checkpoint_note, training_result
from semfreeze_core.finetune.train.save import save_finetuned
from semfreeze_core.finetune.train.trackers import reporters
from semfreeze_core.gains.rates import compared_steps, starting_rate
from semfreeze_core.plan.consistency import require_names
from semfreeze_core.plan.document import require_model, require_recommendation
from semfreeze_core.progress import Progress, ProgressEvent, silent
from semfreeze_core.records.defaults import MIN_RATE_EXAMPLES, TRAINING_WARMUP_FRACTION
from semfreeze_core.records.finetune_report import DECISION
from semfreeze_core.records.validation import Mark
from semfreeze_core.sources.models.causal_lm import LoadedModel, load_causal_lm
from semfreeze_core.storage import disk_errors, prefix_cache_folder, write_atomically
from semfreeze_core.temporary import is_temporary, remove_leftovers, require_locks
from semfreeze_core.unlocked_leftovers import is_unlocked_leftover, remove_from_claimed
from semfreeze_core.wording.rates import no_rate_reason, rate_note

CHECKPOINTS, RATES, SETTINGS, RESULT = "checkpoints", "rates", "training_settings.json", "training.json"
RESUME_ADVICE = "Free some space and run the same command again: it resumes."
BEST_LOST_NOTE = "The checkpoint with the lowest eval loss is gone, so this model is the last step's, not the best."
UNQUANTIZED_NOTE = (
    "The plan's cost estimate has frozen layers in {bits} bits, but this finetune of whole layers keeps their "
    "precision. With the prefix cache they leave the device anyway; without it training takes more memory "
    "than estimated."
)


def train_plan(request: TrainRequest, folder: Path, progress: Progress = silent) -> Trained:
    """Finetune the plan's model as the plan says, and write it in a format that others load.

    A second call with the same request resumes from the last checkpoint. A LoRA plan with frozen bits trains on
    layers in 8 or 4 bits: the model is loaded on the CPU and rounded on its way to the device.

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
    require_recommendation(plan)
    source = request.model or ModelSource(source=plan.model.source, revision=plan.model.revision)
    trackers = reporters(request.report_to, folder)
    bits = trained_bits(plan)
    if bits is not None:
        require_bitsandbytes()
    device = choose_device(source.device)
    with _claimed(folder, request):
        loaded = load_causal_lm(
            source.source,
            revision=source.revision,
            dtype=request.how.precision,
            device=source.device if bits is None else "cpu",
            trust_remote_code=source.trust_remote_code,
            allow_pickle=source.allow_pickle,
            progress=progress,
        )
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
    arm = Arm("planned", require_recommendation(plan), plan.cost.setup.lora, 0.0)
    compared = compared_steps(steps) if request.learning_rate is None and len(evaluation) >= MIN_RATE_EXAMPLES else None
    before = None if request.first_steps is None else request.first_steps.steps  # whose warm-up is over
    start = starting_rate(loaded.shape.d_model, arm.kind) if compared else DEFAULT_RATES[arm.kind]
    arm = replace(arm, learning_rate=request.learning_rate or start)
    warmup = int(TRAINING_WARMUP_FRACTION * all_steps)
    settings = ArmSettings(
        setup=replace(setup, steps=steps, lora=arm.lora),
        seed=request.seed,
        warmup_steps=max(1, min(warmup, (compared or before or steps) // 4)),
        rate_steps=compared,
        accumulation=setup.batch_size // (request.micro_batch_size or setup.batch_size),
        n_accuracy=request.n_accuracy,
    )
    note = setup_note(request, settings.setup)
    progress(ProgressEvent("Training", message=note))
    network = build_network(
        loaded,
        arm.parts,
        settings.setup,
        train,
        evaluation,
        seed=request.seed,
        cache=CacheSettings(folder=prefix_cache_folder()),
        progress=progress,
    )
    warnings = data.warnings if request.evaluation else data.skipped[:1]
    with tf32_products(network.decoder.device):  # but not for the cache, which is verified in float32
        trained = _fit(request, loaded, network, arm, settings, (train, evaluation), trackers, folder, progress)
    network.release()
    rate = rate_note(trained.search, arm.learning_rate, given=request.learning_rate is not None)
    of_the_data = (*data.train_notes, *data.train.notes, *warnings)
    notes = (f"{note} {rate}", *of_the_data, *quantized, *network.notes, *trained.notes)
    trained = replace(trained, notes=notes)
    sentence = trained.sentence(setup.batch_size, len(evaluation), trained_bits(plan))
    save_finetuned(network.tuned, loaded.tokenizer, plan, sentence, folder)
    write_atomically(folder / RESULT, json.dumps(training_result(trained, request, arm.learning_rate), indent=1) + "\n")
    for used in (CHECKPOINTS, RATES):
        shutil.rmtree(folder / used, ignore_errors=True)
    return trained


def _fit(
    request: TrainRequest,
    loaded: LoadedModel,
    network: Network,
    arm: Arm,
    settings: ArmSettings,
    data: tuple[Any, Any],
    trackers: list[TrainerCallback],
    folder: Path,
    progress: Progress,
) -> Trained:
    train, evaluation = data
    setup = setup_at_lengths(settings, train, cached=network.train_cache is not None)
    evaluator = ArmEvaluator(
        network, loaded.tokenizer, loaded.shape, arm.parts, setup, train, evaluation, n_accuracy=settings.n_accuracy
    )
    checkpoints, steps = folder / CHECKPOINTS, settings.setup.steps
    remove_incomplete_checkpoints(checkpoints)
    resumed = last_complete_checkpoint(checkpoints)
    if evaluation and resumed is None:
        evaluator.evaluate(0, ["start"], 0.0)
    _save_settings(folder, request)  # before the Trainer, which makes the folder of checkpoints
    if resumed is None and request.first_steps is not None and request.first_steps.checkpoint.is_dir():
        resumed = _adopt(request.first_steps.checkpoint, checkpoints)
    record, search = Record(), None
    if settings.rate_steps is not None:
        training = ArmTraining(network, Collator(train, network.train_cache), settings, 0, progress)
        trials = rate_trials(training, evaluator, arm, folder / RATES)
        search, won = trials.run()
        if search.rate is None:
            raise InputError(f"{no_rate_reason(search)} Name one with --lr, or check the data.")
        arm = replace(arm, learning_rate=search.rate)
        if won is not None and resumed is None:
            resumed = _adopt(trials.checkpoint(search.rate), checkpoints)
            record = Record(won.train_losses[:], won.step_seconds[:], won.peak_bytes)
            network.supervised.sizes[:] = won.sizes
    if resumed is not None and request.keep_best:
        relocate_best(resumed)
    if resumed is not None and checkpoint_step(resumed) >= steps:
        return replace(_evaluated(request, network, evaluator, resumed, steps, folder), search=search)
    arguments = trainer_arguments(str(checkpoints), arm, settings, network.decoder.device)
    arguments.save_strategy = "steps"
    arguments.save_steps = _save_steps(request, steps)
    arguments.save_total_limit = 2
    if trackers:
        arguments.logging_strategy, arguments.logging_steps = "steps", max(1, steps // 500)
    saved = _saved_steps(request, steps)
    mark: Mark = "checkpoint" if request.keep_best else "steps"
    recorder = Recorder(
        network.supervised,
        lambda step: evaluator.evaluate(step, [mark], sum(recorder.record.step_seconds)),
        saved if request.keep_best else frozenset({steps} if evaluation else ()),
        begin=network.offload,
        device=network.decoder.device,
        baseline_bytes=0,
        total=steps,
        stage="Training",
        progress=progress,
        record=record,
    )
    how: dict[str, Any] = {
        "model": network.supervised,
        "args": arguments,
        "train_dataset": ExampleIndices(len(train)),
        "data_collator": Collator(train, network.train_cache),
        "callbacks": [recorder, *trackers],
    }
    trainer = (
        BestTrainer(last_loss=lambda: float(evaluator.points[-1].loss), **how)  # type: ignore[arg-type]  # a checkpoint's is whole
        if request.keep_best
        else PlanTrainer(**how)
    )
    trainer.remove_callback(PrinterCallback)
    with disk_errors(checkpoints):  # around it, `_claimed` knows what is kept
        trainer.train(resume_from_checkpoint=None if resumed is None else str(resumed))
    if recorder.record.failure:
        raise InputError(f"Training ended: {recorder.record.failure}. Checkpoints are in {checkpoints}.")
    notes: tuple[str, ...] = ()
    if request.keep_best:
        # none when the checkpoint was deleted between two starts: then the last step's weights are left
        best = int(trainer.state.best_global_step or steps) if trainer.state.best_model_checkpoint else None
        notes = _evaluate_best(request, evaluator, best, steps, sum(recorder.record.step_seconds))
    points = {mark: point for point in evaluator.points for mark in point.marks}
    return Trained(folder, steps, recorder.record.losses, points.get("start"), points.get("steps"), notes, search)


def _adopt(checkpoint: Path | None, checkpoints: Path) -> Path | None:
    """Move a checkpoint of the first steps to where the training goes on from."""
    if checkpoint is None:
        return None
    checkpoints.mkdir(exist_ok=True)
    place = checkpoints / checkpoint.name
    os.replace(checkpoint, place)
    return place


def _evaluated(
    request: TrainRequest, network: Network, evaluator: ArmEvaluator, last: Path, steps: int, folder: Path
) -> Trained:
    """The result of a training that ended between its last checkpoint, which has all steps, and its result."""
    best = best_checkpoint(last) if request.keep_best else None
    load_trained(network.supervised, last if best is None else best)
    network.offload()
    notes: tuple[str, ...] = ()
    if request.keep_best:
        notes = _evaluate_best(request, evaluator, None if best is None else checkpoint_step(best), steps, 0.0)
    elif evaluator.evaluation:
        evaluator.evaluate(steps, ["steps"], 0.0)
    return Trained(folder, steps, [], None, evaluator.points[-1] if evaluator.points else None, notes)


def _evaluate_best(
    request: TrainRequest, evaluator: ArmEvaluator, best: int | None, steps: int, seconds: float
) -> tuple[str, ...]:
    """Evaluate the weights that keep_best ends with, the last step's where the best are lost; returns the note."""
    evaluator.evaluate(steps if best is None else best, ["steps"], seconds)
    if best is None:
        return (BEST_LOST_NOTE,)
    return (best_checkpoint_note(best, steps, len(_saved_steps(request, steps))),)


def _save_steps(request: TrainRequest, steps: int) -> int:
    return request.save_steps or max(1, steps // 10)


def _saved_steps(request: TrainRequest, steps: int) -> frozenset[int]:
    """After which steps there is a checkpoint."""
    return frozenset({*range(_save_steps(request, steps), steps, _save_steps(request, steps)), steps})


def _checkpoint_sentence(checkpoints: Path) -> str:
    last = last_complete_checkpoint(checkpoints)
    return "No checkpoint was saved." if last is None else f"The checkpoint of step {checkpoint_step(last)} is kept."


@contextmanager
def _claimed(folder: Path, request: TrainRequest) -> Iterator[None]:
    """Lock the folder for this request and this process; what is refused leaves nothing there.

    Raises:
        RunError: it holds something else, is finished, or is in use.
    """
    made = not folder.exists()
    lock = folder / ".lock"
    with disk_errors(folder, kept=lambda: _checkpoint_sentence(folder / CHECKPOINTS), advice=RESUME_ADVICE):
        if folder.exists() and not folder.is_dir():
            raise RunError(f"{folder} is not a folder. Choose another --out.")
        _refuse_foreign(folder)  # before the lock, which others would find there
        folder.mkdir(parents=True, exist_ok=True)
        try:
            require_locks(folder)
            with FileLock(lock, timeout=0):
                try:
                    remove_leftovers(folder)
                    remove_from_claimed(folder)
                    _refuse_foreign(folder)
                    if (folder / RESULT).exists():
                        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)  # killed in their deletion
                        raise RunError(f"{folder} holds a finished training. Choose another --out.")
                    _refuse_another(folder, request)
                    yield
                finally:
                    lock.unlink(missing_ok=True)
        except Timeout as error:
            raise RunError(f"A training is already running in {folder}.") from error
        finally:
            if made:
                with suppress(OSError):
                    folder.rmdir()  # only an empty one goes


def _refuse_foreign(folder: Path) -> None:
    if (folder / SETTINGS).exists() or not folder.exists():
        return
    left = (
        ".lock",
        DECISION,
        *(p.name for p in folder.iterdir() if is_temporary(p.name) or is_unlocked_leftover(p.name)),
    )
    if any(path.name not in left for path in folder.iterdir()):
        raise RunError(f"{folder} is not empty. Choose another --out.")


def _save_settings(folder: Path, request: TrainRequest) -> None:
    """Write what this folder trains, once nothing can be refused any more: a corrected request finds it free."""
    write_atomically(folder / SETTINGS, json.dumps(kept_settings(request, folder), indent=1) + "\n")


def _refuse_another(folder: Path, request: TrainRequest) -> None:
    """Refuse a folder whose settings are another request's, unless it has no checkpoint to lose."""
    if not (folder / SETTINGS).exists() or last_complete_checkpoint(folder / CHECKPOINTS) is None:
        return
    try:
        document = json.loads((folder / SETTINGS).read_text())
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise RunError(f"{folder / SETTINGS} is damaged: expected an object. Choose another --out, or remove {folder}.")
    if different := different_settings(document, request):
        raise RunError(
            f"{folder} holds another training (other settings: {', '.join(different)}). Choose another --out, or "
            "remove it."
        )
