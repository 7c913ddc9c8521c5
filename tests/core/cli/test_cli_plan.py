"""`semfreeze plan`: a document that fits its schema, its model and its own numbers, and words when it abstains."""

import json
import re
from pathlib import Path

import jsonschema
import pytest
from transformers import AutoModelForCausalLM

from semfreeze_core.plan import FreezePlan
from semfreeze_core.runs.plans import read_plan
from semfreeze_core.runs.reports import list_validations
from semfreeze_core.runs.store import example_run, runs_folder
from tests.core.cli.terminal import ask

INTERVAL = {"estimate", "low", "high"}
STEP = {"forward", "activation_gradient", "weight_gradient", "recompute", "total"}
BYTES = {"weights", "gradients", "optimizer", "activations", "logits", "total"}


@pytest.fixture(params=["tied", "untied", "gpt2"])
def family(request, stored):
    return stored(request.param)


def check_cost(entry):
    assert entry.keys() >= {"freeze_depth", "flop", "step_flop", "bytes", "relative_flop", "relative_bytes"}
    step, memory = entry["step_flop"], entry["bytes"]
    assert step.keys() == STEP
    assert memory.keys() == BYTES
    assert step["total"] == sum(step[part] for part in STEP - {"total"})
    assert memory["total"] == sum(memory[part] for part in BYTES - {"total"})


def test_plan_abstains_on_a_random_model_and_keeps_its_candidate(family):
    plan = ask("plan", family, "--json").json
    assert plan["recommendation"] == "abstain"
    assert plan["freeze_depth"] is None
    assert plan["n_layers"] == 4
    assert plan["candidate_depth"] in range(4)
    assert plan["rule"] == "auto"
    assert plan["reasons"]
    assert plan["evidence"]["reasons"] == plan["reasons"][: len(plan["evidence"]["reasons"])]
    assert plan["evidence"]["verdict"] == "no evidence"
    assert plan["gain_coverage"].keys() == INTERVAL
    assert plan["gain_coverage_status"] == "predicted, unvalidated"
    assert plan["trainable"] is plan["trainable_regex"] is plan["cost"]["planned"] is None
    check_cost(plan["cost"]["full"])


def test_plan_says_that_it_abstains(family):
    report = ask("plan", family).out
    candidate = ask("plan", family, "--json").json["candidate_depth"]
    assert report.lstrip().startswith(
        f"No recommendation from the auto rule. Its formula alone selects depth {candidate}."
    )
    assert "freeze the first" not in report.lower()
    assert report.splitlines()[-1] == "To save the plan, add --out plan.json."


def test_plan_gives_the_coverage_of_its_candidate(family):
    plan, shown = ask("plan", family, "--json").json, ask("show", family, "--json").json
    candidate = plan["candidate_depth"]
    expected = {"estimate": "mean", "low": "low", "high": "high"}
    assert plan["gain_coverage"] == {k: shown["gain_coverage"][v][candidate] for k, v in expected.items()}
    assert plan["model"] == shown["model"]["identity"]
    assert plan["data_digest"] == shown["data"]["tokens_digest"]
    assert plan["evidence"]["task_null"] == {k: shown["task_null"][k] for k in INTERVAL}


@pytest.mark.parametrize("depth", [0, 1, 4])
def test_plan_with_a_depth_freezes_just_that(family, models, depth):
    plan = ask("plan", family, "--depth", depth, "--json").json
    assert (plan["rule"], plan["recommendation"], plan["freeze_depth"]) == ("manual", "freeze", depth)
    assert plan["candidate_depth"] == depth
    trainable = plan["trainable"]
    assert trainable["layers"] == [i >= depth for i in range(4)]
    assert trainable["final_norm"] is True
    assert trainable["embeddings"] is trainable["head"] is (depth == 0)
    for entry in (plan["cost"]["planned"], plan["cost"]["full"]):
        check_cost(entry)
    assert plan["cost"]["planned"]["freeze_depth"] == depth

    named = dict(AutoModelForCausalLM.from_pretrained(models / family).named_parameters())
    trained = {name for name in named if re.match(plan["trainable_regex"], name)}
    assert trained == {name for name in named if expected_to_train(name, depth)}
    float32 = 4
    assert plan["cost"]["planned"]["bytes"]["gradients"] == float32 * sum(named[n].numel() for n in trained)
    assert plan["cost"]["full"]["bytes"]["gradients"] == float32 * sum(p.numel() for p in named.values())


