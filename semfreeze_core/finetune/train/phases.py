"""A training on its way through its phases, and the trials that may decide when it freezes deeper."""

import functools
import shutil
from dataclasses import replace
from pathlib import Path

from semfreeze_core.cost import Phase
from semfreeze_core.device import release_unused_memory, tf32_products
from semfreeze_core.errors import InputError
from semfreeze_core.finetune.arm.arguments import setup_at_lengths
from semfreeze_core.finetune.arm.recorder import Record
from semfreeze_core.finetune.arm.switch import EndPhase, deeper_checkpoint
from semfreeze_core.finetune.arm.trainer import (
    checkpoint_step,
    load_trained,
    remove_incomplete_checkpoints,
    trained_names,
)
from semfreeze_core.finetune.arm.training import ArmTraining
from semfreeze_core.finetune.model.batches import Collator
from semfreeze_core.finetune.model.network import Network
from semfreeze_core.finetune.train.deeper import (
    LOOK,
    save_look,
    save_switch,
    wide_weights,
    write_looks,
)
from semfreeze_core.finetune.train.fit import Fit
from semfreeze_core.finetune.train.folder import adopt
from semfreeze_core.finetune.train.result import Trained
from semfreeze_core.gains.looks import decide_look
from semfreeze_core.processes import from_first
from semfreeze_core.progress import ProgressEvent
from semfreeze_core.records.defaults import LOOK_STEPS
from semfreeze_core.records.looks import Look
from semfreeze_core.records.training import DepthSwitch, TrainableParts
from semfreeze_core.storage import disk_errors
from semfreeze_core.wording.training import look_sentence


