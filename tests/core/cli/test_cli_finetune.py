"""`semfreeze finetune`: what is asked for is what is requested, and one document or the lines come out."""

import pytest

from semfreeze_core.cli.options.objective import parse_objective
from semfreeze_core.errors import InputError
from semfreeze_core.guided import finetune as finetune_module
from semfreeze_core.plan import auto
from semfreeze_core.progress import ProgressEvent
from semfreeze_core.records.defaults import EPOCHS
from semfreeze_core.records.finetune_report import FinetuneReport
from semfreeze_core.records.provenance import provenance_now
from semfreeze_core.records.race import Objective
from semfreeze_core.records.task_checks import TaskChecks
from semfreeze_core.runs.folder import read_run
from semfreeze_core.storage import runs_folder
from tests.core.cli.terminal import ask
from tests.core.cli.training_options import FINETUNE

REPORT = FinetuneReport(
    folder="out", n_layers=30, freeze_depth=20, rule="auto", badge="checked", reasons=["It won."],
    objective=Objective(), n_train=80, n_eval=20, held_out=True, steps=30,
    checks=TaskChecks(
        n_train_completions=80, n_eval_completions=20, bigram_coverage=0.5, n_prompts=100, answer_tag_share=1.0
    ),
    race=None, planned_flop=3 * 10**12, full_flop=10**13, race_flop=2 * 10**12, planned_bytes=2**30, full_bytes=2**31,
    training={"before": {"loss": 2.0, "step": 0}, "after": {"loss": 1.25, "step": 20}, "notes": ["As planned."]},
    provenance=provenance_now(0),
)  # fmt: skip


@pytest.fixture
def asked(monkeypatch):
    """The request, folder and output of a command that stops short of any work."""

    def call(*args):
        observed = {}

        def stand_in(request, folder, progress):
            progress(ProgressEvent("Race", message="Race: soon."))
            observed.update(request=request, folder=folder)
            return REPORT

        with monkeypatch.context() as patch:
            patch.setattr(finetune_module, "finetune", stand_in)
            usual = {"--model": "tiny", "--data": "t.jsonl", "--out": "out"}
            defaults = [word for pair in usual.items() if pair[0] not in args for word in pair]
            answer = ask("finetune", *defaults, *args)
        assert answer.code == 0, answer.err
        observed.update(printed=answer.out[:1], reported="Race: soon." in answer.err, out=answer.out)
        return observed

    return call


@pytest.mark.parametrize("option", FINETUNE)
def test_an_option_is_in_the_request(asked, option):
    arguments, field, expected = FINETUNE[option]

    def value_of(observed):
        first, *rest = field.split(".")
        value = observed[first]
        for name in rest:
            value = getattr(value, name)
        return value

    assert value_of(asked(option, *arguments)) == expected
    assert value_of(asked()) != expected or option in ("--prefix-cache", "--eos")


def test_the_lines_name_the_choice_and_what_all_layers_would_have_cost(asked):
    out = " ".join(asked()["out"].split())
    assert "note: As planned." in out
    assert "Trained: freeze 20 of 30 layers. Evidence: checked. It won." in out
    assert "Eval loss 2.000 -> 1.250 nats per token at step 20 of 30." in out
    assert "training every layer: 10.0 TFLOPs." in out
    assert "The race added 2.00 TFLOPs, 20% of the compute of training every layer." in out
    assert "Model: out Its folder `decision` holds rows of your data: remove it before you publish" in out
    assert asked()["request"].epochs == EPOCHS


@pytest.mark.parametrize(
    ("text", "objective"),
    [
        ("balanced", Objective()),
        ("quality", Objective(kind="quality")),
        ("memory 16", Objective(kind="memory", limit=16 * 2**30)),
        ("memory=8GiB", Objective(kind="memory", limit=8 * 2**30)),
        ("time 2h", Objective(kind="time", limit=7200)),
        ("time 90 min", Objective(kind="time", limit=5400)),
    ],
)
def test_objectives_are_read(text, objective):
    assert parse_objective(text) == objective


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fast", "expected balanced, quality, 'memory 16'"),
        ("memory", "expected a limit above 0 with its unit"),
        ("memory 0", "expected a limit above 0"),
        ("time 2", "like 'time 2h'"),
        ("quality 3", "quality takes no limit"),
    ],
)
def test_other_objectives_are_refused_with_the_way_out(text, message):
    with pytest.raises(InputError, match=message):
        parse_objective(text)


def test_bad_numbers_are_refused_in_one_message():
    arguments = ("--model", "m", "--data", "d.jsonl", "--out", "out", "--steps", "0", "--depth", "2")
    refusal = ask("finetune", *arguments, "--objective", "quality").refusal
    assert "--steps must be at least 1, found 0; --depth 2 names what to train" in refusal


def test_the_rule_auto_takes_the_free_checks_of_the_analysis(stored, monkeypatch):
    checks = read_run(runs_folder() / stored("untied")).manifest.data.checks
    assert (checks.n_train_completions, checks.n_prompts) == (48, 48)
    assert checks.bigram_coverage is None, "too few examples to hold any against the others"
    doubtful = ask("plan", "untied", "--rule", "auto", "--json").json
    assert (doubtful["rule"], doubtful["recommendation"]) == ("auto", "abstain")
    monkeypatch.setattr(auto, "evidence_reasons", lambda curve: ())
    plan = ask("plan", "untied", "--rule", "auto", "--json").json
    assert (plan["freeze_depth"], plan["evidence"]["badge"]) == (plan["n_layers"] // 4, "estimated")
    assert plan["reasons"][0].startswith("Unprobed: no race of finetunes was made.")
