"""Every option of every command changes what it says it changes; one nobody ran would be missing here by name."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer

from semfreeze_core.errors import ModelError
from semfreeze_core.runs.reports import list_validations
from semfreeze_core.runs.store import example_run, run_names
from semfreeze_core.storage import cache_folder, runs_folder
from tests.core.cli.terminal import ask
from tests.core.cli.test_cli_audit import OPTIONS as AUDIT
from tests.core.cli.training_options import PILOTS, SWEEP, TRAIN, VALIDATE
from tests.core.cli_app import app
from tests.core.runs.left_job import DEAD, put
from tests.core.runs.tiny_run import task_rows, write_jsonl
from tests.core.saved_models import save_tiny
from tests.core.tiny_tokenizer import CHATML, build_tiny_tokenizer
from tests.dashboard.test_server import OPTIONS as DASHBOARD

EXERCISES = {}
TYPERS_OWN = {"--help", "-h", "--install-completion", "--show-completion"}


def exercise(*names):
    """Register a function of the world as what shows that these options ("command --flag") do what they say."""

    def register(function):
        for name in names:
            assert name not in EXERCISES, name
            EXERCISES[name] = function
        return function

    return register


class World:
    """What the exercises work with.

    Attributes:
        models: folder of tiny models.
        task: the task file.
        tmp: the test's own folder.
        patch: monkeypatch.
    """

    def __init__(self, models, task, tmp, patch):
        self.models, self.task, self.tmp, self.patch = models, task, tmp, patch

    def analyze(self, *args, model=None, data=None, plain=("--dtype", "float32", "--device", "cpu", "--quiet")):
        return ask("analyze", "--model", model or self.models / "untied", "--data", data or self.task, *plain, *args)

    def read(self, *args, **where):
        return self.analyze("--json", *args, **where).json

    def columns(self, **names):
        """The task with its columns renamed, as a file."""
        rows = [{names.get(key, key): value for key, value in row.items()} for row in task_rows()]
        return write_jsonl(self.tmp / "renamed.jsonl", rows)

    def stop_at(self, place, name):
        """Stop the command where it calls `name`; returns the arguments it was called with once it was."""
        seen = {}

        def stop(*args, **kwargs):
            seen.update(kwargs, arguments=args)
            raise ModelError("stopped")

        self.patch.setattr(f"{place}.{name}", stop)
        return seen


@pytest.fixture
def world(models, task, tmp_path, monkeypatch, stored):
    for name in ("tied", "untied"):
        stored(name)
    return World(models, task, tmp_path, monkeypatch)


@exercise("analyze --model")
def _(world):
    documents = [world.read(model=world.models / name) for name in ("untied", "gpt2")]
    assert [d["model"]["identity"]["family"] for d in documents] == ["llama", "gpt2"]


@exercise("analyze --data")
def _(world):
    other = write_jsonl(world.tmp / "other.jsonl", task_rows(40, seed=1))
    assert [world.read(data=data)["n_examples"] for data in (world.task, other)] == [48, 40]


@exercise("analyze --examples")
def _(world):
    assert world.read("--examples", "40")["n_examples"] == 40
    many = write_jsonl(world.tmp / "many.jsonl", task_rows(300))
    assert world.read("--examples", "0", data=many)["n_examples"] == 300
    assert world.read(data=many)["n_examples"] == 256


@exercise("analyze --split")
def _(world):
    for name, n in (("train", 48), ("test", 40)):
        (world.tmp / "set").mkdir(exist_ok=True)
        pd.DataFrame(task_rows(n)).to_parquet(world.tmp / "set" / f"{name}.parquet")
    source = f"hf:{world.tmp / 'set'}"
    documents = [world.read("--split", name, data=source) for name in ("train", "test")]
    assert [d["data"]["split"] for d in documents] == ["train", "test"]
    assert [d["n_examples"] for d in documents] == [48, 40]
    assert "--split is missing. Choose one with --split, or as " in world.analyze(data=source).refusal


@exercise("analyze --prompt-field", "analyze --completion-field", "analyze --label-field")
def _(world):
    data = world.columns(prompt="ask", completion="say", label="kind")
    assert "The fields are not clear" in world.analyze(data=data).refusal
    document = world.read("--prompt-field", "ask", "--completion-field", "say", "--label-field", "kind", data=data)
    mapping = document["data"]["mapping"]
    assert [mapping[f"{role}_field"] for role in ("prompt", "completion", "label")] == ["ask", "say", "kind"]
    assert document["data"]["n_labels"] == 3
    assert document["data"]["tokens_digest"] == world.read()["data"]["tokens_digest"]


@exercise("analyze --template")
def _(world):
    document = world.read("--template", "{label}? {prompt}\\n")
    assert document["data"]["n_tokens"] > world.read()["data"]["n_tokens"]
    prompts = pd.read_parquet(Path(document["run"]) / "examples.parquet")["prompt"]
    assert prompts.str.fullmatch(r"(card|bank|top up)\? Message \d+ about \d+: \n").all()


@exercise("analyze --messages-field")
def _(world):
    save_tiny(world.tmp / "chatty", tokenizer=build_tiny_tokenizer(chat_template=CHATML), max_positions=200)
    rows = [
        {"talk": [{"role": "user", "content": r["prompt"]}, {"role": "assistant", "content": r["completion"]}]}
        for r in task_rows()
    ]
    data = write_jsonl(world.tmp / "chat.jsonl", rows)
    document = world.read("--messages-field", "talk", model=world.tmp / "chatty", data=data)
    assert document["data"]["mapping"]["messages_field"] == "talk"
    assert document["n_examples"] == 48
    assert "The model has no chat template" in world.analyze("--messages-field", "talk", data=data).refusal


@exercise("analyze --text-field")
def _(world):
    document = world.read("--text-field", "prompt")
    assert document["task_null"]["reason"]
    assert "Plain text has no prompt to swap" in document["warnings"][0]


@exercise("analyze --eos", "analyze --no-eos")
def _(world):
    with_eos, without = world.read("--eos"), world.read("--no-eos")
    assert with_eos["n_supervised_tokens"] == without["n_supervised_tokens"] + 48
    assert [d["settings"]["add_eos"] for d in (with_eos, without, world.read())] == [True, False, True]


@exercise("analyze --positions")
def _(world):
    document = world.read("--positions", "2")
    assert document["n_positions_read"] == 2 * 48 < document["n_supervised_tokens"]


@exercise("analyze --max-length")
def _(world):
    document = world.read("--max-length", "20")
    assert document["data"]["max_length"] == 20
    assert document["data"]["n_truncated"] > 0
    assert document["data"]["n_tokens"] <= 20 * 48
    assert world.read("--max-length", "1000000")["data"]["max_length"] == 64  # the model's own limit


@exercise("analyze --scores")
def _(world):
    usual = world.read()["scores"]
    assert "gradient_norm" not in usual
    more = world.read("--scores", " gradient_norm, spectrum")["scores"]
    assert list(more) == [*usual, "gradient_norm"]
    assert more["gradient_norm"]["gain_coverage"]["mean"][0] == 1
    assert more["gradient_norm"]["sample"] == "48 examples, one backward pass"
    world.patch.setattr("semfreeze_core.semantics.spectrum._MOST_WORK", 10)
    assert "--scores spectrum" in world.read()["scores"]["spectrum"]["reason"]
    assert world.read("--scores", "spectrum")["scores"]["spectrum"]["values"] == usual["spectrum"]["values"]


@exercise("analyze --metrics")
def _(world):
    assert list(world.read("--metrics", "semantic")["deviation"]) == ["semantic", "logit_z"]
    document = world.read("--metrics", "semantic,lens_loss")
    assert list(document["deviation"]) == ["semantic", "logit_z", "lens_loss"]
    assert np.array(document["deviation"]["lens_loss"]["mean"]).min() > 2  # nats; a random guess has log(320) = 5.8


@exercise("analyze --allow-few")
def _(world):
    few = write_jsonl(world.tmp / "few.jsonl", task_rows(5))
    assert world.analyze(data=few).refusal.startswith("5 of 5 examples are usable. At least 32 are needed.")
    document = world.read("--allow-few", data=few)
    assert document["n_examples"] == 5
    assert any("fewer than 32" in note for note in document["notes"])


@exercise("analyze --device")
def _(world):
    assert world.read("--device", "cpu")["model"]["device"] == "cpu"
    assert "expected auto, cpu, cuda, cuda:N or mps" in world.analyze("--device", "tpu").refusal


@exercise("analyze --dtype")
def _(world):
    dtypes = [world.read("--dtype", dtype)["model"]["dtype"] for dtype in ("float32", "bfloat16")]
    assert dtypes == ["float32", "bfloat16"]
    assert any(note.startswith("Computed in") for note in world.read("--dtype", "auto")["notes"])
    assert world.analyze("--dtype", "float16").refusal == "--dtype float16: expected auto, float32 or bfloat16."


@exercise("analyze --seed")
def _(world):
    first, same, other = (world.read("--examples", "40", "--seed", seed) for seed in (7, 7, 8))
    assert first["deviation"] == same["deviation"] != other["deviation"]
    assert first["data"]["tokens_digest"] == same["data"]["tokens_digest"] != other["data"]["tokens_digest"]
    assert first["provenance"]["seed"] == 7


@exercise("analyze --batch-tokens")
def _(world):
    from semfreeze_core.semantics import extraction

    real, limits = extraction.length_buckets, []

    def watch(lengths, max_tokens):
        limits.append(max_tokens)
        return real(lengths, max_tokens)

    world.patch.setattr(extraction, "length_buckets", watch)
    small, usual = world.read("--batch-tokens", "77"), world.read()
    assert limits == [77, 77, 1024, 1024]
    for metric in ("semantic", "logit_z"):
        for document in (small, usual):
            np.testing.assert_allclose(
                document["deviation"][metric]["mean"], usual["deviation"][metric]["mean"], atol=1e-5
            )


@exercise("analyze --revision", "analyze --trust-remote-code", "analyze --allow-pickle")
def _(world):
    seen = world.stop_at("semfreeze_core.workflow", "load_causal_lm")
    assert world.analyze().refusal == "stopped"
    names = ("revision", "trust_remote_code", "allow_pickle")
    assert [seen[name] for name in names] == [None, False, False]
    assert world.analyze("--revision", "v2", "--trust-remote-code", "--allow-pickle").refusal == "stopped"
    assert [seen[name] for name in names] == ["v2", True, True]


@exercise("analyze --out")
def _(world):
    world.read("--out", "mine")
    assert "mine" in run_names()
    world.read("--out", "./mine")
    assert Path("mine", "manifest.json").exists()


@exercise("analyze --overwrite")
def _(world):
    world.read("--out", "mine")
    assert "already exists. Choose another --out" in world.analyze("--out", "mine").refusal
    assert world.read("--out", "mine", "--overwrite", "--seed", "5")["provenance"]["seed"] == 5
    assert ask("show", "mine", "--json").json["provenance"]["seed"] == 5


@exercise("analyze --json")
def _(world):
    assert world.analyze("--json").json["n_layers"] == 4
    assert world.analyze().out.startswith(str(world.models / "untied"))


@exercise("analyze --quiet", "analyze -q", "models check --quiet", "models check -q")
def _(world):
    for command in (["analyze", "--data", world.task, "--model"], ["models", "check"]):
        assert "Loading the model\n" in ask(*command, world.models / "untied").err
        for flag in ("--quiet", "-q"):
            assert ask(*command, world.models / "untied", flag).err == ""


@exercise("show --metric", "show --json")
def _(world):
    document = ask("show", "untied", "--metric", "logit_z", "--json").json
    assert document["metric"] == "logit_z"
    assert document["gain"] != ask("show", "untied", "--json").json["gain"]
    assert "logit_z deviation" in ask("show", "untied", "--metric", "logit_z").out


@exercise("show --slices")
def _(world):
    document = ask("show", "example", "--slices", "--json").json
    labels = [group["name"] for group in document["slices"]["groups"]]
    assert sum(group["n_examples"] for group in document["slices"]["groups"]) == document["n_examples"]
    assert all(label in ask("show", "example", "--slices").out for label in labels)
    assert "slices" not in ask("show", "example", "--json").json


@exercise("show --by")
def _(world):
    document = ask("show", "example", "--by", "completion length", "--json").json
    assert document["slices"]["by"] == "completion length"
    assert sum(group["n_examples"] for group in document["slices"]["groups"]) == document["n_examples"]
    assert "tokens" in ask("show", "example", "--by", "prompt length").out
    assert "it can by label, prompt length, completion length" in ask("show", "example", "--by", "mood").refusal


@exercise("calibration --runs", "calibration --json")
def _(world):
    ((name, shipped),) = list_validations(example_run()).items()
    told = "No finished validation or sweep is kept yet"
    assert told in ask("calibration").out
    shutil.copytree(example_run() / "validations" / name, world.tmp / "other" / "mine" / "validations" / name)
    document = ask("calibration", "--runs", world.tmp / "other", "--json").json
    assert {pair["arm"] for pair in document["pairs"]} == set(shipped.arms)
    assert "Measured on one of your finetunes" in ask("calibration", "--runs", world.tmp / "other").out
    assert told in ask("calibration").out


@exercise("compare --metric", "compare --json")
def _(world):
    for metric in ("semantic", "logit_z"):
        document = ask("compare", "example", "untied", "--metric", metric, "--json").json
        assert document["metric"] == metric
        shown = ask("show", "untied", "--metric", metric, "--json").json
        assert document["runs"]["untied"]["gain_coverage"] == {
            key: shown["gain_coverage"][key] for key in ("mean", "low", "high")
        }
    assert "untied: --metric lens_loss: expected" in ask("compare", "untied", "tied", "--metric", "lens_loss").refusal


@exercise("plan --rule")
def _(world):
    rules = ["coverage", "paper", "compute"]
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


@exercise("plan --max-memory-gib", "plan --gpu", "plan --max-cost-fraction")
def _(world):
    limits = {"--max-memory-gib": "1", "--gpu": "T4", "--max-cost-fraction": "0.9"}
    plans = [ask("plan", "untied", flag, value, "--json").json for flag, value in limits.items()]
    assert [p["rule"] for p in plans] == ["budget"] * 3
    assert [p["rule_parameters"]["max_memory_bytes"] for p in plans] == [2**30, 16 * 10**9, None]
    assert [p["freeze_depth"] > 0 for p in plans] == [False, False, True]
    assert plans[2]["cost"]["planned"]["relative_flop"] <= 0.9
    all_of_them = [x for flag in limits.items() for x in flag]
    assert ask("plan", "untied", *all_of_them, "--json").json["freeze_depth"] == plans[2]["freeze_depth"]


@exercise("plan --compare")
def _(world):
    assert set(ask("plan", "untied", "--compare", "--json").json["rules"]) == {"coverage", "paper", "compute"}


@exercise("plan --tau")
def _(world):
    plans = [ask("plan", "example", "--tau", tau, "--json").json for tau in (0.9, 0.65)]
    assert [p["rule_parameters"]["tau"] for p in plans] == [0.9, 0.65]
    assert plans[0]["candidate_depth"] < plans[1]["candidate_depth"]
    assert without_date(plans[1]) == without_date(ask("plan", "example", "--json").json)


def without_date(plan):
    return plan | {"provenance": plan["provenance"] | {"created": None}}


@exercise("plan --out", "plan --json")
def _(world):
    printed = ask("plan", "untied", "--out", "plan.json", "--json").json
    assert json.loads(Path("plan.json").read_text()) == printed


@exercise("report --metric", "report --out", "report -o", "report --overwrite")
def _(world):
    assert ask("report", "untied", "--out", "page.html").out == "Report: page.html\n"
    semantic = Path("page.html").read_text()
    assert "already exists" in ask("report", "untied", "-o", "page.html").refusal
    assert ask("report", "untied", "-o", "page.html", "--metric", "logit_z", "--overwrite").code == 0
    assert ("logit_z deviation" in semantic, "logit_z deviation" in Path("page.html").read_text()) == (False, True)


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
    assert "or go on with --allow-new-tokens" in ask("plan", "grown", "--depth", "2").refusal
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
    "--loss": (["supervised-only"], {"loss": "supervised-only"}),
    "--prefix-cache": ([], {"prefix_cache": True}),
    "--no-prefix-cache": ([], {}),
    "--offload-prefix": (["--prefix-cache"], {"prefix_cache": True}),
    "--keep-prefix": (["--prefix-cache"], {"prefix_cache": True, "prefix_off_device": False}),
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
    "--keep-prefix",
}
SMALLER = {"--optimizer", "--precision", "--frozen-bits", "--lora", "--checkpointing", "--loss", "--offload-prefix"}


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
        (plain, price), (changed, other) = setup_and_price(command), setup_and_price(command, flag, *values)
        assert changed == plain | changes
        if flag in CHEAPER:
            assert other["flop"] < price["flop"]
        if flag == "--batch-size":
            assert other["flop"] == price["flop"]  # twice as many steps of half the size
            assert other["step_flop"]["total"] * 2 == price["step_flop"]["total"]
        if flag in SMALLER:
            assert other["bytes"]["total"] < price["bytes"]["total"]
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


@exercise("export --to", "export --data", "export --model")
def _(world):
    ask("plan", "untied", "--depth", "2", "--out", "plan.json")
    told = ask("export", "plan.json", "--to", "mlx-lm").out
    assert "num_layers: 2\n" in told
    assert f'data: "{world.task.parent}"\n' in told  # what the plan's run read
    other = world.columns(prompt="question", completion="answer")
    told = ask("export", "plan.json", "--to", "axolotl", "--data", other, "--model", "a/b").out
    assert f'path: "{other}"\n' in told
    assert 'field_instruction: "question"\n' in told
    assert 'base_model: "a/b"\n' in told


@exercise("export --prompt-field", "export --completion-field", "export --label-field", "export --template")
def _(world):
    ask("plan", "untied", "--depth", "2", "--out", "plan.json")
    data = world.columns(prompt="ask", completion="say")
    command = ["export", "plan.json", "--to", "hf-trainer", "--data", data]
    assert "The fields are not clear" in ask(*command).refusal
    told = ask(*command, "--prompt-field", "ask", "--completion-field", "say").out
    assert 'FieldMapping(prompt_field="ask", completion_field="say")' in told
    told = ask(*command, "--template", "{label}? {ask}\\n", "--completion-field", "say").out
    assert r'template="{label}? {ask}\\n"' in told
    named = ["--prompt-field", "ask", "--completion-field", "say", "--label-field", "mood"]
    assert "--label-field: no column 'mood'" in ask(*command, *named).refusal


@exercise("export --messages-field", "export --text-field")
def _(world):
    ask("plan", "untied", "--depth", "2", "--out", "plan.json")
    rows = [{"talk": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "words": "c"}]
    data = write_jsonl(world.tmp / "chat.jsonl", rows)
    for flag, field, told in (
        ("--messages-field", "talk", 'field_messages: "talk"\n'),
        ("--text-field", "words", 'field: "words"\n'),
    ):
        assert told in ask("export", "plan.json", "--to", "axolotl", "--data", data, flag, field).out


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


@exercise("cost --tflops", "cost --flop-per-second")
def _(world):
    for flags in (["--tflops", "0.002"], ["--flop-per-second", "2e9"]):
        table = ask("cost", "untied", *flags, "--json").json
        assert table["speed"] == {"flop_per_second": 2e9, "source": f"given with {flags[0]}", "reason": None}
        for entry in [*table["depths"], table["full"]]:
            assert entry["seconds"] == pytest.approx(entry["flop"] / 2e9)


@exercise("cost --gpu")
def _(world):
    card = ask("cost", "untied", "--gpu", "tesla t4", "--json").json["gpu"]
    assert (card["name"], card["memory_bytes"], card["least_fitting_depth"]) == ("T4", 16 * 10**9, 0)
    assert "T4, 14.90 GiB: fits from freeze depth 0 on." in ask("cost", "untied", "--gpu", "T4").out
    assert "GPU TPU is not known; known are T4" in ask("cost", "untied", "--gpu", "TPU").refusal


@exercise("cost --revision", "cost --trust-remote-code")
def _(world):
    seen = world.stop_at("semfreeze_core.sources.checkpoint", "open_checkpoint")
    assert ask("cost", "--model", "x/y").refusal == "stopped"
    assert (seen["revision"], seen["trust_remote_code"], seen["config_only"]) == (None, False, True)
    assert ask("cost", "--model", "x/y", "--revision", "v2", "--trust-remote-code").refusal == "stopped"
    assert (seen["revision"], seen["trust_remote_code"], seen["config_only"]) == ("v2", True, True)


@exercise("models check --plan", "models check --json")
def _(world):
    ask("plan", "untied", "--depth", "3", "--out", "plan.json")
    found = ask("models", "check", world.models / "untied", "--plan", "plan.json", "--json", "-q").json
    assert found["trains"]
    assert all(name.startswith(("model.layers.3.", "model.norm.")) for name in found["trains"])
    assert ask("models", "check", world.models / "untied", "--json", "-q").json["trains"] is None


@exercise("models check --revision", "models check --trust-remote-code", "models check --allow-pickle")
def _(world):
    seen = world.stop_at("semfreeze_core.sources.causal_lm", "load_causal_lm")
    names = ("revision", "trust_remote_code", "allow_pickle")
    assert ask("models", "check", "x/y").refusal == "stopped"
    assert [seen[name] for name in names] == [None, False, False]
    flags = ["--revision", "v2", "--trust-remote-code", "--allow-pickle"]
    assert ask("models", "check", "x/y", *flags).refusal == "stopped"
    assert [seen[name] for name in names] == ["v2", True, True]


@exercise("models check --device", "models check --dtype")
def _(world):
    flags = ["--device", "cpu", "--dtype", "bfloat16", "--json", "-q"]
    found = ask("models", "check", world.models / "untied", *flags).json
    assert (found["device"], found["dtype"]) == ("cpu", "bfloat16")
    for flag, words in (("--dtype", "expected auto, float32 or bfloat16"), ("--device", "expected auto, cpu, cuda")):
        assert words in ask("models", "check", world.models / "untied", flag, "x", "-q").refusal


@exercise("runs list --json")
def _(world):
    listed = ask("runs", "list", "--json").json
    assert listed["folder"] == str(runs_folder())
    assert [run["name"] for run in listed["runs"]] == ["tied", "untied"]


@exercise("runs rm --yes", "runs rm -y")
def _(world):
    for name, flag in (("tied", "--yes"), ("untied", "-y")):
        assert ask("runs", "rm", name, flag).code == 0
        assert name not in run_names()


def look(world, *args, data=None):
    """What `preview` says of the untied model and the task."""
    return ask("preview", "--model", world.models / "untied", "--data", data or world.task, "--quiet", *args)


@exercise("preview --model", "preview --data", "preview --json")
def _(world):
    models = [
        ask("preview", "--model", world.models / m, "--data", world.task, "--json", "-q") for m in ("tied", "gpt2")
    ]
    assert [m.json["memory"]["parameters"] for m in models] == [41_248, 42_368]
    other = write_jsonl(world.tmp / "other.jsonl", task_rows(40))
    assert look(world, "--json", data=other).json["data"]["n_rows"] == 40


@exercise("preview --examples", "preview --seed")
def _(world):
    draws = [
        [e["row"] for e in look(world, "--json", "--examples", "5", "--seed", seed).json["data"]["examples"]]
        for seed in (0, 0, 1)
    ]
    assert len(draws[0]) == 5
    assert draws[0] == draws[1] != draws[2]


@exercise("preview --split")
def _(world):
    (world.tmp / "set").mkdir()
    for name, n in (("train", 48), ("test", 40)):
        pd.DataFrame(task_rows(n)).to_parquet(world.tmp / "set" / f"{name}.parquet")
    found = look(world, "--json", "--split", "test", data=f"hf:{world.tmp / 'set'}").json
    assert found["data"]["n_rows"] == 40


@exercise("preview --eos", "preview --no-eos")
def _(world):
    ends = [
        [example["pieces"][-1]["text"][-4:] for example in look(world, "--json", flag).json["data"]["examples"]]
        for flag in ("--eos", "--no-eos")
    ]
    assert ends == [["</s>"] * 3, [" now"] * 3]


@exercise("preview --max-length")
def _(world):
    for example in look(world, "--json", "--max-length", "20").json["data"]["examples"]:
        assert sum(piece["n_tokens"] for piece in example["pieces"]) <= 20
        assert example["truncated"] > 0


@exercise("preview --device", "preview --dtype")
def _(world):
    memory = look(world, "--json", "--device", "cpu", "--dtype", "bfloat16").json["memory"]
    assert (memory["device"], memory["dtype"]) == ("cpu", "bfloat16")
    assert "expected auto, cpu, cuda, cuda:N or mps" in look(world, "--device", "tpu").refusal


@exercise("preview --prompt-field", "preview --completion-field", "preview --label-field", "preview --template")
def _(world):
    data = world.columns(prompt="ask", completion="say", label="kind")
    assert "The fields are not clear" in look(world, data=data).refusal
    named = ["--completion-field", "say", "--label-field", "kind", "--json"]
    asked = look(world, *named, "--prompt-field", "ask", data=data).json["data"]
    written = look(world, *named, "--template", "{kind}? {ask}", data=data).json["data"]
    for plain, templated in zip(asked["examples"], written["examples"], strict=True):
        assert templated["pieces"][0]["text"] == f"{plain['label']}? {plain['pieces'][0]['text']}"


@exercise("preview --messages-field", "preview --text-field")
def _(world):
    assert look(world, "--text-field", "prompt", "--json").json["data"]["mapping"]["text_field"] == "prompt"
    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    data = write_jsonl(world.tmp / "chat.jsonl", [{"talk": talk}])
    assert "The model has no chat template" in look(world, "--messages-field", "talk", data=data).refusal


@exercise("preview --revision", "preview --trust-remote-code", "preview --allow-pickle")
def _(world):
    seen = world.stop_at("semfreeze_core.preview", "open_checkpoint")
    names = ("revision", "trust_remote_code", "allow_pickle")
    assert look(world).refusal == "stopped"
    assert [seen[name] for name in names] == [None, False, False]
    assert look(world, "--revision", "v2", "--trust-remote-code", "--allow-pickle").refusal == "stopped"
    assert [seen[name] for name in names] == ["v2", True, True]


@exercise("preview --quiet", "preview -q")
def _(world):
    command = ["preview", "--model", world.models / "untied", "--data", world.task]
    assert "Checking rows\n" in ask(*command).err
    for flag in ("--quiet", "-q"):
        assert ask(*command, flag).err == ""


@exercise("jobs list --runs", "jobs list --json", "jobs log --runs", "jobs log --lines", "jobs cancel --runs")
def _(world):
    put(world.tmp / "runs", "one", DEAD, "done", log="first\nsecond\nthird\n")
    here = ("--runs", world.tmp / "runs")
    assert [job["name"] for job in ask("jobs", "list", *here, "--json").json["jobs"]] == ["one"]
    assert ask("jobs", "list", "--json").json == {"folder": str(runs_folder()), "jobs": []}
    assert ask("jobs", "log", "one", *here).out == "first\nsecond\nthird\n"
    assert ask("jobs", "log", "one", *here, "--lines", "2").out == "second\nthird\n"
    assert ask("jobs", "cancel", "one", *here).out == "one: done\n"
    for command in ("log", "cancel"):
        assert "There is no job called 'one'" in ask("jobs", command, "one").refusal


@exercise("cache list --json")
def _(world):
    assert ask("cache", "list", "--json").json == {"folder": str(cache_folder()), "entries": []}


@exercise("cache clear --yes", "cache clear -y")
def _(world):
    for flag in ("--yes", "-y"):
        (cache_folder() / "embedded" / "model").mkdir(parents=True)
        assert ask("cache", "clear", flag).out == "Freed 0.0 MiB.\n"
        assert not (cache_folder() / "embedded" / "model").exists()


@exercise("demo --data", "demo --examples", "demo --quiet", "demo -q")
def _(world):
    world.patch.setattr("semfreeze_core.sources.checkpoint.convert_embedded", lambda progress: world.models / "untied")
    for data, examples, flag in ((world.task, 40, "--quiet"), (world.task, 48, "-q")):
        answer = ask("demo", "--data", data, "--examples", examples, flag)
        assert answer.code == 0
        assert answer.err == ""
        shown = ask("show", "demo", "--json").json
        assert shown["data"]["source"] == str(data)
        assert shown["n_examples"] == examples
        assert "No recommendation from the coverage rule" in answer.out
    assert "Already analysed" in ask("demo", "--data", world.task, "--examples", 48).err


@exercise("umap --seed", "umap --neighbors", "umap --json")
def _(world):
    flags = ([], ["--seed", "3"], ["--neighbors", "4"])
    documents = [ask("umap", "untied", *more, "--json", "-q").json for more in flags]
    assert [(d["seed"], d["neighbors"]) for d in documents] == [(0, 15), (3, 15), (0, 4)]
    assert len({Path(d["file"]).read_bytes() for d in documents}) == 3
    assert not any(d["from_cache"] for d in documents)


@exercise("umap --quiet", "umap -q")
def _(world):
    assert ask("umap", "untied").err.startswith("Loading UMAP\n")
    for seed, flag in ((1, "--quiet"), (2, "-q")):
        assert ask("umap", "untied", "--seed", seed, flag).err == ""


@exercise("--version")
def _(world):
    from semfreeze_core import __version__

    assert ask("--version").out == f"semfreeze {__version__}\n"


def by_exercise():
    """Each exercise once, under the names of its options."""
    for show in dict.fromkeys(EXERCISES.values()):
        yield pytest.param(show, id=", ".join(name for name, other in EXERCISES.items() if other is show))


@pytest.mark.parametrize("show", list(by_exercise()))
def test_option_does_what_it_says(show, world):
    show(world)


def every_option(command, path=""):
    for parameter in command.params:
        names = {*parameter.opts, *parameter.secondary_opts}
        if all(name.startswith("-") for name in names):
            yield from (f"{path}{name}" for name in names - TYPERS_OWN)
    for name, inner in getattr(command, "commands", {}).items():
        yield from every_option(inner, f"{path}{name} ")


# Commands whose options have a file of exercises beside their own tests: what they ask for would train, or serve.
ELSEWHERE = {
    "audit ": AUDIT,
    "plan ": PILOTS,
    "validate ": VALIDATE,
    "sweep ": SWEEP,
    "train ": TRAIN,
    "dashboard ": DASHBOARD,
}


def test_every_option_is_exercised():
    exercised = set(EXERCISES) | {f"{path}{name}" for path, names in ELSEWHERE.items() for name in names}
    assert exercised == set(every_option(typer.main.get_command(app())))


def test_every_command_explains_every_option():
    def explain(command, path):
        for parameter in command.params:
            if any(name.startswith("-") for name in parameter.opts):
                assert parameter.help, f"{path}{parameter.opts}"
        assert command.help, path
        for name, inner in getattr(command, "commands", {}).items():
            explain(inner, f"{path} {name}")

    explain(typer.main.get_command(app()), "semfreeze")