class PhasedTraining(Fit):
    """A training in one phase, or in two where the plan freezes deeper at a step."""

    def fit_phases(self) -> tuple[Trained, Network]:
        """Train all that is left to train; the result, and the network with its weights."""
        from_first(lambda: remove_incomplete_checkpoints(self.checkpoints))
        switch, setup = self.arm.switch, self.settings.setup
        phases = self.arm.phases(
            self.loaded.shape, setup_at_lengths(self.settings, self.train, cached=setup.prefix_cache)
        )
        wide = phases[0]
        last = phases[-1]
        if switch is None:
            network = self.network(wide, first=True)
        elif not switch.measured:
            network = self._freeze_deeper(wide, last, switch)
        elif self._look_until_deeper(wide, last, switch):
            network = self._second_network(wide, last)
        else:
            network, last = self.network(self._whole(wide), first=True), wide
        with tf32_products(network.decoder.device):  # but not for the cache, which is verified in float32
            trained, best = self.fit_to_the_end(network, last.parts)
        if best is not None:
            network.unfreeze()
            network = self.network(wide, first=True, cached=False)
            load_trained(network.supervised, best)
            evaluator = self.evaluator(network, wide.parts)
            with tf32_products(network.decoder.device):  # as it was evaluated before
                notes = self.evaluate_best(evaluator, checkpoint_step(best))
            trained = replace(trained, after=evaluator.points[-1], notes=notes)
        looks = self._looks()
        return replace(
            trained, notes=(*self.notes, *trained.notes), looks=() if looks is None else tuple(looks.looks)
        ), network

    def _freeze_deeper(self, wide: Phase, deep: Phase, switch: DepthSwitch) -> Network:
        """Train the first phase, or what is left of it; the model ready to train the second."""
        if self._saved_switch() is not None:
            return self._second_network(wide, deep)
        end = self._first_phase(wide, switch.step)
        network = self.network(deep, first=False)
        trained = trained_names(network.supervised)
        from_first(lambda: save_switch(end, trained, self.folder, self.search))
        return network

    def _first_phase(self, wide: Phase, step: int) -> Path:
        """Train the first phase until a step; its checkpoint, whose weights the unfrozen model has."""
        network = self.network(wide, first=True)
        with tf32_products(network.decoder.device):
            end = self.fit_until(network, wide.parts, step)
        load_trained(network.supervised, end)  # a trainer that keeps the best ends with its weights
        self.notes = network.notes
        self._unfreeze(network, "Training: freezing deeper")
        return end

    def _second_network(self, wide: Phase, deep: Phase) -> Network:
        """The model ready to train the second phase, once the first has ended."""
        self._load(wide, wide_weights(self.folder))
        return self.network(deep, first=False)

    def _load(self, wide: Phase, checkpoint: Path) -> None:
        """Give the unfrozen model the weights of a checkpoint of the first phase."""
        network = self.network(wide, first=True, cached=False)
        load_trained(network.supervised, checkpoint)
        self._unfreeze(network, "Training: freezing deeper")

    def _unfreeze(self, network: Network, stage: str) -> None:
        network.unfreeze()
        release_unused_memory(self.loaded.decoder.device)
        self.progress(ProgressEvent(stage))

    def _whole(self, wide: Phase) -> Phase:
        """The first phase where it is the whole training: then it has a cache where the training is to have one."""
        return replace(wide, setup=replace(wide.setup, prefix_cache=self.settings.setup.prefix_cache))

    def _look_until_deeper(self, wide: Phase, deep: Phase, switch: DepthSwitch) -> bool:
        """Train the first phase until a short training that freezes deeper loses nothing; whether one did.

        What each decision gave is kept before anything is done about it: a killed training does that, and decides
        nothing anew.
        """
        for step in switch.looks(self.steps):
            if self._saved_switch() is not None:
                return True
            looks = self._looks()
            decided = None if looks is None else next((look for look in looks.looks if look.step == step), None)
            last = self._last_checkpoint()
            if decided is not None and last is not None and checkpoint_step(last) > step:
                continue  # it went on from there
            end = self._first_phase(wide, step)
            if decided is None:
                decided = self._look(wide, deep, end)
            from_first(functools.partial(self._go_on, decided, end))
        return self._saved_switch() is not None

    def _go_on(self, decided: Look, end: Path) -> None:
        """Keep the short training that a decision goes on from."""
        step = checkpoint_step(end) + LOOK_STEPS
        won = self.folder / LOOK / ("deep" if decided.deeper else "wide") / f"checkpoint-{step}"
        if decided.deeper:
            save_look(end, won, self.folder, self.search)
        else:
            adopt(won, self.checkpoints)
            shutil.rmtree(self.folder / LOOK, ignore_errors=True)

    def _look(self, wide: Phase, deep: Phase, end: Path) -> Look:
        """Train LOOK_STEPS steps from a checkpoint with either depth, and decide by their losses."""
        looks = self._looks()
        assert looks is not None, "the first phase begins with it"
        from_first(lambda: shutil.rmtree(self.folder / LOOK, ignore_errors=True))
        losses: dict[str, list[float]] = {}
        records: dict[str, Record] = {}
        for name, phase in (("deep", deep), ("wide", wide)):
            if name == "wide":
                self._load(wide, end)
            network = self.network(phase, first=name == "wide", cached=False)
            begin = end
            if name == "deep":
                trained = trained_names(network.supervised)
                begin = from_first(functools.partial(deeper_checkpoint, end, trained, self.folder / LOOK / "begin"))
            trial_folder = self.folder / LOOK / name
            losses[name], records[name] = self._short_training(network, phase.parts, begin, trial_folder)
            self._unfreeze(network, f"Training: {name} trial after step {checkpoint_step(end)}")
        self._load(wide, end)
        look = decide_look(
            checkpoint_step(end), looks.before, losses["wide"], losses["deep"], self._target_tokens(len(looks.before))
        )
        from_first(lambda: write_looks(looks.model_copy(update={"looks": [*looks.looks, look]}), self.folder))
        made = records["deep" if look.deeper else "wide"]
        self.record.losses += made.losses
        self.record.step_seconds += made.step_seconds
        self.progress(ProgressEvent("Training", message=look_sentence(look)))
        return look

    def _short_training(
        self, network: Network, parts: TrainableParts, begin: Path, folder: Path
    ) -> tuple[list[float], Record]:
        """Train LOOK_STEPS steps from a checkpoint, and leave one in a folder; losses of the eval examples then."""
        training = ArmTraining(network, Collator(self.train, network.train_cache), self.settings, 0, self.progress)
        end = checkpoint_step(begin) + LOOK_STEPS
        recorder = training.recorder(lambda _: None, frozenset(), total=self.steps, stage="Training: trial")
        with disk_errors(folder), tf32_products(network.decoder.device):
            training.fit(self.arm, folder, [recorder, EndPhase(end)], begin)
            if recorder.record.failure:
                raise InputError(f"Training ended: {recorder.record.failure}. Checkpoints are in {self.checkpoints}.")
            return self.evaluator(network, parts).curve_losses(), recorder.record

    def _target_tokens(self, n_examples: int) -> list[float]:
        return [float(example.supervised.sum()) for example in self.evaluation[:n_examples]]
