"""What shows that the options of plan, cost and export do what they say."""

import json
from functools import cache
from pathlib import Path

import pytest

from tests.core.cli.exercises.registry import exercise
from tests.core.cli.terminal import ask
from tests.core.runs.tiny_run import task_rows, write_jsonl
from tests.core.saved_models import save_tiny
from tests.core.tiny_tokenizer import build_tiny_tokenizer


@exercise("plan --rule")
def _(world):
    rules = ["coverage", "paper", "compute", "turning"]
    assert [ask("plan", "untied", "--rule", rule, "--json").json["rule"] for rule in rules] == rules
    assert ask("plan", "untied", "--rule", "manual", "--depth", "1", "--json").json["freeze_depth"] == 1


@exercise("plan --metric")
def _(world):
    plans = [ask("plan", "untied", "--metric", metric, "--json").json for metric in ("semantic", "logit_z")]
    assert [p["metric"] for p in plans] == ["semantic", "logit_z"]
    assert plans[0]["evidence"]["advantage"] != plans[1]["evidence"]["advantage"]


@exercise("plan --depth")
def _(world):
    plan = ask("plan", "untied", "--depth", "3", "--json").json
    assert (plan["rule"], plan["freeze_depth"], plan["rule_parameters"]) == ("manual", 3, {"depth": 3})


@exercise("plan --progressive")
def _(world):
    plan = ask("plan", "untied", "--progressive", "0-2@9", "--steps", 30, "--json").json
    assert (plan["rule"], plan["switch"]) == (
        "manual",
        {"wide_depth": 0, "deep_depth": 2, "step": 9, "measured": False, "trials": None},
    )
    assert "Train all 4 layers for 9 steps, then freeze the first 2." in ask(
        "plan", "untied", "--progressive", "0-2@9"
    ).out.replace("\n", " ")


@exercise("plan --layers")
def _(world):
    plan = ask("plan", "untied", "--layers", "0,2", "--json").json
    assert (plan["rule"], plan["rule_parameters"]) == ("manual", {"layers": "0,2"})
    assert [i for i, trained in enumerate(plan["trainable"]["layers"]) if trained] == [0, 2]


@exercise("plan --max-memory-gib", "plan --gpu", "plan --max-cost-fraction")
def _(world):
    limits = {"--max-memory-gib": "1", "--gpu": "T4", "--max-cost-fraction": "0.9"}
    plans = [ask("plan", "untied", flag, value, "--json").json for flag, value in limits.items()]
    assert [p["rule"] for p in plans] == ["budget"] * 3
    assert [p["rule_parameters"]["max_memory_bytes"] for p in plans] == [2**30, 15 * 2**30, None]
    assert [p["freeze_depth"] > 0 for p in plans] == [False, False, True]
    assert plans[2]["cost"]["planned"]["relative_flop"] <= 0.9
    all_of_them = [x for flag in limits.items() for x in flag]
    assert ask("plan", "untied", *all_of_them, "--json").json["freeze_depth"] == plans[2]["freeze_depth"]


@exercise("plan --compare")
def _(world):
    rules = ask("plan", "untied", "--compare", "--json").json["rules"]
    assert set(rules) == {"coverage", "paper", "compute", "turning", "auto"}


@exercise("plan --tau")
def _(world):
    plans = [ask("plan", "example", "--tau", tau, "--json").json for tau in (0.9, 0.65)]
    assert [p["rule_parameters"]["tau"] for p in plans] == [0.9, 0.65]
    assert plans[0]["candidate_depth"] < plans[1]["candidate_depth"]
    assert without_date(plans[1]) == without_date(ask("plan", "example", "--rule", "coverage", "--json").json)


def without_date(plan):
    return plan | {"provenance": plan["provenance"] | {"created": None}}


@exercise("plan --out", "plan --json")
def _(world):
    printed = ask("plan", "untied", "--out", "plan.json", "--json").json
    assert json.loads(Path("plan.json").read_text()) == printed


@exercise("plan --schema")
def _(world):
    assert "freeze_depth" in ask("plan", "--schema").json["properties"]


