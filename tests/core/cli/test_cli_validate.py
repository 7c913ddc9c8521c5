"""`semfreeze validate` and `train`: what is asked for is what is trained, and every refusal comes before training."""

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from semfreeze_core.cli.options.plan_and_data import default_folder, parse_rates, variant_list
from semfreeze_core.errors import IncompleteError, InputError, ResourceError, SemfreezeError
from semfreeze_core.finetune.arm.process import run_job
from semfreeze_core.finetune.runner import this_machine
from semfreeze_core.finetune.train.result import Trained
from semfreeze_core.finetune.validation.sweep import build_sweep
from semfreeze_core.plan.make import curve_of
from semfreeze_core.progress import silent
from semfreeze_core.records.validation import REPORT, EvalPoint
from semfreeze_core.runs.folder import read_run
from semfreeze_core.runs.plans import read_plan
from semfreeze_core.runs.reports import list_validations
from semfreeze_core.runs.store import example_run
from semfreeze_core.storage import runs_folder, write_atomically
from tests.core.cli.terminal import ask
from tests.core.cli.training_options import PILOTS, SWEEP, TRAIN, VALIDATE
from tests.core.finetune.arms_here import arms_in_this_process
from tests.core.finetune.tiny_plan import make_tiny_plan, write_task
from tests.core.plan.pilots import MEASURED

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("place")
    plan, _ = make_tiny_plan(folder / "model")
    (folder / "plan.json").write_text(plan.model_dump_json())
    write_task(folder / "train.jsonl", 24)
    write_task(folder / "eval.jsonl", 12, seed=9)
    return folder


@pytest.fixture
def validate(workspace):
    def call(*args, plan="plan.json", evaluation="eval.jsonl"):
        data = ("--train", workspace / "train.jsonl", "--eval", workspace / evaluation)
        return ask("validate", workspace / plan, *data, "--device", "cpu", "-q", *args)

    return call


@pytest.fixture
def no_training(monkeypatch):
    monkeypatch.setattr(this_machine, "run_arm_process", lambda *_: pytest.fail("it began to train"))


def test_validate_prints_the_verdict_and_the_documents_keys(validate, tmp_path):
    options = (
        "--arms", "full,planned+lora", "--lora-rank", 2, "--steps", 2, "--batch-size", 4, "--train-examples", 8,
        "--eval-examples", 8, "--accuracy-examples", 2, "--match", "steps", "--lr", "full=1e-3,lora=1e-2",
        "--out", tmp_path / "out",
    )  # fmt: skip
    with arms_in_this_process():
        shown = validate(*options)
    assert shown.code == 0, shown.err
    assert "Same steps: inconclusive. There is no finished run of planned" in shown.out.replace("\n", " ")
    document = validate(*options, "--json").json
    assert set(document["arms"]) == {"full", "planned+lora"}
    arm = document["arms"]["planned+lora"]
    for key in (
        "freeze_depth", "trainable_parameters", "eval_loss_before", "eval_loss_after", "eval_accuracy_before",
        "eval_accuracy_after", "steps", "train_seconds", "cache_seconds", "median_step_seconds",
    ):  # fmt: skip
        assert arm[key] is not None, key
    assert set(arm["flop"]) == {"counted", "predicted"}
    assert {"measured", "predicted"} <= set(arm["peak_bytes"])
    assert (arm["learning_rate"], arm["freeze_depth"], arm["steps"]) == (1e-2, 2, 2)
    assert set(document["improvement_kept"]) == {"estimate", "low", "high"}
    assert document["verdict"] == "undecided"
    assert document["reason"]


SHORT = (
    "--steps", 1, "--batch-size", 2, "--train-examples", 4, "--eval-examples", 4, "--accuracy-examples", 0,
    "--lr", "full=1e-3,frozen=1e-3",
)  # fmt: skip


@pytest.fixture
def failing(monkeypatch):
    """Trains arms in this process; those in the set it gives find no memory."""
    short, trained = set(), []

    def run_arm_process(job, log, progress):
        if job.stem in short:
            raise ResourceError("There is no memory.")
        trained.append(job.stem)
        run_job(job)

    monkeypatch.setattr(this_machine, "run_arm_process", run_arm_process)
    return short, trained