def expected_to_train(name, depth):
    """By the families' own parameter names; layers are model.layers.N (Llama) and transformer.h.N (GPT-2)."""
    layer = re.search(r"\.(?:layers|h)\.(\d+)\.", name)
    if layer:
        return int(layer[1]) >= depth
    return depth == 0 or name.startswith(("model.norm.", "transformer.ln_f."))


@pytest.mark.parametrize(("family", "depth"), [("tied", 0), ("untied", 1), ("gpt2", 4)], indirect=["family"])
def test_plan_costs_what_the_cost_table_says(family, depth):
    plan, table = ask("plan", family, "--depth", depth, "--json").json, ask("cost", family, "--json").json
    unclocked = {"seconds": None}  # a plan makes no promise of time
    assert plan["cost"]["planned"] == table["depths"][depth] | unclocked
    assert plan["cost"]["full"] == table["full"] | unclocked
    assert plan["cost"]["setup"] == table["setup"]


@pytest.mark.parametrize(
    ("family", "depth"), [("tied", 0), ("untied", 1), ("gpt2", 2), ("untied", 3)], indirect=["family"]
)
def test_plan_with_a_budget_takes_the_smallest_depth_that_fits(family, depth):
    prices = ask("cost", family, "--json").json["depths"]
    gib = prices[depth]["bytes"]["total"] / 2**30
    by_memory = ask("plan", family, "--max-memory-gib", repr(gib * (1 + 1e-9)), "--json").json
    by_flop = ask("plan", family, "--max-cost-fraction", repr(prices[depth]["relative_flop"]), "--json").json
    for plan in (by_memory, by_flop):
        assert (plan["rule"], plan["recommendation"], plan["freeze_depth"]) == ("budget", "freeze", depth)
        for key in ("freeze_depth", "flop", "relative_flop", "relative_bytes"):
            assert plan["cost"]["planned"][key] == prices[depth][key]
        assert plan["reasons"][-1] == "The analysis gives no evidence for any depth; only the budget chose this one."


def test_plan_with_a_card_takes_its_memory(family):
    plan = ask("plan", family, "--gpu", "t4", "--json").json
    assert plan["freeze_depth"] == 0
    assert plan["rule_parameters"]["max_memory_bytes"] == 15 * 2**30
    assert "(T4)" in plan["reasons"][0]
    assert "Train all 4 layers and freeze none." in ask("plan", family, "--gpu", "t4").out


def test_plan_by_compute_recommends_on_the_shipped_example():
    plan = ask("plan", "example", "--rule", "compute", "--json").json
    assert plan["freeze_depth"] == plan["candidate_depth"] == plan["rule_parameters"]["picks"]["10"]
    cached = ask("plan", "example", "--rule", "compute", "--prefix-cache", "--json").json
    assert cached["freeze_depth"] >= plan["freeze_depth"]  # a cache makes what is frozen cheaper still


def test_plan_says_what_a_depth_by_hand_costs(family):
    report = ask("plan", family, "--depth", 1).out
    assert "Freeze the first layer of 4 layers and train the last 3." in report
    assert "░███" in report
    assert "freeze 1" in report
    assert "Train all 4 layers and freeze none." in ask("plan", family, "--depth", 0).out


def test_plan_recommends_on_the_shipped_example():
    plan = ask("plan", "example", "--json").json
    assert plan["recommendation"] == "freeze"
    assert plan["freeze_depth"] == plan["candidate_depth"] > 0
    assert plan["evidence"]["verdict"] == "evidence"
    assert plan["gain_coverage"]["low"] <= plan["gain_coverage"]["estimate"] <= plan["gain_coverage"]["high"]
    paper = ask("plan", "example", "--rule", "paper", "--json").json
    assert paper["rule"] == "paper"
    assert ask("plan", "example", "--tau", "1", "--json").json["freeze_depth"] < plan["freeze_depth"]


@pytest.mark.quick_cases(4)
@pytest.mark.parametrize(
    ("family", "flags"),
    [
        ("tied", []),
        ("untied", []),
        ("gpt2", []),
        ("tied", ["--depth", "2"]),
        ("untied", ["--rule", "paper"]),
        ("gpt2", ["--rule", "compute"]),
        ("tied", ["--max-cost-fraction", "0.9"]),
        ("untied", ["--metric", "logit_z"]),
    ],
    indirect=["family"],
)
def test_plan_fits_its_own_schema(family, flags):
    schema = ask("plan", "--schema").json
    jsonschema.Draft202012Validator.check_schema(schema)
    plan = ask("plan", family, *flags, "--json").json
    jsonschema.validate(plan, schema)
    assert set(plan) == set(schema["properties"])
    FreezePlan.model_validate(plan)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(plan | {"surprise": 1}, schema)


