"""`semfreeze cost`: the price of every depth of a run's model, or of a config without weights."""

import shutil

import pytest

from tests.core.cli.terminal import ask


@pytest.fixture
def table(stored):
    return ask("cost", stored("untied"), "--json").json


def test_cost_has_every_key(table):
    assert table.keys() >= {"n_layers", "setup", "depths", "full"}
    assert table["n_layers"] == 4
    assert [entry["freeze_depth"] for entry in table["depths"]] == [0, 1, 2, 3, 4]
    for entry in [*table["depths"], table["full"]]:
        step, memory = entry["step_flop"], entry["bytes"]
        assert step.keys() == {"forward", "activation_gradient", "weight_gradient", "recompute", "total"}
        assert memory.keys() == {"weights", "gradients", "optimizer", "activations", "logits", "total"}
        assert step["total"] == sum(step[k] for k in step if k != "total")
        assert memory["total"] == sum(memory[k] for k in memory if k != "total")
        assert entry["flop"] == table["setup"]["steps"] * step["total"]
        assert entry["relative_flop"] == pytest.approx(entry["flop"] / table["full"]["flop"])
        assert entry["relative_bytes"] == pytest.approx(memory["total"] / table["full"]["bytes"]["total"])


def test_cost_of_depth_0_is_full_finetuning(table):
    assert table["depths"][0] == table["full"]
    assert table["full"]["relative_flop"] == table["full"]["relative_bytes"] == 1


def test_cost_falls_with_the_depth(table):
    for key in ("flop", "relative_flop", "relative_bytes"):
        values = [entry[key] for entry in table["depths"]]
        assert values == sorted(values, reverse=True)
        assert len(set(values)) == 5


def test_cost_takes_its_setup_from_the_run(table, stored):
    shown = ask("show", "untied", "--json").json
    setup = table["setup"]
    assert setup["train_examples"] == shown["data"]["n_usable"] == 48
    assert setup["supervised_fraction"] == pytest.approx(shown["n_supervised_tokens"] / shown["data"]["n_tokens"])
    assert setup["batch_size"] == 8
    assert setup["steps"] == 3 * 48 / 8
    assert setup["sequence_length"] == 64  # the model's limit, as it is below 512
    assert (setup["optimizer"], setup["precision"], setup["prefix_cache"]) == ("adamw", "float32", False)


@pytest.mark.parametrize("name", ["tied", "untied", "gpt2"])
def test_cost_of_a_config_alone_is_that_of_the_model(models, stored, tmp_path, name):
    (tmp_path / "config").mkdir()
    shutil.copy(models / name / "config.json", tmp_path / "config")
    flags = ["--supervised-fraction", ".3", "--steps", "10", "--json"]
    alone, run = ask("cost", "--model", tmp_path / "config", *flags), ask("cost", stored(name), *flags)
    assert alone.json["depths"] == run.json["depths"]
    assert alone.json["full"] == run.json["full"]
    assert alone.err == ""


def test_cost_without_a_run_assumes_a_thousand_examples(models):
    setup = ask("cost", "--model", models / "untied", "--json").json["setup"]
    assert (setup["train_examples"], setup["steps"], setup["supervised_fraction"]) == (1000, 375, 1)


def test_cost_prints_one_line_a_depth(stored):
    report = ask("cost", stored("untied")).out
    assert report.startswith("Projected price by freeze depth: batch 8 x 64 tokens, 18 steps, adamw, float32")
    rows = [line.split() for line in report.splitlines() if line.strip()[:1].isdigit()]
    assert [row[0] for row in rows] == ["0", "1", "2", "3", "4"]
    assert rows[0].count("100") == 2


def test_cost_says_when_activations_are_unknown(tmp_path):
    from transformers import AutoModelForCausalLM, StableLmConfig

    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 4}
    config = StableLmConfig(vocab_size=97, intermediate_size=48, max_position_embeddings=64, **sizes)
    AutoModelForCausalLM.from_config(config).config.save_pretrained(tmp_path / "stable")
    table = ask("cost", "--model", tmp_path / "stable", "--json").json
    assert table["full"]["bytes"]["activations"] is table["full"]["bytes"]["total"] is None
    assert table["full"]["relative_bytes"] is None
    assert table["reason"] == "activation bytes of this family are not known, so memory totals are null"
    assert table["full"]["flop"] > 0
    assert "Activation bytes of this family are not known yet" in ask("cost", "--model", tmp_path / "stable").out