@pytest.mark.quick_cases(0)
def test_a_validation_with_a_failed_variant_exits_with_3_and_the_same_command_completes_it(validate, failing, tmp_path):
    short, trained = failing
    short.add("full-seed0")
    options = ("--arms", "full,depth:1", "--seeds", 1, "--match", "steps", *SHORT, "--out", tmp_path / "out")
    answer = validate(*options)
    assert answer.code == 3
    assert answer.err == (
        "semfreeze: 1 of 2 variants failed: full, seed 0 (There is no memory). Finished variants are kept. The same "
        "command trains the failed ones again.\n"
    )
    assert "Saved in" in answer.out
    again = validate(*options, "--json")
    assert (again.code, again.err) == (3, answer.err)
    assert json.loads(again.out)["arms"]["full"]["failed_seeds"] == [0]
    short.clear()
    assert validate(*options).code == 0
    assert trained == ["baseline", "depth-1-seed0", "full-seed0"]


@pytest.mark.quick_cases(0)
def test_a_sweep_with_a_failed_depth_exits_with_3_and_the_same_command_completes_it(failing, stored, task, tmp_path):
    short, trained = failing
    short.add("depth-1-seed0")
    sets = ("--train", task, "--eval", task)
    options = ("--depths", "0,1", "--seeds", 1, *SHORT, "--device", "cpu", "-q", "--out", tmp_path / "out")
    answer = ask("sweep", stored("tied"), *sets, *options)
    assert answer.code == 3, answer.err
    assert answer.err.startswith("semfreeze: 1 of 2 variants failed: depth:1, seed 0 (There is no memory). Finished")
    assert "Saved in" in answer.out
    short.clear()
    assert ask("sweep", "tied", *sets, *options).code == 0
    assert trained == ["baseline", "full-seed0", "depth-1-seed0"]


def test_exit_codes_are_those_that_the_help_and_the_quickstart_list():
    codes = {error.exit_code for error in (SemfreezeError, InputError, ResourceError, IncompleteError)}
    documented = [" ".join(ask("--help").out.replace("│", " ").split()), (ROOT / "docs" / "quickstart.md").read_text()]
    for text in documented:
        listed = text.split("Exit codes:")[1].split("saved.")[0]
        assert {int(number) for number in re.findall(r"\b\d\b", listed)} == {0, *codes}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--arms", "best"), "variant best: expected full"),
        (("--match", "time"), "--match time: expected steps or compute"),
        (("--precision", "fp8", "--checkpointing", "all"), "--checkpointing all: expected none"),
        (("--lr", "full"), "--lr full: expected NAME=NUMBER"),
        (("--lr", "depth:1=1e-3"), "--lr depth:1: no such variant"),
        (("--steps", 0), "--steps must be at least 1, found 0"),
        (("--lora-rank", 0), "--lora-rank must be at least 1"),
        (("--lora-targets", "nothing"), "nothing match no matrix"),
        (("--prompt-field", "nowhere"), "no column 'nowhere'"),
        (("--model", "/nowhere/at/all"), "/nowhere/at/all"),
    ],
)
def test_validate_refuses_before_training(validate, no_training, args, message):
    assert message in validate(*args).refusal


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--budget", "time"), "--budget time: expected steps or compute"),
        (("--match", "steps", "--budget", "compute"), "--match steps and --budget compute contradict each other"),
    ],
)
def test_validate_refuses_the_old_name_of_match_too(validate, no_training, args, message):
    answer = validate(*args)
    assert answer.code == 2
    notice, refusal = answer.err.strip().splitlines()
    assert notice.startswith("--budget is now called --match")
    assert message in refusal


def test_validate_refuses_an_eval_set_that_is_not_there(validate, no_training):
    assert "none.jsonl" in validate(evaluation="none.jsonl").refusal


def test_train_writes_a_model_and_says_so(workspace, tmp_path):
    options = ("--data", workspace / "train.jsonl", "--eval", workspace / "eval.jsonl", "--steps", 3, "--lr", 1e-3)
    answer = ask(
        "train",
        workspace / "plan.json",
        *options,
        "--accuracy-examples",
        0,
        "--out",
        tmp_path / "m",
        "--device",
        "cpu",
        "-q",
    )
    assert answer.code == 0, answer.err
    assert "3 steps; train loss" in answer.out
    assert "eval loss" in answer.out
    assert (tmp_path / "m" / "model.safetensors").exists()
    again = ask("train", workspace / "plan.json", *options, "--out", tmp_path / "m", "--device", "cpu", "-q")
    assert "holds a finished training" in again.refusal


def test_a_measured_plan_says_what_the_pilots_took(asked, tmp_path):
    out = tmp_path / "measured.json"
    asked("plan", "--out", out)
    document = json.loads(out.read_text())
    assert (document["rule"], document["freeze_depth"]) == ("measured", 3)
    assert document["evidence"]["measurement"] == json.loads(MEASURED.model_dump_json())
    assert document["rule_parameters"] == {"aim": "compute", "pilot_budget": 0.15}
    assert document["reasons"] == [
        "3 won.",
        "The pilots at depths 2, 3 took 12.0% of the compute of full finetuning (90 steps of 8 examples); the limit "
        "was 15%.",
    ]