@exercise("plan --allow-new-tokens")
def _(world):
    tokenizer = build_tiny_tokenizer()
    tokenizer.add_tokens(["@@new@@"])
    save_tiny(world.tmp / "grown", tokenizer=tokenizer)
    rows = [row | {"prompt": f"@@new@@ {row['prompt']}"} for row in task_rows()]
    data = write_jsonl(world.tmp / "new.jsonl", rows)
    assert "look new or untrained" in world.read("--out", "grown", model=world.tmp / "grown", data=data)["warnings"][0]
    assert "or continue with --allow-new-tokens" in ask("plan", "grown", "--depth", "2").refusal
    assert ask("plan", "grown", "--depth", "0", "--json").json["freeze_depth"] == 0
    plan = ask("plan", "grown", "--depth", "2", "--allow-new-tokens", "--json").json
    assert plan["freeze_depth"] == 2
    assert "look new or untrained" in plan["warnings"][0]


SETUP = {
    "--batch-size": (["4"], {"batch_size": 4, "steps": 36}),
    "--sequence-length": (["32"], {"sequence_length": 32}),
    "--supervised-fraction": (
        ["0.1", "--loss", "supervised-only"],
        {"supervised_fraction": 0.1, "loss": "supervised-only"},
    ),
    "--train-examples": (["80"], {"train_examples": 80, "steps": 30}),
    "--epochs": (["5"], {"steps": 30}),
    "--steps": (["11"], {"steps": 11}),
    "--optimizer": (["sgd"], {"optimizer": "sgd"}),
    "--precision": (["bfloat16"], {"precision": "bf16"}),
    "--frozen-bits": (["4"], {"frozen_bits": 4}),
    "--lora": (["--lora-rank", "2"], {"lora": {"rank": 2, "targets": ["all-linear"]}}),
    "--lora-rank": (["3", "--lora"], {"lora": {"rank": 3, "targets": ["all-linear"]}}),
    "--lora-targets": (
        ["q_proj, mlp.up_proj", "--lora-rank", "2", "--lora"],
        {"lora": {"rank": 2, "targets": ["q_proj", "mlp.up_proj"]}},
    ),
    "--checkpointing": (["reentrant"], {"checkpointing": "reentrant"}),
    "--micro-batch-size": (["2"], {"micro_batch_size": 2}),
    "--batches": (["by-length"], {"batches": "by-length"}),
    "--loss": (["supervised-only"], {"loss": "supervised-only"}),
    "--prefix-cache": ([], {"prefix_cache": True}),
    "--no-prefix-cache": ([], {"prefix_cache": False}),
    "--stock": ([], {"loss": "materialised", "prefix_cache": False}),
    "--offload-prefix": ([], {"prefix_off_device": True}),
    "--keep-prefix": ([], {"prefix_off_device": False}),
}
# What an option is compared with, where that is not the setup without any: one in which it changes something.
STARTING_FROM = {
    "--batch-size": ("--stock",),
    "--frozen-bits": ("--stock",),
    "--loss": ("--stock",),
    "--prefix-cache": ("--no-prefix-cache",),
    "--offload-prefix": ("--keep-prefix",),
}


# fewer FLOP at depth 2
CHEAPER = {
    "--sequence-length",
    "--supervised-fraction",
    "--steps",
    "--lora",
    "--lora-targets",
    "--loss",
    "--prefix-cache",
}
DEARER = {"--stock", "--no-prefix-cache"}


SMALLER = {"--optimizer", "--precision", "--frozen-bits", "--lora", "--checkpointing", "--loss", "--offload-prefix"}
SMALLER |= {"--micro-batch-size"}
LARGER = {"--stock", "--no-prefix-cache", "--keep-prefix"}


@cache  # every world holds the same runs
def setup_and_price(command, *flags):
    """The setup a command took from its flags, and the price of depth 2."""
    if command == "cost":
        table = ask("cost", "untied", *flags, "--json").json
        return table["setup"], table["depths"][2]
    plan = ask("plan", "untied", "--depth", "2", *flags, "--json").json
    return plan["cost"]["setup"], plan["cost"]["planned"]