def test_plan_schema_needs_no_run():
    assert ask("plan", "--schema").json["title"] == "FreezePlan"


def test_plan_out_writes_what_json_prints(family, tmp_path):
    out = tmp_path / "deep" / "plan.json"
    answer = ask("plan", family, "--depth", 2, "--out", out, "--json")
    assert without_date(json.loads(out.read_text())) == without_date(answer.json)
    assert read_plan(out).freeze_depth == 2
    assert [p.name for p in out.parent.iterdir()] == ["plan.json"]


def without_date(plan):
    return plan | {"provenance": plan["provenance"] | {"created": None}}


def test_plan_out_says_where_the_plan_is(family):
    answer = ask("plan", family, "--out", "plan.json")
    assert answer.out.splitlines()[-1] == "Plan: plan.json"


def test_plan_out_notes_a_damaged_validation_and_writes_the_plan(family):
    folder = runs_folder() / family / "validations" / "mine"
    folder.mkdir(parents=True)
    (folder / "report.json").write_text("{")
    answer = ask("plan", family, "--depth", "2", "--out", "plan.json")
    assert answer.code == 0
    assert f"note: {folder / 'report.json'} is damaged" in answer.out.replace("\n", "")
    assert answer.out.endswith("Plan: plan.json\n")
    assert read_plan("plan.json").freeze_depth == 2


def test_plan_out_replaces_an_older_plan(family):
    for depth in (1, 2):
        ask("plan", family, "--depth", depth, "--out", "plan.json")
        assert json.loads(Path("plan.json").read_text())["freeze_depth"] == depth


def test_plan_out_never_replaces_anything_else(family, task, tmp_path):
    mine = tmp_path / "train.jsonl"
    mine.write_bytes(task.read_bytes())
    message = ask("plan", family, "--out", mine).refusal
    assert message == f"{mine} already exists and is not a plan, so it is not replaced. Choose another --out."
    assert mine.read_bytes() == task.read_bytes()
    assert "already exists and is not a plan" in ask("plan", family, "--out", tmp_path).refusal
    assert "is not a plan" in ask("plan", family, "--out", "/dev/null").refusal
    assert "Something else is at this path" in ask("plan", family, "--out", mine / "plan.json").refusal