def test_cost_leaves_out_a_depth_that_trains_nothing(stored):
    table = ask("cost", stored("untied"), "--no-train-norm", "--json").json
    assert [entry["freeze_depth"] for entry in table["depths"]] == [0, 1, 2, 3]


def test_cost_with_a_prefix_cache_pays_the_prefix_once(stored):
    stored("untied")
    plain, cached = (ask("cost", "untied", *flags, "--json").json for flags in ([], ["--prefix-cache"]))
    assert cached["full"] == plain["full"]
    assert cached["depths"][0]["flop"] == plain["depths"][0]["flop"]
    for before, after in zip(plain["depths"][1:], cached["depths"][1:], strict=True):
        assert after["step_flop"] == before["step_flop"]  # the first step is uncached
        assert after["flop"] < before["flop"]
        assert after["bytes"]["weights"] < before["bytes"]["weights"]
    once = [ask("cost", "untied", *flags, "--epochs", "1", "--json").json for flags in ([], ["--prefix-cache"])]
    assert [e["flop"] for e in once[0]["depths"]] == [e["flop"] for e in once[1]["depths"]]


@pytest.mark.parametrize("flag", ["--train-head", "--train-embeddings"])
@pytest.mark.parametrize("name", ["tied", "gpt2"])
def test_cost_refuses_a_tied_head_above_frozen_layers(stored, name, flag):
    message = ask("cost", stored(name), flag).refusal
    assert "head and embeddings of this model are tied (one parameter)" in message


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--epochs", "2", "--steps", "5"], "--epochs and --steps say the same thing twice: give one"),
        (["--sequence-length", "65"], "--sequence-length 65 is over the model's limit of 64"),
        (["--sequence-length", "0"], "--sequence-length must be in 1..1000000000000, found 0"),
        (["--batch-size", "0"], "--batch-size must be in 1..1000000000000, found 0"),
        (["--batch-size", "-8"], "--batch-size must be in 1..1000000000000, found -8"),
        (["--batch-size", "1" + "0" * 400], "--batch-size must be in 1..1000000000000, found 1000"),
        (["--epochs", "0"], "--epochs must be in 1..1000000000000, found 0"),
        (["--steps", "0"], "--steps must be in 1..1000000000000, found 0"),
        (["--train-examples", "0"], "--train-examples must be in 1..1000000000000, found 0"),
        (["--supervised-fraction", "0"], "--supervised-fraction must be in (0, 1], found 0"),
        (["--supervised-fraction", "1.1"], "--supervised-fraction must be in (0, 1], found 1.1"),
        (["--supervised-fraction", "nan"], "--supervised-fraction must be in (0, 1], found nan"),
        (["--optimizer", "sgd"], "--optimizer sgd: expected adamw"),
        (["--precision", "fp8"], "--precision fp8: expected float32 or bfloat16"),
        (["--loss", "fused"], "--loss fused: expected materialised or supervised-only"),
        (["--prefix-cache", "--train-embeddings"], "freeze the embeddings or turn the prefix cache off"),
        (
            ["--precision", "fp8", "--steps", "0", "--loss", "x"],
            "fp8: expected float32 or bfloat16; --loss x: expected",
        ),
    ],
)
@pytest.mark.parametrize("command", ["cost", "plan"])
def test_cost_and_plan_refuse_an_impossible_setup(stored, command, flags, words):
    depth = ["--depth", "2"] if command == "plan" else []
    assert words in ask(command, stored("untied"), *depth, *flags).refusal


@pytest.mark.parametrize("flags", [["--batch-size", "1000000000000"], ["--steps", "1000000000000"]])
def test_cost_prints_the_largest_numbers_it_takes(stored, flags):
    assert ask("cost", stored("untied"), *flags).code == 0
    assert ask("cost", "untied", *flags, "--loss", "supervised-only", "--json").json["full"]["flop"] > 1e18


@pytest.mark.parametrize("args", [[], ["example", "--model", "embedded"]])
def test_cost_takes_either_a_run_or_a_model(args):
    assert ask("cost", *args).refusal == "Give either a RUN or --model."