def exercise_setup(command, flag):
    values, changes = SETUP[flag]

    @exercise(f"{command} {flag}")
    def _(world):
        base = STARTING_FROM.get(flag, ())
        (plain, price), (changed, other) = (setup_and_price(command, *base, *f) for f in ([], [flag, *values]))
        assert changed == plain | changes
        if flag in CHEAPER:
            assert other["flop"] < price["flop"]
        if flag in DEARER:
            assert other["flop"] > price["flop"]
        if flag == "--batch-size":
            assert other["flop"] == price["flop"]  # twice as many steps of half the size
            assert other["step_flop"]["total"] * 2 == price["step_flop"]["total"]
        if flag in SMALLER:
            assert other["bytes"]["total"] < price["bytes"]["total"]
        if flag in LARGER:
            assert other["bytes"]["total"] > price["bytes"]["total"]
        if flag == "--checkpointing":
            assert other["step_flop"]["recompute"] > price["step_flop"]["recompute"] == 0
        if flag == "--precision":
            assert other["bytes"]["weights"] * 2 == price["bytes"]["weights"]


def exercise_parts(command, part):
    @exercise(f"{command} --train-{part}", f"{command} --no-train-{part}")
    def _(world):
        trained, frozen = (setup_and_price(command, flag)[1] for flag in (f"--train-{part}", f"--no-train-{part}"))
        plain = setup_and_price(command)[1]
        assert plain == (trained if part == "norm" else frozen)
        assert trained["bytes"]["gradients"] > frozen["bytes"]["gradients"]
        if command == "plan":
            key = {"norm": "final_norm"}.get(part, part)
            for flag, expected in ((f"--train-{part}", True), (f"--no-train-{part}", False)):
                assert ask("plan", "untied", "--depth", "2", flag, "--json").json["trainable"][key] is expected


for _command in ("cost", "plan"):
    for _flag in SETUP:
        exercise_setup(_command, _flag)
    for _part in ("head", "embeddings", "norm"):
        exercise_parts(_command, _part)


@exercise("export --to", "export --data", "export --model", "export --lr")
def _(world):
    ask("plan", "untied", "--depth", "2", "--out", "plan.json")
    output = ask("export", "plan.json", "--to", "mlx-lm").out
    assert "num_layers: 2\n" in output
    assert f'data: "{world.task.parent}"\n' in output  # what the plan's run read
    other = world.columns(prompt="question", completion="answer")
    output = ask("export", "plan.json", "--to", "axolotl", "--data", other, "--model", "a/b").out
    assert f'path: "{other}"\n' in output
    assert 'field_instruction: "question"\n' in output
    assert 'base_model: "a/b"\n' in output
    assert "learning_rate: 0.0003\n" in output
    output = ask("export", "plan.json", "--to", "axolotl", "--lr", "2e-5").out
    assert "learning_rate: 2e-05\n" in output
    assert "The learning rate, 2e-5, is as given." in output
    assert "must be in (0, 1], found 2.0" in ask("export", "plan.json", "--to", "axolotl", "--lr", "2").refusal


@exercise("export --prompt-field", "export --completion-field", "export --label-field", "export --template")
def _(world):
    ask("plan", "untied", "--depth", "2", "--out", "plan.json")
    data = world.columns(prompt="ask", completion="say")
    command = ["export", "plan.json", "--to", "hf-trainer", "--data", data]
    assert "The fields are not clear" in ask(*command).refusal
    output = ask(*command, "--prompt-field", "ask", "--completion-field", "say").out
    assert 'FieldMapping(prompt_field="ask", completion_field="say")' in output
    output = ask(*command, "--template", "{label}? {ask}\\n", "--completion-field", "say").out
    assert r'template="{label}? {ask}\\n"' in output
    named = ["--prompt-field", "ask", "--completion-field", "say", "--label-field", "mood"]
    assert "--label-field: no column 'mood'" in ask(*command, *named).refusal


@exercise("export --messages-field", "export --text-field")
def _(world):
    ask("plan", "untied", "--depth", "2", "--out", "plan.json")
    rows = [{"talk": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "words": "c"}]
    data = write_jsonl(world.tmp / "chat.jsonl", rows)
    command = ["export", "plan.json", "--to", "axolotl", "--data", data]
    assert 'field: "words"\n' in ask(*command, "--text-field", "words").out
    assert "The model has no chat template" in ask(*command, "--messages-field", "talk").refusal


