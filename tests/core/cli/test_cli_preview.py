"""`semfreeze preview`: what it prints, what it refuses, and the words for memory."""

import pytest

from semfreeze_core.records.preview import MemoryForecast
from semfreeze_core.storage import runs_folder
from semfreeze_core.wording.runs import memory_sentence
from tests.core.cli.terminal import ask
from tests.core.tiny_tokenizer import EOS


@pytest.fixture
def look(models, task):
    def call(*args, model=models / "untied", data=task):
        return ask("preview", "--model", model, "--data", data, "--device", "cpu", "-q", *args)

    return call


def test_json_says_all_that_the_core_knows(look, home):
    document = look("--json", "--dtype", "float32").json
    assert set(document) == {"data", "memory"}
    assert set(document["data"]) == {
        "mapping",
        "n_rows",
        "n_usable",
        "notes",
        "examples",
        "n_skipped",
        "skipped",
    }
    assert (document["data"]["n_rows"], len(document["data"]["examples"])) == (48, 3)
    for example in document["data"]["examples"]:
        assert set(example) == {"row", "label", "pieces", "truncated"}
        context, supervised = example["pieces"]
        assert (context["supervised"], supervised["supervised"]) == (False, True)
        assert context["text"].startswith("Message ")
        assert supervised["text"] == f"{example['label']} now{EOS}"
    memory = document["memory"]
    assert memory["needed_bytes"] == memory["model_bytes"] + memory["states_bytes"] + memory["process_bytes"]
    assert memory["fits"] == (memory["needed_bytes"] <= memory["free_bytes"])
    assert (memory["dtype"], memory["device"], memory["model_bytes"]) == ("float32", "cpu", 51_488 * 44 // 10)
    assert not runs_folder().exists()


def test_text_shows_examples_and_memory(look):
    out = look().out
    assert "48 of 48 rows can be used. Target tokens are underlined." in out
    assert out.count("target tokens\n") == 3
    assert out.count(f"now{EOS}") == 3
    assert "needs about 0." in out


def test_data_cannot_steer_the_terminal_or_turn_text_around(look, rows_file):
    data = rows_file([{"prompt": "a\x1b[2Jb: ", "completion": "c\u202ed", "label": "l\x1b[8m\u202e"}] * 3)
    shown = look(data=data)
    assert r"a\x1b[2Jb: c\u202ed" in shown.out
    assert r", l\x1b[8m\u202e: " in shown.out
    assert not {"\x1b", "\u202e"} & set(shown.out + shown.err)
    document = look("--json", data=data)
    assert not {"\x1b", "\u202e"} & set(document.out)
    assert document.json["data"]["examples"][0]["label"] == "l\x1b[8m\u202e"


def test_a_refusal_writes_out_what_a_file_name_hides(look, tmp_path):
    refusal = look(data=tmp_path / "a\x1b[2J\u202eb.jsonl").refusal
    assert r"a\x1b[2J\u202eb.jsonl does not exist" in refusal


def test_brackets_in_the_data_are_no_markup(look, rows_file):
    data = rows_file([{"prompt": "[bold]x[/nothing] :smile: ", "completion": "[red]y", "label": "[z]"}] * 3)
    out = look(data=data).out
    assert "[bold]x[/nothing] :smile: [red]y" in out
    assert ", [z]: " in out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--dtype", "float16"], "--dtype float16: expected auto, float32 or bfloat16."),
        (["--max-length", "1"], "--max-length must be at least 2, found 1."),
        (["--max-length", "0"], "--max-length must be at least 2, found 0."),
        (["--seed", "-1"], "seed must be in 0..4294967295, found -1."),
        (["--prompt-field", "absent"], "absent"),
    ],
)
def test_wishes_that_make_no_sense_are_refused(look, args, message):
    assert message in look(*args).refusal


@pytest.mark.parametrize("number", ["0", "101"])
def test_examples_shown_are_few(look, number):
    assert "--examples" in look("--examples", number).usage_error


def test_model_and_data_that_are_not_there_are_refused(look, tmp_path):
    assert "no such folder or file" in look(model="./absent").refusal
    assert "does not exist" in look(data=tmp_path / "absent.jsonl").refusal


GIB = 2**30
BIG = MemoryForecast(7_241_732_096, "float32", "cpu", 32 * GIB, 768 * 2**20, 600 * 2**20, 64 * GIB)


def test_memory_words_say_what_is_needed_and_what_is_free():
    assert memory_sentence(BIG) == (
        "The analysis needs about 33.3 GiB (32.0 GiB for 7.24 billion parameters in float32, 0.75 GiB for displayed "
        "hidden states, 0.59 GiB for the process); 64.0 GiB are free on cpu."
    )


@pytest.mark.parametrize(
    ("dtype", "device", "process", "way_out"),
    [
        ("float32", "cpu", 600 * 2**20, "Use bfloat16, which needs half, or a smaller model, or another device."),
        ("bfloat16", "cuda", 0, "Use a smaller model, or another device."),
    ],
)
def test_memory_words_name_the_way_out_of_what_does_not_fit(dtype, device, process, way_out):
    sentence = memory_sentence(MemoryForecast(7_241_732_096, dtype, device, 32 * GIB, 0, process, 16 * GIB))
    assert sentence.startswith("Not enough memory. The analysis needs about 32")
    assert sentence.endswith(f"16.0 GiB are free on {device}. {way_out}")
    assert ("for the process" in sentence) == (process > 0)
