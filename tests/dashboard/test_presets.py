"""The named setups in the bar: one click sets the widgets, and the one that they amount to is lit."""

import pytest

from semfreeze_core.cost.presets import PRESETS
from tests.dashboard.test_pages import opened, plan_command, sentence


def preset(app):
    return app.button_group(key="preset")


def test_one_click_sets_the_setup_and_the_plan_takes_it():
    app = opened("decide", batch="2")
    assert preset(app).value == "Default", "sizes are apart from it"
    preset(app).set_value("QLoRA, 4 bits").run()
    assert sentence(app)
    assert preset(app).value == "QLoRA, 4 bits"
    assert {"adapters": "true", "bits": "4", "optimizer": "adamw8bit"}.items() <= dict(app.query_params).items()
    command = plan_command(app)
    assert "--batch-size 2 " in command
    for flag in ("--precision bf16", "--optimizer adamw8bit", "--frozen-bits 4", "--lora --lora-rank 16"):
        assert flag in command
    preset(app).set_value("Default").run()
    assert "--" not in plan_command(app).replace("--batch-size 2", "").replace("--out", "")


@pytest.mark.quick_cases(0)
def test_a_setup_of_ones_own_is_none_of_them_and_a_click_on_the_lit_one_changes_nothing():
    app = opened("estimate", model="qwen2.5-7b")
    preset(app).set_value("Low memory").run()
    app.selectbox(key="optimizer").select("sgd").run()
    assert preset(app).value is None
    app.selectbox(key="optimizer").select("adamw8bit").run()
    assert preset(app).value == "Low memory"
    preset(app).set_value(None).run()
    assert preset(app).value == "Low memory"
    assert app.selectbox(key="checkpointing").value == "non-reentrant"


def test_examples_at_a_time_divide_the_batch_and_reach_estimate_and_plan():
    app = opened("decide", batch="6")
    assert app.selectbox(key="micro").options == ["all", "3", "2", "1"]
    app.selectbox(key="micro").select("2").run()
    assert "--batch-size 6 --micro-batch-size 2 " in plan_command(app)
    assert any("Batch size 6 (2 at a time), " in caption.value for caption in app.caption)
    app.number_input(key="batch").set_value(5).run()
    assert app.selectbox(key="micro").value == "all", "2 do not divide 5"
    assert not app.exception
    assert "--micro-batch-size" not in plan_command(app)


def test_a_preset_leaves_no_stock_trainer_on():
    app = opened("decide", stock="true")
    preset(app).set_value("Low memory").run()
    assert app.toggle(key="stock").value is False
    assert "--stock" not in plan_command(app)


def test_what_the_gpu_cannot_compute_is_not_offered():
    app = opened("estimate", model="smollm2-135m")
    assert preset(app).options == [preset.name for preset in PRESETS]
    app.selectbox(key="gpu").set_value("T4").run()
    assert preset(app).options == ["Default"]


@pytest.mark.quick_cases(0)
def test_the_default_precision_follows_the_gpu_until_another_is_chosen():
    app = opened("decide")
    app.selectbox(key="gpu").set_value("RTX 4090").run()
    assert app.selectbox(key="precision").value == "bf16-autocast"
    assert preset(app).value == "Default"
    app.selectbox(key="gpu").set_value("T4").run()
    assert app.selectbox(key="precision").value == "float32"
    app.selectbox(key="precision").select("bf16").run()
    app.selectbox(key="gpu").set_value("RTX 4090").run()
    assert app.selectbox(key="precision").value == "bf16"