@exercise("export --out", "export --overwrite", "export --json")
def _(world):
    ask("plan", "untied", "--depth", "2", "--out", "plan.json")
    document = ask("export", "plan.json", "--to", "trl", "--json").json
    assert (document["target"], document["file"], document["filename"]) == ("trl", None, "finetune_trl.py")
    written = ask("export", "plan.json", "--to", "trl", "--out", "mine.py", "--json").json
    assert written == document | {"file": "mine.py"}
    assert Path("mine.py").read_text() == document["text"]
    assert "already exists" in ask("export", "plan.json", "--to", "axolotl", "--out", "mine.py").refusal
    assert ask("export", "plan.json", "--to", "axolotl", "--out", "mine.py", "--overwrite").code == 0
    assert Path("mine.py").read_text() == ask("export", "plan.json", "--to", "axolotl").out


@exercise("cost --model", "cost --json")
def _(world):
    table = ask("cost", "--model", world.models / "untied", "--json").json
    assert len(table["depths"]) == 5


@exercise("cost --calibrate", "cost --padding-mask")
def _(world):
    plain, calibrated, padded = (
        ask("cost", "--model", world.models / "untied", *flags, "--json").json
        for flags in ([], ["--calibrate"], ["--calibrate", "--padding-mask"])
    )
    assert [table["status"] for table in (plain, calibrated, padded)] == ["projected", "calibrated", "calibrated"]
    assert plain["depths"] == calibrated["depths"]  # the formulas hold to the byte
    assert padded["full"]["bytes"]["activations"] > plain["full"]["bytes"]["activations"]
    assert padded["calibration"]["padding_mask"] is True


@exercise("cost --progressive")
def _(world):
    asked = ask("cost", "untied", "--progressive", "1-3@9", "--steps", 30, "--json").json["progressive"]
    assert asked["switch"] == {"wide_depth": 1, "deep_depth": 3, "step": 9, "measured": False, "trials": None}
    assert [phase["steps"] for phase in asked["phases"]] == [9, 21]
    assert asked["cost"]["flop"] == sum(phase["cost"]["flop"] for phase in asked["phases"])
    assert asked["cost"]["bytes"]["total"] == max(phase["cost"]["bytes"]["total"] for phase in asked["phases"])
    output = ask("cost", "untied", "--progressive", "@9").out
    assert "1, then 2: 1 layer frozen for 9 steps, then 2; " in " ".join(output.split())
    assert "other" in output
    assert ask("cost", "untied", "--progressive", "1-3", "--lora", "--lora-rank", 2).refusal.startswith(
        "--progressive 1-3: it trains the layers' own weights"
    )
    assert ask("cost", "untied", "--json").json["progressive"] is None


@exercise("cost --tflops", "cost --flop-per-second")
def _(world):
    for flags in (["--tflops", "0.002"], ["--flop-per-second", "2e9"]):
        table = ask("cost", "untied", *flags, "--json").json
        assert table["speed"] == {
            "flop_per_second": 2e9,
            "source": f"given with {flags[0]}",
            "reason": None,
            "flop_per_second_range": None,
        }
        for entry in [*table["depths"], table["full"]]:
            assert entry["seconds"] == pytest.approx(entry["flop"] / 2e9)


@exercise("cost --gpu")
def _(world):
    card = ask("cost", "untied", "--gpu", "tesla t4", "--json").json["gpu"]
    assert (card["name"], card["memory_bytes"], card["least_fitting_depth"]) == ("T4", 15 * 2**30, 0)
    assert (
        "T4, 15.0 GiB: fits at every freeze depth, including full finetuning."
        in ask("cost", "untied", "--gpu", "T4").out
    )
    assert "GPU TPU is unknown. Known GPUs: T4" in ask("cost", "untied", "--gpu", "TPU").refusal


@exercise("cost --revision", "cost --trust-remote-code")
def _(world):
    arguments = world.stop_at("semfreeze_core.sources.models.opening", "open_checkpoint")
    assert ask("cost", "--model", "x/y").refusal == "stopped"
    assert (arguments["revision"], arguments["trust_remote_code"], arguments["config_only"]) == (None, False, True)
    assert ask("cost", "--model", "x/y", "--revision", "v2", "--trust-remote-code").refusal == "stopped"
    assert (arguments["revision"], arguments["trust_remote_code"], arguments["config_only"]) == ("v2", True, True)
