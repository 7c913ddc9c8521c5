"""Estimate: what a model takes on a GPU, without data."""

import pytest

from semfreeze_core.cost import compare_costs, find_gpu
from semfreeze_core.cost.setup import setup_from_options
from semfreeze_core.records.options import EstimateOptions
from semfreeze_core.records.training import LoraSetup
from semfreeze_core.sources.models.named_shape import named_shape
from semfreeze_core.wording.numbers import gib
from semfreeze_dashboard.data.run_folder import PATHS_VARIABLE
from tests.core.saved_models import save_tiny
from tests.dashboard.test_pages import opened, sentence


def texts(app):
    return [element.value for element in (*app.warning, *app.markdown, *app.caption)]


@pytest.fixture(scope="module")
def page():
    """The page for a 7B model and a card of 24 GiB, a quarter of its layers frozen."""
    return opened("estimate", model="qwen2.5-7b", gpu="RTX 4090")


def test_estimate_says_hours_memory_and_whether_it_fits(page):
    shape, card = named_shape("shape:qwen2.5-7b"), find_gpu("RTX 4090")
    costs = compare_costs(shape, setup_from_options(shape, None, EstimateOptions(), gpu=card))
    text = sentence(page)
    assert text.startswith("qwen2.5-7b with 7 of 28 layers frozen needs ")
    assert gib(costs.depths[7].bytes.total) in text
    assert gib(costs.full.bytes.total) in text
    assert text.count(" min to ") == 2
    assert text.endswith("It does not fit on RTX 4090 (24.0 GiB).")
    rows = page.dataframe[0].value
    assert list(rows["train"][:3]) == ["freeze 7", "full finetuning", "freeze half, 14"]
    assert list(rows["memory"][:2]) == [gib(costs.depths[7].bytes.total), gib(costs.full.bytes.total)]
    assert rows["RTX 4090"].str.endswith("too much").all()


def test_apply_sets_the_changes_that_make_it_fit():
    app = opened("estimate", model="qwen2.5-7b", gpu="RTX 4090", freeze="21")
    assert sentence(app).endswith("It does not fit on RTX 4090 (24.0 GiB).")
    (card,) = [text for text in texts(app) if "It fits, in " in text]
    assert "with target-token logits in chunks, adamw8bit and 2 examples at a time; it changes the result" in card
    app.button[0].click().run()
    assert sentence(app).endswith("It fits on RTX 4090 (24.0 GiB).")
    shown = {key: app.selectbox(key=key).value for key in ("loss", "checkpointing", "optimizer", "micro")}
    assert shown == {"loss": "chunked", "checkpointing": "none", "optimizer": "adamw8bit", "micro": "2"}


def test_what_no_change_makes_fit_is_said_with_the_depth_that_does(page):
    (message,) = [warning.value for warning in page.warning]
    assert "No milder change of the setup makes it fit. At this depth, the training setup QLoRA, 4 bits (" in message
    assert "Low memory" not in message, "which needs a deeper freeze"
    assert "As it is, it fits from freeze depth 26 on." in message


def test_the_preset_that_is_said_to_fit_does(page):
    (message,) = [warning.value for warning in page.warning]
    promised = message.partition("QLoRA, 4 bits (")[2].partition(")")[0]
    app = opened("estimate", model="qwen2.5-7b", gpu="RTX 4090")
    app.pills[0].set_value("QLoRA, 4 bits").run()
    assert sentence(app).startswith(f"qwen2.5-7b with 7 of 28 layers frozen needs {promised} ")
    assert sentence(app).endswith("It fits on RTX 4090 (24.0 GiB).")


def test_a_gpu_is_named_by_its_memory_alone():
    app = opened("estimate", model="smollm2-135m", gpu="8GiB")
    assert sentence(app).endswith("It fits on a GPU of 8.0 GiB.")
    assert any(text.startswith("Only this GPU's memory is known (8 GiB GPU)") for text in texts(app))
    assert app.dataframe[1].value["GPU"][0] == "8 GiB GPU"


def test_an_unknown_gpu_is_refused_and_the_page_stays():
    app = opened("estimate", model="smollm2-135m", gpu="abacus")
    assert not app.exception
    (refused,) = [error.value for error in app.error]
    assert refused.startswith("GPU abacus is unknown. Known GPUs: T4, ")
    assert any(m.value.startswith("## smollm2-135m with 7 of 30 layers frozen") for m in app.markdown)


def test_a_folder_of_this_machine_is_estimated_for_its_user_alone(tmp_path, monkeypatch):
    folder = tmp_path / "tiny"
    save_tiny(folder)
    monkeypatch.delenv(PATHS_VARIABLE, raising=False)
    app = opened("estimate", model=str(folder))
    (refused,) = [error.value for error in app.error]
    assert "is not the name of a hub model" in refused
    monkeypatch.setenv(PATHS_VARIABLE, "1")
    assert sentence(opened("estimate", model=str(folder))).startswith("tiny with 1 of 4 layers frozen")


def test_a_length_of_another_model_is_lowered_to_what_this_one_takes():
    app = opened("estimate", model="llama-3.1-8b", length="20000")
    assert app.number_input(key="length").value == 20000
    app.selectbox(key="model").set_value("smollm2-135m").run()
    assert not app.exception
    assert app.number_input(key="length").value == 8192


def test_the_depth_of_an_estimate_outlives_another_page():
    app = opened("estimate", model="qwen2.5-7b", freeze="21")
    for page in ("decide", "data", "estimate"):
        app.switch_page(f"views/{page}.py").run()
        assert not app.exception
        assert app.session_state["freeze"] == 21


def test_lora_stands_beside_with_the_memory_that_the_command_says():
    app = opened("estimate", model="qwen2.5-7b", gpu="RTX 4090")
    shape, card = named_shape("shape:qwen2.5-7b"), find_gpu("RTX 4090")
    setup = setup_from_options(shape, None, EstimateOptions(), gpu=card)
    lora = compare_costs(shape, setup, lora=LoraSetup(16)).lora
    rows = app.dataframe[0].value.set_index("train")
    assert rows["memory"]["LoRA, rank 16, base in bf16"] == gib(lora.bytes.total)