def test_parse_rates_reads_names_with_colons():
    assert parse_rates("full=1e-4, depth:3=2e-4,") == {"full": 1e-4, "depth:3": 2e-4}
    assert parse_rates("") == {}
    assert parse_rates("layers:0-3,7=1e-4,full=2e-4") == {"layers:0-3,7": 1e-4, "full": 2e-4}


def test_variant_list_keeps_sets_of_layers_together():
    assert variant_list("full, layers:0-3,7 ,depth:3,layers:1,2,") == ("full", "layers:0-3,7", "depth:3", "layers:1,2")


def test_default_folder_is_in_the_run_or_in_the_store(tmp_path):
    assert default_folder("mine", tmp_path, "sample:x_train") == tmp_path / "validations" / "x_train"
    expected = runs_folder().parent / "validations" / "example-rows"
    assert default_folder("example", example_run(), "/data/rows.jsonl") == expected


def test_show_tells_of_validations(stored, tmp_path):
    stored("tied")
    assert ask("show", "tied", "--json").json["validations"] == {}
    folder = runs_folder() / "tied" / "validations" / "broken"
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps({"verdict": "holds"}))
    assert "damaged" in ask("show", "tied").refusal
    planned = ask("plan", "tied", "--out", tmp_path / "plan.json")
    assert (planned.code, "report.json is damaged" in planned.out) == (0, True)  # the plan does not depend on it
    assert read_plan(str(tmp_path / "plan.json"))


@pytest.fixture(scope="module")
def shown_validation():
    return list_validations(example_run())["sentence_to_json_train"]


@pytest.fixture(scope="module")
def example_curve():
    return curve_of(read_run(example_run()), "semantic")


@pytest.fixture
def asked(stored, workspace, shown_validation, example_curve, monkeypatch):
    """What a command that trains would have asked for, by the options given."""
    observed = SimpleNamespace(printed="", reported=True)
    sets = ("--train", "t.jsonl", "--eval", "e.jsonl")
    base = {
        "validate": sets,
        "sweep": sets,
        "plan": ("--rule", "measured", *sets),
        "train": ("--data", "t.jsonl", "--out", "out"),
    }
    point = EvalPoint(
        step=1, seconds=1.0, flop=1, curve_loss=1.0, loss=1.0, marks=["steps"], item_losses=None, accuracy=None
    )

    def answer(request, folder, *, overwrite=False, progress=silent, runner=None):
        observed.request, observed.folder, observed.overwrite, observed.reported = (
            request,
            folder,
            overwrite,
            progress is not silent,
        )
        observed.runner = getattr(request, "runner", runner)
        return shown_validation

    monkeypatch.setattr("semfreeze_core.finetune.validation.validate.validate", answer)

    def sweep(request, curve, candidates, folder, *, overwrite, progress, runner):
        observed.metric = curve.metric
        report = answer(request, folder, overwrite=overwrite, progress=progress, runner=runner)
        write_atomically(folder / REPORT, report.model_dump_json())
        return build_sweep(report, example_curve, candidates)

    monkeypatch.setattr("semfreeze_core.finetune.validation.sweep.sweep", sweep)

    def measure(request, folder, progress):
        answer(request, folder, progress=progress)
        return MEASURED

    monkeypatch.setattr("semfreeze_core.finetune.validation.pilots.measure", measure)

    def train(request, folder, progress):
        answer(request, folder, progress=progress)
        return Trained(folder, 1, [1.0], None, point, ())

    monkeypatch.setattr("semfreeze_core.finetune.train.train.train_plan", train)
    stored("tied")

    def call(command, *options, plan=workspace / "plan.json"):
        given = base[command]
        defaults = [word for i in range(0, len(given), 2) if given[i] not in options for word in given[i : i + 2]]
        said = ask(command, plan if command == "train" else "tied", *defaults, *options)
        assert said.code == 0, said.err
        observed.printed, observed.err = said.out[:1], said.err
        return observed

    return call


def test_the_old_name_of_match_still_works_and_says_so(asked):
    assert "--budget is now called --match" in asked("validate", "--budget", "steps").err
    both = asked("validate", "--budget", "steps", "--match", "steps")
    assert both.request.match == "steps"
    assert "--budget" not in asked("validate", "--match", "steps").err
    assert asked("validate").request.match == "compute"