def test_plan_out_expands_the_home_folder(family, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    ask("plan", family, "--out", "~/plan.json")
    assert (tmp_path / "plan.json").exists()


def test_plan_takes_a_run_by_path(readings, monkeypatch):
    by_path = ask("plan", readings / "tied", "--json").json
    assert by_path["run"] == "tied"
    monkeypatch.chdir(readings / "tied")
    assert ask("plan", ".", "--json").json["run"] == "tied"


def test_plan_leaves_the_run_as_it_was(family):
    before = {p.name: p.read_bytes() for p in (runs_folder() / family).iterdir()}
    ask("plan", family)
    assert {p.name: p.read_bytes() for p in (runs_folder() / family).iterdir()} == before


def test_plan_says_what_finetunes_have_shown_of_its_coverage_once_they_are_three():
    ((name, shipped),) = list_validations(example_run()).items()
    for i in range(3):
        assert "Corrected for that" not in ask("plan", "example").out
        folder = runs_folder() / f"mine{i}" / "validations" / name
        folder.mkdir(parents=True)
        (folder / "report.json").write_text(
            shipped.model_copy(update={"predicted_gain_coverage": 0.9 + i / 50}).model_dump_json()
        )
    said = " ".join(ask("plan", "example").out.split())
    predicted = ask("plan", "example", "--json").json["gain_coverage"]["estimate"]
    better = predicted - (0.92 - shipped.arms["planned"].improvement_kept.estimate)
    assert "On average, coverage at the same steps was underestimated by" in said
    assert "3 finetunes, 3 variants" in said
    assert f"Corrected for that, R(k) = {predicted:.2f} becomes {better:.2f} (next finetune, 95%: " in said


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--depth", "5"], "--depth must be in 0..4 for this model, found 5"),
        (["--depth", "-1"], "--depth must be in 0..4 for this model, found -1"),
        (["--depth", "2", "--rule", "coverage"], "--depth selects the rule manual, but --rule coverage was given"),
        (["--depth", "2", "--rule", "paper"], "--depth selects the rule manual, but --rule paper was given"),
        (["--rule", "manual"], "--rule manual needs --depth"),
        (["--rule", "best"], "--rule best: expected auto, coverage, paper, compute, turning, measured, budget or"),
        (
            ["--rule", "measured"],
            "--rule measured runs short finetunes of your model: give --train and --eval",
        ),
        (["--train", "a.jsonl", "--aim", "steps"], "--train, --aim: these belong to --rule measured"),
        (["--rule", "measured", "--depth", "2"], "--depth selects the rule manual, but --rule measured was given"),
        (["--rule", "measured", "--train", "a", "--eval", "b", "--aim", "best"], "--aim best: expected compute, steps"),
        (
            ["--rule", "measured", "--train", "a", "--eval", "b", "--depths", "1,x"],
            "--depths 1,x: expected comma-separated",
        ),
        (
            ["--rule", "measured", "--train", "a", "--eval", "b", "--depths", "1,4"],
            "--depths 1,4: expected different depths in",
        ),
        (["--rule", "measured", "--train", "a", "--eval", "b", "--train-head"], "leave the --train-… flags out"),
        (["--rule", "budget"], "--rule budget needs --max-memory-gib, --gpu or --max-cost-fraction"),
        (["--gpu", "T4", "--rule", "coverage"], "select the rule budget, but --rule coverage was given"),
        (["--max-memory-gib", "4", "--depth", "2"], "select the rule budget, but --depth was given too"),
        (["--max-memory-gib", "0"], "--max-memory-gib must be above 0, found 0"),
        (["--max-memory-gib", "nan"], "--max-memory-gib must be above 0, found nan"),
        (["--max-cost-fraction", "1.1"], "--max-cost-fraction must be in (0, 1], found 1.1"),
        (["--gpu", "abacus"], "--gpu: GPU abacus is unknown. Known GPUs: T4"),
        (["--max-cost-fraction", "0.01"], "No freeze depth up to 3 fits within 1% of full finetuning's compute"),
        (["--max-memory-gib", "1e-6"], "fits within 0.00 GiB. Depth 3 comes closest and needs"),
        (
            ["--tau", "0.5", "--rule", "compute", "--depth", "9", "--gpu", "T4", "--max-cost-fraction", "2"],
            "--tau and the weight apply only to the rule coverage, not to compute; --depth selects the rule manual, "
            "but --rule compute was given; --max-memory-gib, --gpu and --max-cost-fraction select the rule budget, but "
            "--depth was given too; --depth must be in 0..4 for this model, found 9; --max-cost-fraction must be in "
            "(0, 1]",
        ),
        (["--metric", "lens_loss"], "lens_loss is shown but chooses no depth"),
        (["--metric", ""], "expected semantic or logit_z"),
        (["--tau", "0"], "tau must be in (0, 1], found 0"),
        (["--tau", "2"], "tau must be in (0, 1], found 2"),
        (["--tau", "-1"], "tau must be in (0, 1], found -1"),
        (["--tau", "nan"], "tau must be in (0, 1], found nan"),
        (["--tau", "inf"], "tau must be in (0, 1], found inf"),
        (
            ["--tau", "0", "--depth", "9"],
            "found 0; --tau and the weight apply only to the rule coverage, not to manual; --depth must be in 0..4",
        ),
        (["--tau", "0.5", "--rule", "paper"], "--tau and the weight apply only to the rule coverage, not to paper"),
        (["--depth", "4", "--no-train-norm"], "nothing is trained"),
        (
            ["--depth", "2", "--train-embeddings", "--prefix-cache"],
            "freeze the embeddings or turn the prefix cache off",
        ),
    ],
)
def test_plan_refuses_what_contradicts_itself(stored, flags, message):
    assert message in ask("plan", stored("untied"), *flags).refusal


def test_plan_refuses_a_tied_head_above_frozen_layers(stored):
    message = ask("plan", stored("tied"), "--depth", "2", "--train-head").refusal
    assert "head and embeddings of this model are tied" in message
    assert "Leave both frozen, or use freeze depth 0" in message


def test_plan_asks_for_a_run():
    assert ask("plan").refusal == "RUN is missing: give a run's folder or name, or 'example'."
