"""One arm with one seed: a real finetune by transformers' Trainer, evaluated at its marks."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from semfreeze_core.cost import run_flop
from semfreeze_core.finetune.arm.arguments import setup_at_lengths
from semfreeze_core.finetune.arm.arms import Arm
from semfreeze_core.finetune.arm.flop import choosing_flop
from semfreeze_core.finetune.arm.phase import ArmRequest, ArmState, Tally, release_phase, train_phase
from semfreeze_core.finetune.arm.recorder import Record
from semfreeze_core.finetune.arm.settings import ArmSettings
from semfreeze_core.finetune.arm.timed_saves import TimedSaves
from semfreeze_core.finetune.model.network import CacheSettings
from semfreeze_core.progress import Progress, silent
from semfreeze_core.records.examples import TokenizedExample
from semfreeze_core.records.model import ModelShape
from semfreeze_core.records.rates import RateSearch
from semfreeze_core.records.validation import ArmRun, FailureCause, FlopEntry, LiveArm, PeakEntry
from semfreeze_core.sources.models.causal_lm import LoadedModel
from semfreeze_core.temporary import remove_leftovers, scratch_parent, temporary_folder
from semfreeze_core.unlocked_leftovers import remove_abandoned
from semfreeze_core.wording.rates import no_rate_reason


def run_arm(
    loaded: LoadedModel,
    arm: Arm,
    settings: ArmSettings,
    train: Sequence[TokenizedExample],
    evaluation: Sequence[TokenizedExample],
    *,
    baseline_bytes: int,
    cache: CacheSettings | None = None,
    rates_folder: Path | None = None,
    checkpoint_folder: Path | None = None,
    saves: TimedSaves | None = None,
    follow: Callable[[LiveArm], None] | None = None,
    progress: Progress = silent,
) -> ArmRun:
    """Finetune a model in place as the arm says, and return what was measured.

    Args:
        loaded: a model just loaded; it is finetuned on return.
        arm: what is trained, and at which rate.
        settings: how.
        train: training examples.
        evaluation: eval examples.
        baseline_bytes: resident size of the process after import, before the model was loaded.
        cache: where boundary states may be stored.
        rates_folder: keeps the trials of a search for the learning rate, so that a killed one goes on; None keeps none.
        checkpoint_folder: gets a checkpoint of the last step, from which another training can go on; None keeps none.
        saves: checkpoints by time, from the last of which a killed arm goes on; None makes none.
        follow: receives the arm's state after each step.
        progress: receives steps and stages.

    Raises:
        InputError: the model cannot be trained in this way.
    """
    settings = replace(settings, setup=replace(settings.setup, lora=arm.lora))  # the one thing arms do not share
    setup = setup_at_lengths(settings, train, cached=settings.setup.prefix_cache)
    phases = arm.phases(loaded.shape, setup)
    state, tallies = ArmState(arm), list[Tally]()
    choosing = 0 if arm.example_depths is None else choosing_flop(loaded.shape, setup, train)
    state.course.flop = choosing
    remove_leftovers(scratch_parent())
    remove_abandoned(scratch_parent(), "scratch")
    with temporary_folder(scratch_parent()) as scratch:
        request = ArmRequest(
            loaded,
            settings,
            train,
            evaluation,
            baseline_bytes,
            cache or CacheSettings(),
            rates_folder or scratch / "rates",
            checkpoint_folder,
            # In which order its batches come after a resumption is not known where examples have own depths.
            saves if arm.example_depths is None else None,
            scratch,
            follow,
            progress,
        )
        for i, phase in enumerate(phases):
            tallies.append(train_phase(request, state, phase, first=i == 0, last=phase is phases[-1]))
            if state.checkpoint is None:  # without one there is nothing that a next phase could go on from
                break
            release_phase(request)
    return _run(state, tallies, settings, loaded.shape, choosing)


def _run(state: ArmState, tallies: list[Tally], settings: ArmSettings, shape: ModelShape, choosing: int) -> ArmRun:
    """What an arm's phases gave, as one run; `choosing` are the FLOPs of choosing the examples' depths."""
    arm, record, search = state.arm, state.record, state.search
    failure, cause = _failure(record, search)
    first, largest = tallies[0], max(tallies, key=lambda tally: tally.bytes.known)
    predicted = largest.bytes
    saved = None if predicted.activations is None else predicted.activations + predicted.logits
    return ArmRun(
        arm=arm.name,
        seed=settings.seed,
        status="failed" if failure else "done",
        reason=failure,
        cause=cause if failure else None,
        trained=arm.parts,
        lora=arm.lora,
        switch=arm.switch,
        example_depths=arm.example_depths,
        learning_rate=arm.learning_rate,
        trainable_parameters=first.trainable_parameters,
        steps=len(record.losses),
        micro_batch_size=settings.micro_batch_size,
        accumulation=settings.accumulation,
        prefix_cache=any(tally.setup.prefix_cache for tally in tallies),
        notes=list(dict.fromkeys(note for tally in tallies for note in tally.notes)),
        train_losses=record.losses,
        step_seconds=record.step_seconds,
        cache_seconds=first.cache_seconds,
        switch_cache_seconds=sum(tally.cache_seconds for tally in tallies[1:]),
        cache_bytes=max(tally.cache_bytes for tally in tallies),
        points=state.course.points,
        flop=FlopEntry(
            counted=choosing + sum(tally.counted_flop for tally in tallies),
            predicted=_estimated_flop(arm, tallies, shape),
        ),
        peak_bytes=PeakEntry(
            measured=record.peak_bytes,
            predicted=predicted.total,
            kind=largest.peak_kind,
            saved_tensors=largest.saved_bytes,
            saved_tensors_predicted=saved,
        ),
        rate_search=search,
    )


def _estimated_flop(arm: Arm, tallies: list[Tally], shape: ModelShape) -> int:
    """FLOPs of the steps made, by the cost model."""
    if arm.example_depths is not None:
        return arm.flop(shape, tallies[0].setup)
    return sum(run_flop(shape, tally.setup, tally.parts) for tally in tallies)


def _failure(record: Record, search: RateSearch | None) -> tuple[str, FailureCause]:
    """Why there is no result, or "", and of which kind that is."""
    if search is not None and search.rate is None:
        return no_rate_reason(search), "unlearned"
    return record.failure, "diverged"