def launched(patch, rank):
    for name, value in {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}.items():
        patch.setenv(name, str(value))


def test_of_two_processes_that_train_the_first_prints(asked, monkeypatch):
    launched(monkeypatch, 0)
    first = asked("train")
    assert first.printed
    launched(monkeypatch, 1)
    second = asked("train")
    assert (second.printed, second.err, second.reported) == ("", "", False)
    assert second.request == first.request


@pytest.mark.parametrize("command", ["validate", "sweep", "finetune", "preview", "cost"])
def test_commands_that_take_one_process_are_refused_under_a_launcher(monkeypatch, command):
    launched(monkeypatch, 0)
    assert f"A launcher started 2 processes, but semfreeze {command} takes one" in ask(command, "example").refusal
    launched(monkeypatch, 1)
    silent = ask(command, "example")
    assert (silent.code, silent.out, silent.err) == (2, "", "")


def test_a_process_that_fails_alone_says_which_it_is(workspace, monkeypatch):
    def fail(*_):
        error = ResourceError("Memory ran out.")
        error.process = 1
        raise error

    monkeypatch.setattr("semfreeze_core.finetune.train.train.train_plan", fail)
    launched(monkeypatch, 1)
    refusal = ask("train", workspace / "plan.json", "--data", workspace / "train.jsonl", "--out", "out", "-q").refusal
    assert refusal == "Memory ran out. (Process 1 of 2, counted from 0.)"


@pytest.fixture
def planned_for(asked, tmp_path):
    """The file of a plan of the stored run, estimated with these flags."""

    def make(*flags):
        out = tmp_path / "planned.json"
        assert ask("plan", "tied", "--depth", 2, *flags, "--out", out).code == 0
        return out

    return make


def test_train_takes_the_setup_of_its_plan_and_flags_override_it(asked, planned_for):
    plan = planned_for(
        "--batch-size", 4, "--precision", "bf16", "--sequence-length", 64, "--checkpointing", "non-reentrant"
    )  # fmt: skip
    setup = read_plan(plan).cost.setup
    assert (setup.batch_size, setup.precision, setup.sequence_length) == (4, "bf16", 64)
    assert (setup.checkpointing, setup.loss, setup.prefix_cache) == ("non-reentrant", "supervised-only", True)
    assert asked("train", plan=plan).request.how == setup
    flags = ("--batch-size", 2, "--precision", "float32", "--max-length", 32, "--checkpointing", "none")
    flags += ("--optimizer", "sgd", "--loss", "materialised", "--no-prefix-cache")
    assert asked("train", *flags, plan=plan).request.how == replace(
        setup,
        batch_size=2,
        precision="float32",
        sequence_length=32,
        checkpointing="none",
        optimizer="sgd",
        loss="materialised",
        prefix_cache=False,
    )


@pytest.mark.parametrize(
    ("planned", "message", "remedy"),
    [
        (
            ("--loss", "fused"),
            "--loss fused is other trainers': semfreeze trains with chunked",
            ("--loss", "supervised-only"),
        ),
        (
            ("--checkpointing", "transformers-5"),
            "--checkpointing transformers-5 loses the saving of frozen layers: choose none",
            ("--checkpointing", "none"),
        ),
    ],
)
def test_train_refuses_a_setup_that_only_others_train_in(asked, planned_for, planned, message, remedy):
    plan = planned_for(*planned)
    assert message in ask("train", plan, "--data", "t.jsonl", "--out", "out").refusal
    how = asked("train", *remedy, plan=plan).request.how
    assert getattr(how, planned[0].removeprefix("--")) == remedy[1]


BY_COMMAND = {"plan": PILOTS, "validate": VALIDATE, "sweep": SWEEP, "train": TRAIN}
_usual = {}  # what a command asks for without the option, by command and field
OPTIONS = [(command, option) for command, options in BY_COMMAND.items() for option in options]


@pytest.mark.quick_cases(4)
@pytest.mark.parametrize(("command", "option"), OPTIONS)
def test_an_option_is_in_what_is_asked_for(asked, command, option):
    arguments, field, expected = BY_COMMAND[command][option]

    def value_of(observed):
        value = observed
        for name in field.split(".") if hasattr(observed, field.split(".")[0]) else ("request", *field.split(".")):
            value = getattr(value, name)
        return value

    assert value_of(asked(command, option, *arguments)) == expected
    if option == "--prefix-cache":  # what is so by default
        return
    if (command, field) not in _usual:
        _usual[command, field] = value_of(asked(command))
    assert _usual[command, field] != expected
