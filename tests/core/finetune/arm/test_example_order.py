"""Which process trains on which examples, and that all of them meet what one process meets."""

from dataclasses import replace

import pytest
from accelerate.data_loader import BatchSamplerShard, prepare_data_loader
from torch.utils.data import BatchSampler, DataLoader, RandomSampler

from semfreeze_core.finetune.arm.batch_order import DepthOrder
from semfreeze_core.finetune.arm.example_order import ExampleOrder, example_order
from semfreeze_core.finetune.arm.settings import ArmSettings
from semfreeze_core.finetune.model.batches import ExampleIndices
from semfreeze_core.records.training import TrainingSetup

SETTINGS = ArmSettings(TrainingSetup(batch_size=8, steps=1), seed=3, warmup_steps=1)


def dealt(order, settings):
    """Each process's batches, as accelerate deals them out."""
    batches = BatchSampler(order, settings.micro_batch_size, drop_last=False)
    return [list(BatchSamplerShard(batches, settings.processes, i)) for i in range(settings.processes)]


def steps_of(by_process, settings):
    """The examples of each step, in all processes."""
    n = settings.accumulation
    rounds = [[batches[i : i + n] for i in range(0, len(batches), n)] for batches in by_process]
    return [{i for pieces in step for batch in pieces for i in batch if i >= 0} for step in zip(*rounds, strict=True)]


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("parts", [1, 2, 4])
@pytest.mark.parametrize("processes", [1, 2, 4])
@pytest.mark.parametrize("n_examples", [4, 8, 17, 18, 24, 31])
def test_every_epoch_meets_every_example_once(n_examples, processes, parts, accumulation):
    in_pieces = replace(SETTINGS.setup, micro_batch_size=8 // (processes * accumulation))
    settings = replace(SETTINGS, setup=in_pieces, processes=processes, parts=parts)
    assert settings.accumulation == accumulation
    order = ExampleOrder([9] * n_examples, settings)
    epochs = []
    for epoch in range(2):
        order.set_epoch(epoch)
        by_process = dealt(order, settings)
        assert {len(batches) for batches in by_process} == {len(order) // (settings.micro_batch_size * processes)}
        assert all(len(batch) == settings.micro_batch_size for batches in by_process for batch in batches)
        met = [i for batches in by_process for batch in batches for i in batch if i >= 0]
        assert sorted(met) == list(range(n_examples))
        epochs.append(steps_of(by_process, settings))
        assert len(epochs[-1]) == order.steps == -(-n_examples // 8)
        if parts == processes:
            examples_of = [{i if i >= 0 else -1 - i for b in batches for i in b} for batches in by_process]
            assert all(i % parts == part for part, indices in enumerate(examples_of) for i in indices)
        # whoever trains, and in whatever pieces, a step is the same
        alone = replace(settings, setup=SETTINGS.setup, processes=1)
        one = ExampleOrder([9] * n_examples, alone)
        one.set_epoch(epoch)
        assert epochs[-1] == steps_of(dealt(one, alone), alone)
    assert order.steps == 1 or epochs[0] != epochs[1], "shuffled anew"


def test_one_part_has_the_steps_of_one_process():
    settings = replace(SETTINGS, processes=2)
    order = ExampleOrder([9] * 19, settings)
    loader = DataLoader(ExampleIndices(19), 8, sampler=RandomSampler(ExampleIndices(19)), collate_fn=set)
    of_the_trainer = prepare_data_loader(
        loader, num_processes=1, process_index=0, data_seed=3, use_seedable_sampler=True
    )
    for epoch in (0, 2):
        order.set_epoch(epoch)
        of_the_trainer.set_epoch(epoch)
        assert steps_of(dealt(order, settings), settings) == list(of_the_trainer)


def test_one_process_has_the_order_of_the_trainer():
    assert example_order([9] * 19, SETTINGS) is None
    assert example_order([9] * 19, replace(SETTINGS, parts=2)) is not None


BY_LENGTH = replace(SETTINGS, setup=replace(SETTINGS.setup, batches="by-length"))
LENGTHS = [5 + 7 * i % 31 for i in range(61)]


@pytest.mark.parametrize("processes", [1, 2])
def test_batches_by_length_meet_every_example_once_with_less_padding(processes):
    def padded(order, settings):
        return sum(max(LENGTHS[i] for i in step) * len(step) for step in steps_of(dealt(order, settings), settings))

    order = example_order(LENGTHS, replace(BY_LENGTH, processes=processes))
    random = ExampleOrder(LENGTHS, replace(SETTINGS, processes=processes))
    epochs = []
    for epoch in range(2):
        order.set_epoch(epoch)
        random.set_epoch(epoch)
        epochs.append(list(order))
        assert sorted(i for i in epochs[-1] if i >= 0) == list(range(61))
        assert padded(order, order_settings := replace(BY_LENGTH, processes=processes)) < 0.85 * padded(
            random, order_settings
        )
    assert epochs[0] != epochs[1], "other batches"
    order.set_epoch(0)
    assert list(order) == epochs[0], "a training that resumes meets the same"


def test_steps_by_length_are_the_same_whoever_trains():
    alone, together = ExampleOrder(LENGTHS, BY_LENGTH), ExampleOrder(LENGTHS, replace(BY_LENGTH, processes=2))
    assert steps_of(dealt(alone, BY_LENGTH), BY_LENGTH) == steps_of(
        dealt(together, replace(BY_LENGTH, processes=2)), replace(BY_LENGTH, processes=2)
    )


def test_depths_are_sorted_from_the_order_that_other_arms_meet():
    examples = ExampleIndices(61)
    alike = [example for example, _ in DepthOrder(examples, [2] * 61, 8, BY_LENGTH.seed, LENGTHS)]
    assert alike == [i for i in ExampleOrder(LENGTHS, BY_LENGTH) if i >= 0]
    assert alike != [example for example, _ in DepthOrder(examples, [2] * 61, 8, BY_LENGTH.seed)]
