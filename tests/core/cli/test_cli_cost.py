"""`semfreeze cost`: the price of every depth of a run's model, or of a config without weights."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest

from semfreeze_core.cost import find_gpu, hardware
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
        assert entry["flop"] <= table["setup"]["steps"] * step["total"]  # cached layers are computed once
        assert entry["relative_flop"] == pytest.approx(entry["flop"] / table["full"]["flop"])
        assert entry["relative_bytes"] == pytest.approx(memory["total"] / table["full"]["bytes"]["total"])


def test_cost_of_a_stock_trainer_is_as_many_equal_steps(stored):
    table = ask("cost", stored("untied"), "--stock", "--json").json
    assert (table["setup"]["loss"], table["setup"]["prefix_cache"]) == ("materialised", False)
    for entry in [*table["depths"], table["full"]]:
        assert entry["flop"] == table["setup"]["steps"] * entry["step_flop"]["total"]


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
    assert (setup["optimizer"], setup["precision"]) == ("adamw", "float32")
    assert (setup["loss"], setup["prefix_cache"]) == ("supervised-only", True)  # what `semfreeze train` does


@pytest.mark.parametrize("name", ["tied", "untied", "gpt2"])
def test_cost_of_a_config_alone_is_that_of_the_model(models, stored, tmp_path, name):
    (tmp_path / "config").mkdir()
    shutil.copy(models / name / "config.json", tmp_path / "config")
    flags = ["--supervised-fraction", ".3", "--steps", "10", "--train-examples", "48", "--tflops", "1", "--json"]
    alone, run = ask("cost", "--model", tmp_path / "config", *flags), ask("cost", stored(name), *flags)
    assert alone.json["depths"] == run.json["depths"]
    assert alone.json["full"] == run.json["full"]
    assert alone.err == ""
    for path in (tmp_path / "config", tmp_path / "config" / "config.json"):
        assert ask("cost", "--model", path, *flags).json == alone.json


def test_cost_without_a_run_assumes_a_thousand_examples(models):
    setup = ask("cost", "--model", models / "untied", "--json").json["setup"]
    assert (setup["train_examples"], setup["steps"], setup["supervised_fraction"]) == (1000, 375, 1)


def test_cost_prints_one_line_a_depth(stored):
    report = ask("cost", stored("untied")).out
    assert report.startswith(
        "Estimated cost by freeze depth (memory projected): batch size 8, 64 tokens per example, 18 steps, adamw"
    )
    rows = [line.split() for line in report.splitlines() if line.strip()[:1].isdigit()]
    assert [row[0] for row in rows] == ["0", "1", "2", "3", "4"]
    assert [cell.strip(",") for cell in rows[0]].count("100%") == 4, "compute and memory, here and in a stock trainer"


def test_cost_tells_what_the_device_needs_before_the_steps(stored):
    stored("untied")
    loading = ask("cost", "untied", "--json").json["loading_bytes"]
    assert len(loading) == 5
    assert loading[0] > loading[1] > loading[4] > 0
    sentence = "Before the steps, the device holds the whole model: "
    assert sentence in ask("cost", "untied").out
    assert "GiB at freeze depth 2." in ask("cost", "untied").out
    for flag in ("--no-prefix-cache", "--keep-prefix"):
        assert sentence not in ask("cost", "untied", flag).out


def test_cost_says_when_activations_are_unknown(tmp_path):
    from transformers import AutoModelForCausalLM, StableLmConfig

    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 4}
    config = StableLmConfig(vocab_size=97, intermediate_size=48, max_position_embeddings=64, **sizes)
    AutoModelForCausalLM.from_config(config).config.save_pretrained(tmp_path / "stable")
    table = ask("cost", "--model", tmp_path / "stable", "--json").json
    assert table["full"]["bytes"]["activations"] is table["full"]["bytes"]["total"] is None
    assert table["full"]["relative_bytes"] is None
    assert table["reason"] == "activation memory is unknown for this model family, so memory totals are null"
    assert table["full"]["flop"] > 0
    assert "Activation memory of this model family is unknown" in ask("cost", "--model", tmp_path / "stable").out


def test_cost_leaves_out_a_depth_that_trains_nothing(stored):
    table = ask("cost", stored("untied"), "--no-train-norm", "--json").json
    assert [entry["freeze_depth"] for entry in table["depths"]] == [0, 1, 2, 3]


def test_cost_with_a_prefix_cache_pays_the_prefix_once(stored):
    stored("untied")
    plain, cached = (ask("cost", "untied", *flags, "--json").json for flags in (["--no-prefix-cache"], []))
    assert cached["full"] == plain["full"]
    assert cached["depths"][0]["flop"] == plain["depths"][0]["flop"]
    for before, after in zip(plain["depths"][1:], cached["depths"][1:], strict=True):
        assert after["step_flop"] == before["step_flop"]  # the first step is uncached
        assert after["flop"] < before["flop"]
        assert after["bytes"]["weights"] < before["bytes"]["weights"]
    flags = (["--no-prefix-cache"], ["--prefix-cache"])
    once = [ask("cost", "untied", *flag, "--epochs", "1", "--json").json for flag in flags]
    assert [e["flop"] for e in once[0]["depths"]] == [e["flop"] for e in once[1]["depths"]]


@pytest.mark.parametrize("flag", ["--train-head", "--train-embeddings"])
@pytest.mark.parametrize("name", ["tied", "gpt2"])
def test_cost_refuses_a_tied_head_above_frozen_layers(stored, name, flag):
    message = ask("cost", stored(name), flag).refusal
    assert "head and embeddings of this model are tied (one parameter)" in message


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--epochs", "2", "--steps", "5"], "--epochs and --steps set the same thing: give one"),
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
        (["--optimizer", "lion"], "--optimizer lion: expected adamw or adamw8bit or sgd"),
        (["--precision", "fp8"], "--precision fp8: expected float32 or bf16-autocast or bf16"),
        (["--loss", "mse"], "--loss mse: expected materialised or supervised-only or chunked or chunked-loop or fused"),
        (
            ["--checkpointing", "on"],
            "--checkpointing on: expected none or non-reentrant or reentrant or transformers-5",
        ),
        (["--frozen-bits", "3"], "--frozen-bits must be 8 or 4, found 3"),
        (["--lora"], "--lora needs --lora-rank"),
        (["--lora-targets", "q_proj"], "--lora-targets needs --lora-rank"),
        (["--lora", "--lora-rank", "0"], "--lora-rank must be in 1..1000000000000, found 0"),
        (["--lora", "--lora-rank", "2", "--lora-targets", ","], "--lora-targets must name at least one matrix"),
        (
            ["--lora", "--lora-rank", "2", "--lora-targets", "q_proj,w1,w2"],
            "LoRA targets w1, w2 match no matrix of the layers. Available: self_attn.q_proj, self_attn.k_proj",
        ),
        (["--keep-prefix", "--no-prefix-cache"], "--keep-prefix needs --prefix-cache"),
        (["--offload-prefix", "--no-prefix-cache"], "--offload-prefix needs --prefix-cache"),
        (["--keep-prefix", "--stock"], "--keep-prefix needs --prefix-cache"),
        (["--stock", "--prefix-cache"], "--stock and --prefix-cache exclude each other: stock trainers cache no"),
        (["--prefix-cache", "--checkpointing", "transformers-5"], "--checkpointing transformers-5 exclude each other"),
        (["--prefix-cache", "--train-embeddings"], "freeze the embeddings or turn the prefix cache off"),
        (
            ["--precision", "fp8", "--steps", "0", "--loss", "x"],
            "fp8: expected float32 or bf16-autocast or bf16; --loss x: expected",
        ),
    ],
)
def test_cost_and_plan_refuse_an_impossible_setup(stored, flags, message):
    command = ("cost", "plan")[len(message) % 2]  # in turn: they take a setup by one way
    depth = ["--depth", "2"] if command == "plan" else []
    assert message in ask(command, stored("untied"), *depth, *flags).refusal


def test_plan_refuses_a_reference_that_it_does_not_show(stored):
    assert "--lora-rank without --lora is a comparison" in ask("plan", stored("untied"), "--lora-rank", "2").refusal


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--calibrate"], "--calibrate needs --model"),
        (["--padding-mask"], "--padding-mask needs --calibrate"),
        (["--tflops", "1", "--flop-per-second", "1"], "--flop-per-second and --tflops say the same thing twice"),
        (["--tflops", "0"], "--tflops must be a positive number, found 0"),
        (["--flop-per-second", "nan"], "--flop-per-second must be a positive number, found nan"),
        (["--gpu", "H100"], "GPU H100 is ambiguous. Use one of: H100 PCIe, H100 SXM"),
    ],
)
def test_cost_refuses_flags_of_its_own(stored, flags, message):
    assert message in ask("cost", stored("untied"), *flags).refusal


def test_cost_shows_lora_on_all_layers_beside_full(stored):
    table = ask("cost", stored("untied"), "--lora-rank", "2", "--json").json
    assert table["setup"]["lora"] is None
    assert table["lora"].keys() == table["full"].keys()
    assert 2 / 3 < table["lora"]["relative_flop"] < 1
    # rank 2: (inputs + outputs) of the four layers' matrices, in float32
    assert table["lora"]["bytes"]["gradients"] == 4 * 4 * 2 * (4 * 32 + 2 * (32 + 16) + 3 * (32 + 48))
    assert ask("cost", "untied", "--json").json["lora"] is None
    report = ask("cost", "untied", "--lora-rank", "2").out
    assert [line.split()[0] for line in report.splitlines() if line.strip().startswith("LoRA ")] == ["LoRA"]


def test_cost_of_a_lora_plan_trains_adapters_alone(stored):
    table = ask("cost", stored("untied"), "--lora", "--lora-rank", "2", "--json").json
    assert table["lora"] is None
    assert [entry["freeze_depth"] for entry in table["depths"]] == [0, 1, 2, 3]
    assert table["depths"][0]["relative_flop"] < 1
    assert "LoRA of rank 2 on all-linear" in ask("cost", "untied", "--lora", "--lora-rank", "2").out


def test_cost_with_checkpointing_shows_what_stock_transformers_loses(stored):
    assert ask("cost", stored("untied"), "--json").json["transformers_5"] is None
    table = ask("cost", "untied", "--checkpointing", "non-reentrant", "--stock", "--json").json
    assert table["transformers_5"][0] == table["depths"][0]
    assert (
        table["transformers_5"]
        == ask("cost", "untied", "--checkpointing", "non-reentrant", "--json").json["transformers_5"]
    )
    for clean, stock in zip(table["depths"][1:], table["transformers_5"][1:], strict=True):
        assert stock["freeze_depth"] == clean["freeze_depth"]
        assert stock["relative_flop"] > clean["relative_flop"]
        assert stock["bytes"]["activations"] > clean["bytes"]["activations"]
    assert "transformers 5" in ask("cost", "untied", "--checkpointing", "non-reentrant").out


def test_plan_with_checkpointing_writes_what_stock_transformers_loses(stored):
    plain = ask("plan", stored("untied"), "--depth", "2", "--json").json["cost"]
    asked = ask("plan", "untied", "--depth", "2", "--checkpointing", "reentrant", "--json").json["cost"]
    assert plain["transformers_5"] is None
    assert asked["transformers_5"]["relative_flop"] > asked["planned"]["relative_flop"]
    assert (asked["status"], asked["flop_status"]) == ("projected", "exact")
    report = " ".join(ask("plan", "untied", "--depth", "2", "--checkpointing", "reentrant").out.split())
    share = f"{asked['transformers_5']['relative_flop']:.0%} of full finetuning's compute"
    assert f"With the default checkpointing of transformers 5, this depth costs {share}" in report
    assert "recompute" in report
    assert "recompute" not in ask("plan", "untied", "--depth", "2").out


def test_cost_takes_a_range_of_the_gpus_peak(stored):
    table = ask("cost", stored("untied"), "--gpu", "A100-80GB", "--precision", "bf16", "--json").json
    assert table["speed"]["flop_per_second"] is None
    assert table["speed"]["flop_per_second_range"] == pytest.approx([0.30 * 312e12, 0.55 * 312e12])
    assert table["full"]["seconds"] is None
    shortest, longest = table["full"]["flop"] / (0.55 * 312e12), table["full"]["flop"] / (0.30 * 312e12)
    assert table["full"]["seconds_range"] == pytest.approx([shortest, longest])
    report = " ".join(ask("cost", "untied", "--gpu", "A100-80GB", "--precision", "bf16").out.split())
    assert "Training time: at 93.6 TFLOP/s to 172 TFLOP/s, 30–55% of the peak rate of A100 80GB SXM in bf16." in report
    unknown = ask("cost", "untied", "--gpu", "T4", "--precision", "bf16").out
    assert "the peak rate of T4 in bf16 is unknown or it has none: give --tflops" in " ".join(unknown.split())


def test_cost_and_plan_take_the_precision_of_the_gpu(stored):
    run = stored("untied")
    for command in ("cost", "plan"):
        assert " bf16-autocast, " in " ".join(ask(command, run, "--gpu", "A10").out.split())
        assert " float32, " in " ".join(ask(command, run, "--gpu", "T4").out.split())
        assert " bf16, " in " ".join(ask(command, run, "--gpu", "A10", "--precision", "bf16").out.split())
    assert ask("plan", run, "--gpu", "A10", "--json").json["cost"]["setup"]["precision"] == "bf16-autocast"


def test_cost_takes_the_rate_of_the_runs_last_finetune(stored, monkeypatch):
    monkeypatch.setattr("semfreeze_core.runs.reports.finetune_rate", lambda folder, precision: 4e9)
    table = ask("cost", stored("untied"), "--json").json
    assert (table["speed"]["flop_per_second"], table["speed"]["source"]) == (
        4e9,
        "measured in this run's last finetune",
    )
    assert table["full"]["seconds"] == pytest.approx(table["full"]["flop"] / 4e9)
    assert ask("cost", "untied", "--gpu", "A10", "--json").json["speed"]["flop_per_second"] is None, (
        "the GPU named counts"
    )


def test_cost_without_a_rate_knows_no_seconds(stored, models):
    other = ask("cost", stored("untied"), "--precision", "bf16", "--json").json
    assert other["speed"]["reason"] == "no rate is known: name a GPU (--gpu), or give a rate (--tflops)"
    alone = ask("cost", "--model", models / "untied", "--json").json
    for table in (other, alone):
        assert {entry["seconds"] for entry in table["depths"]} == {None}
    assert "Training time is unknown: no rate is known" in ask("cost", "--model", models / "untied").out


@pytest.mark.quick_cases(0)
def test_cost_says_where_flop_are_an_upper_bound(tmp_path):
    from tests.core.tiny_models import build_tiny

    build_tiny("olmo2").config.save_pretrained(tmp_path / "olmo2")
    flags = ["--model", tmp_path / "olmo2", "--checkpointing", "non-reentrant"]
    assert ask("cost", *flags, "--json").json["flop_status"] == "upper bound"
    assert "FLOPs are an upper bound" in ask("cost", *flags).out
    assert ask("cost", *flags[:2], "--json").json["flop_status"] == "exact"
    calibrated = ask("cost", *flags, "--calibrate", "--json").json
    assert (calibrated["status"], calibrated["reason"]) == ("calibrated", None)
    assert calibrated["full"]["bytes"]["total"] > 0
    assert ask("cost", *flags, "--calibrate").out.startswith("Estimated cost by freeze depth (memory calibrated)")


def test_cost_of_llama_3_70b_imports_neither_torch_nor_transformers(tmp_path):
    sizes = {"hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80, "num_attention_heads": 64}
    sizes |= {"num_key_value_heads": 8, "vocab_size": 128256, "max_position_embeddings": 8192}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", **sizes}))
    code = (
        "import sys; from semfreeze_core.cli import main; sys.argv[1:] = ['cost', '--json', '--model', sys.argv[1]]\n"
        "try: main()\n"
        "finally: print(sorted({'torch', 'transformers', 'scipy', 'pandas'} & set(sys.modules)), file=sys.stderr)"
    )
    answer = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert answer.stderr.strip() == "[]"
    table = json.loads(answer.stdout)
    assert table["n_layers"] == 80
    assert table["full"]["bytes"]["weights"] == 4 * 70_553_706_496


@pytest.mark.parametrize("flags", [["--batch-size", "1000000000000"], ["--steps", "1000000000000"]])
def test_cost_prints_the_largest_numbers_it_takes(stored, flags):
    assert ask("cost", stored("untied"), *flags).code == 0
    assert ask("cost", "untied", *flags, "--loss", "supervised-only", "--json").json["full"]["flop"] > 1e18


@pytest.mark.parametrize("args", [[], ["example", "--model", "embedded"]])
def test_cost_takes_either_a_run_or_a_model(args):
    assert ask("cost", *args).refusal == "Give either a RUN or --model."


def test_cost_says_with_what_full_finetuning_fits(monkeypatch, stored):
    card = find_gpu("T4")
    full = ask("cost", stored("untied"), "--stock", "--json").json["full"]["bytes"]["total"]
    monkeypatch.setattr(hardware, "GPUS", (replace(card, memory_bytes=full - 1),))
    asked = ("cost", "untied", "--stock", "--gpu", "T4")
    assert "Full finetuning fits with --loss supervised-only." in " ".join(ask(*asked).out.split())
    assert ask(*asked, "--json").json["gpu"]["full_finetuning_fits_with"] == {"loss": "supervised-only"}
    monkeypatch.setattr(hardware, "GPUS", (replace(card, memory_bytes=1),))
    assert "Full finetuning does not fit with any change of the setup" in " ".join(ask(*asked).out.split())
    assert ask(*asked, "--json").json["gpu"]["full_finetuning_fits_with"] is None
    monkeypatch.setattr(hardware, "GPUS", (card,))
    assert "Full finetuning" not in ask(*asked).out.split("T4, ")[1]


def test_cost_of_a_well_known_size_needs_no_model():
    table = ask("cost", "--model", "shape:llama-3.1-8b", "--json").json
    assert (table["n_layers"], len(table["depths"])) == (32, 33)
    assert "shape:mine: no shape of this name" in ask("cost", "--model", "shape:mine").refusal
