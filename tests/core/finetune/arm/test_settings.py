"""What an arm's settings mean, and which setups semfreeze does not train."""

from dataclasses import replace

import pytest

from semfreeze_core.errors import InputError
from semfreeze_core.finetune.arm import settings as settings_module
from semfreeze_core.finetune.arm.settings import ArmSettings, refuse_untrainable
from semfreeze_core.records.training import TrainingSetup

SETTINGS = ArmSettings(TrainingSetup(batch_size=8, steps=16), seed=0, warmup_steps=1)


def test_marks_are_the_ends_and_halvings_of_the_further_one():
    settings = replace(SETTINGS, compute_steps=40, n_between=3)
    assert settings.total_steps == 40
    assert settings.marks() == {16: ["steps"], 40: ["compute"], 20: ["between"], 10: ["between"], 5: ["between"]}


def test_both_marks_may_fall_on_one_step():
    assert replace(SETTINGS, compute_steps=16, n_between=0).marks() == {16: ["steps", "compute"]}


def test_micro_batches_make_up_a_batch():
    assert (SETTINGS.micro_batch_size, SETTINGS.accumulation) == (8, 1)
    settings = replace(SETTINGS, setup=replace(SETTINGS.setup, micro_batch_size=2))
    assert (settings.micro_batch_size, settings.accumulation) == (2, 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": "fused"}, "--loss fused is other trainers': semfreeze trains with chunked"),
        ({"checkpointing": "transformers-5"}, "choose none, non-reentrant or reentrant"),
    ],
)
def test_setups_that_only_the_cost_model_knows_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        refuse_untrainable(replace(SETTINGS.setup, **change))


def test_eight_bit_adamw_needs_its_package(monkeypatch):
    refuse_untrainable(replace(SETTINGS.setup, optimizer="adamw8bit"))
    monkeypatch.setattr(settings_module, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs bitsandbytes: pip install 'semfreeze\[bitsandbytes\]'"):
        refuse_untrainable(replace(SETTINGS.setup, optimizer="adamw8bit", loss="fused"))


def test_a_process_trains_its_share_of_the_batch():
    def at_a_time(micro_batch_size, processes):
        settings = replace(
            SETTINGS, setup=replace(SETTINGS.setup, micro_batch_size=micro_batch_size), processes=processes
        )
        return settings.micro_batch_size, settings.accumulation

    assert at_a_time(None, 2) == (4, 1)
    assert at_a_time(2, 2) == (2, 2)
    assert at_a_time(4, 4) == (2, 1), "no more than its share"


def test_a_search_that_ends_with_the_training_leaves_its_last_mark():
    settings = replace(SETTINGS, n_between=2, rate_steps=16)
    assert settings.marks() == {16: ["steps"]}
    assert replace(settings, rate_steps=8).marks() == {8: ["between"], 16: ["steps"]}
