"""Guided finetunes of a tiny model: held out, analyzed, raced, trained; killed anywhere, refused in plain words."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from semfreeze_core.cost import depth_cost, parts_at_depth
from semfreeze_core.errors import DataError, InputError, PlanError, ResourceError, RunError
from semfreeze_core.finetune.arm import rate_search
from semfreeze_core.finetune.arm.job import ModelSource
from semfreeze_core.finetune.arm.process import run_job
from semfreeze_core.finetune.runner import this_machine
from semfreeze_core.finetune.train import fit, phases
from semfreeze_core.finetune.validation import race as race_module
from semfreeze_core.finetune.validation import race_estimate as race_estimate_module
from semfreeze_core.finetune.validation import race_request as race_request_module
from semfreeze_core.finetune.validation import validate as validation_module
from semfreeze_core.finetune.validation.race import decide_race
from semfreeze_core.gains import race_price as race_price_module
from semfreeze_core.gains.looks import decide_look
from semfreeze_core.gains.race import choose_balanced
from semfreeze_core.gains.race_price import RacePrice
from semfreeze_core.gains.rates import too_high_rate
from semfreeze_core.guided import candidates as candidates_module
from semfreeze_core.guided import decision as decision_module
from semfreeze_core.guided import finetune as finetune_module
from semfreeze_core.guided import forecast as forecast_module
from semfreeze_core.guided import task as task_module
from semfreeze_core.guided.candidates import price_reason
from semfreeze_core.guided.finetune import finetune
from semfreeze_core.guided.folder import ANALYSIS, DATA, claimed
from semfreeze_core.guided.forecast import ForecastRequest, forecast_lines
from semfreeze_core.guided.request import GuidedRequest
from semfreeze_core.plan import auto
from semfreeze_core.plan.document import parse_plan
from semfreeze_core.progress import silent
from semfreeze_core.records import training as records_training
from semfreeze_core.records.defaults import RACE_WINS, RATE_TRIALS
from semfreeze_core.records.finetune_report import DECISION, FINETUNE_REPORT
from semfreeze_core.records.options import TrainingOptions
from semfreeze_core.records.race import Objective
from semfreeze_core.records.training import DepthSwitch
from semfreeze_core.records.validation import ArmRun, ValidationReport
from semfreeze_core.runs.folder import read_run
from semfreeze_core.sources.models.causal_lm import measure_empty
from semfreeze_core.wording.numbers import percent
from semfreeze_core.wording.race import finetune_lines, variant_text
from tests.core.finetune.arms_here import arms_in_this_process
from tests.core.finetune.loaded import load_tiny
from tests.core.finetune.tiny_plan import write_task
from tests.core.killed_writes import Killed, killed

STEPS = 4


@pytest.fixture(scope="module", autouse=True)
def short_races(tmp_path_factory):
    """Races of four steps on at least eight examples and no trial after them, for finetunes of at least ten steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEMFREEZE_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setattr(race_request_module, "RACE_STEPS", STEPS)
        for module in (race_price_module, candidates_module):
            patch.setattr(module, "RACE_ROWS", (8, 16))
        patch.setattr(candidates_module, "RACE_STEPS", STEPS)
        patch.setattr(candidates_module, "MIN_RACED_STEPS", 10)
        patch.setattr(
            decision_module, "price_reason", lambda *_, **__: None
        )  # so few steps save less than a race takes
        for module in (race_estimate_module, forecast_module):
            patch.setattr(module, "trial_after_race", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def request_for(tmp_path_factory):
    workspace = tmp_path_factory.mktemp("guided")
    load_tiny(workspace / "model")
    task = write_task(workspace / "task.jsonl", 80)
    base = GuidedRequest(
        ModelSource(source=str(workspace / "model"), device="cpu"), str(task), epochs=1, n_accuracy=0,
        options=TrainingOptions(batch_size=4, precision="float32"),
    )  # fmt: skip
    return lambda **changes: replace(base, **changes)


@pytest.fixture(scope="module")
def finished(request_for, tmp_path_factory):
    """A guided finetune, its folder, what was said before or after anything was trained, and its file operations.

    Beside it is the folder `undecided`, as it was when all variants had made their race.
    """
    folder, said = tmp_path_factory.mktemp("finished") / "out", []

    def hear(event):
        if event.message:
            said.append((event.message, any((folder / "decision" / "race").glob("runs/depth-*"))))

    def decide(*given):
        shutil.copytree(folder, folder.parent / "undecided")
        return decide_race(*given)

    with pytest.MonkeyPatch.context() as patch, arms_in_this_process():
        patch.setattr(race_module, "decide_race", decide)
        with killed(folder, None) as counted:
            report = finetune(request_for(), folder, hear)
    return report, folder, said, len(counted.operations)


def often(n, chosen):
    """The moments 0 to n-1, of which only the chosen ones are tried before every change: each takes ten seconds."""
    return [pytest.param(moment, marks=() if moment in chosen else pytest.mark.slow) for moment in range(n)]


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


def test_the_winner_of_the_race_is_trained_to_the_end(finished):
    report, folder, *_ = finished
    race = report.race
    assert [variant.freeze_depth for variant in race.variants] == [1, 2]
    assert (report.rule, report.badge, report.held_out) == ("auto", "checked", True)
    assert (report.n_train + report.n_eval, race.n_eval) == (80, 8)
    winner = next(variant for variant in race.variants if variant.name == race.chosen)
    assert report.freeze_depth == winner.freeze_depth
    assert report.training["learning_rate"] == winner.learning_rate
    assert report.training["first_steps"] == STEPS
    assert report.steps == -(-report.n_train // 4)
    assert len(report.training["train_losses"]) == report.steps - STEPS, "it goes on where the race ended"
    assert report.training["after"]["loss"] < report.training["before"]["loss"]
    plan = parse_plan((folder / "plan.json").read_text())
    assert (plan.rule, plan.freeze_depth, plan.evidence.race) == ("auto", report.freeze_depth, race)
    assert not list((folder / "decision").rglob("*.safetensors.index.json"))
    assert not list((folder / "decision").rglob("trained.safetensors")), "no checkpoint of the race stays"
    assert (folder / "config.json").exists()
    assert "Rule `auto`" in (folder / "README.md").read_text()


def test_what_it_will_do_and_cost_is_said_before_anything_trains(finished):
    report, _, said, _ = finished
    before = [message for message, trained in said if not trained]
    assert f"{report.n_eval} of 80 rows are held out for evaluation." in before
    assert any(message.startswith(f"Finetune: {report.steps} steps of 4 examples on") for message in before)
    (race,) = [message for message in before if message.startswith("Race: ")]
    assert "Race: freeze 1, freeze 2. " in race
    assert "Training all layers is not raced; freeze 1 stands for it." in race
    assert f"compared on {report.race.n_eval} eval examples" in race
    pattern = rf"about (\d+)% to the compute of training every layer for {report.steps} steps, at worst (\d+)%\."
    likely, worst = map(int, re.search(pattern, race).groups())
    assert 0 < likely < worst
    assert 0 < 100 * report.race_flop / report.full_flop <= worst + 1
    assert not any("of the finetunes" in message for message in before), "one percentage"
    assert any(message.startswith("Estimated: ") and "GiB of memory" in message for message in before)
    assert sum(message.startswith("Estimated time: race ") for message in before) == 1
    assert any("Estimated time of the whole training" in message for message, trained in said if trained)


def test_every_variant_brackets_its_own_rate_on_the_batches_and_the_second_begins_where_the_first_ended(finished):
    _, folder, *_ = finished
    runs = folder / "decision" / "race" / "runs"
    deep, wide = (
        ArmRun.model_validate_json((runs / f"depth-{depth}-seed0.json").read_text()).rate_search for depth in (2, 1)
    )
    assert {search.compared_on for search in (deep, wide)} == {"training batches"}
    assert wide.start == wide.trials[0].rate == deep.rate
    assert wide.too_high == too_high_rate(deep)
    for search in (deep, wide):
        assert 2 <= len(search.trials) <= RATE_TRIALS


def test_at_the_end_it_is_said_what_was_chosen_and_what_all_layers_would_have_cost(finished):
    report, *_ = finished
    lines = finetune_lines(report)
    assert lines[0].endswith("Evidence: checked.")
    assert report.reasons[0] in lines
    share = f"{100 * report.race_flop / report.full_flop:.0f}% of the compute of training every layer."
    assert any(line.startswith("The race added ") and line.endswith(share) for line in lines)
    assert f"at step {report.training['after']['step']} of {report.steps}" in " ".join(lines)


def test_the_same_command_on_a_finished_finetune_gives_its_report(finished, request_for, monkeypatch):
    report, folder, *_ = finished
    monkeypatch.setattr(task_module, "load_tokenizer", lambda *_, **__: pytest.fail("it began again"))
    assert finetune(request_for(), folder) == report


@pytest.mark.quick_cases(0)
def test_killed_between_variants_and_in_the_training_it_goes_on_and_ends_the_same(
    finished, request_for, tmp_path, monkeypatch
):
    report, reference, *_ = finished
    trained = []

    def run(job, log, progress):
        if len(trained) == 2:
            trained.append("killed")
            raise Killed
        trained.append(job.stem)
        run_job(job)

    monkeypatch.setattr(this_machine, "run_arm_process", run)
    with pytest.raises(Killed):
        finetune(request_for(), tmp_path / "out")

    class Dies(fit.Recorder):
        def on_step_end(self, args, state, control, **rest):
            super().on_step_end(args, state, control, **rest)
            if state.global_step == 10:
                raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(fit, "Recorder", Dies)
        with pytest.raises(Killed):
            finetune(request_for(), tmp_path / "out")
    assert trained == ["baseline", "depth-2-seed0", "killed", "depth-1-seed0"]
    again = finetune(request_for(), tmp_path / "out")
    assert len(trained) == 4
    assert again.freeze_depth == report.freeze_depth
    assert weights(tmp_path / "out") == weights(reference)


def test_a_finetune_killed_before_its_report_gets_it(finished, request_for, tmp_path, monkeypatch):
    report, folder, *_ = finished
    (folder / FINETUNE_REPORT).rename(folder / "moved.json")
    (folder / "look" / "deep").mkdir(parents=True)  # the training was killed as it removed what only resumes it
    try:
        with monkeypatch.context() as patch:
            patch.setattr(finetune_module, "train_plan", lambda *_: pytest.fail("it was trained again"))
            again = finetune(request_for(), folder)
        assert again.model_copy(update={"provenance": report.provenance}) == report
        assert not (folder / "look").exists()
    finally:
        (folder / "moved.json").rename(folder / FINETUNE_REPORT)


def test_what_a_kill_left_before_the_settings_is_not_taken_for_another_requests(request_for, tmp_path):
    for part in (ANALYSIS, DATA):
        (tmp_path / "out" / DECISION / part).mkdir(parents=True)
    with claimed(tmp_path / "out", request_for()):
        assert [path.name for path in (tmp_path / "out" / DECISION).iterdir()] == [".lock"]


def test_another_request_in_the_folder_is_refused_with_what_differs(finished, request_for):
    _, folder, *_ = finished
    with pytest.raises(RunError, match=r"holds another finetune \(other settings: epochs\)\. Choose another --out"):
        finetune(request_for(epochs=2), folder)


def test_a_finetune_is_found_finished_in_a_project_that_was_copied(finished, request_for, tmp_path):
    report, folder, *_ = finished
    request = request_for()
    task = Path(request.data).parent
    for part in (folder.parent, task):
        shutil.copytree(part, tmp_path / part.name)
    project = tmp_path / task.name
    model = request.model.model_copy(update={"source": str(project / "model")})
    again = finetune(
        replace(request, model=model, data=str(project / "task.jsonl")), tmp_path / folder.parent.name / "out"
    )
    assert again.folder == str(tmp_path / folder.parent.name / "out")
    assert again.training == report.training


@pytest.fixture
def moved(finished, request_for, tmp_path):
    """The request and folder of the finetune `undecided` in a project that was moved: nothing is where it was."""
    request, folder = request_for(), finished[1]
    task, project = Path(request.data).parent, tmp_path / "project"
    shutil.copytree(task, project / task.name)
    shutil.copytree(folder.parent / "undecided", project / folder.parent.name / "out")
    model = request.model.model_copy(update={"source": str(project / task.name / "model")})
    request = replace(request, model=model, data=str(project / task.name / "task.jsonl"))
    away = [(part.rename(part.with_name(f"{part.name}-away")), part) for part in (task, folder.parent)]
    try:
        yield request, project / folder.parent.name / "out"
    finally:
        for there, part in away:
            there.rename(part)


@pytest.mark.quick_cases(0)
def test_a_finetune_goes_on_where_its_project_was_moved_to(finished, moved, monkeypatch):
    monkeypatch.setattr(this_machine, "run_arm_process", lambda *_: pytest.fail("a variant began again"))
    request, folder = moved
    again = finetune(request, folder)
    assert again.freeze_depth == finished[0].freeze_depth
    assert again.training["after"] == finished[0].training["after"]


@pytest.fixture(scope="module")
def raced(finished, request_for, tmp_path_factory):
    """A finetune that was killed after a race which the quarter won, and what was said; a trial is to follow."""
    folder, said = tmp_path_factory.mktemp("raced") / "out", []
    shutil.copytree(finished[1].parent / "undecided", folder)

    def choose(*given):
        return replace(choose_balanced(*given), variant="depth:1", decided=True)

    def stop(*_):
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(this_machine, "run_arm_process", lambda *_: pytest.fail("a variant was raced again"))
        patch.setattr(race_estimate_module, "trial_after_race", auto.trial_after_race)
        patch.setattr(race_module, "choose_balanced", choose)
        patch.setattr(finetune_module, "train_plan", stop)
        with pytest.raises(Killed):
            finetune(request_for(), folder, lambda event: said.append(event.message))
    return folder, said


@pytest.fixture
def tried(request_for, raced, tmp_path, monkeypatch):
    """Finishes that finetune, in a copy, with a trial of two steps that decides as asked; or is killed in it."""
    for module in (phases, records_training):
        monkeypatch.setattr(module, "LOOK_STEPS", 2)

    def run(*, deeper, name="out", killed_at=None):
        """Its report, None where it is killed before a file operation; and the number of these without a kill."""

        def decide(*given):
            standing = "within" if deeper else "cannot tell"
            return decide_look(*given).model_copy(update={"items_standing": standing, "tokens_standing": standing})

        folder = tmp_path / name
        if not folder.exists():
            shutil.copytree(raced[0], folder)
        with monkeypatch.context() as patch:
            patch.setattr(phases, "decide_look", decide)
            report = None
            with killed(folder, killed_at) as kill:
                report = finetune(request_for(), folder)
        return report, len(kill.operations)

    return run


@pytest.mark.quick_cases(0)
def test_where_the_deep_variant_loses_a_trial_from_the_winners_checkpoint_may_freeze_it_after_all(
    raced, tried, tmp_path
):
    said = raced[1]
    report, _ = tried(deeper=True)
    plan, race = parse_plan((tmp_path / "out" / "plan.json").read_text()), report.race
    assert (race.chosen, race.deeper_depth) == ("depth:1", 2)
    assert plan.switch == DepthSwitch(1, 2, STEPS, measured=True, trials=1)
    assert (plan.rule, plan.freeze_depth, plan.evidence.badge) == ("auto", 2, "checked")
    assert (report.freeze_depth, report.first_depth, report.deeper_from) == (2, 1, STEPS)
    assert [(look["step"], look["items_standing"]) for look in report.training["looks"]] == [(STEPS, "within")]
    assert report.training["first_steps"] == STEPS
    assert len(report.training["train_losses"]) == report.steps - STEPS
    wide, deep = (variant.run_flop for variant in race.variants)
    assert deep < report.planned_flop < wide
    assert report.race_flop > race.lost_flop
    (line,) = [message for message in said if message and message.startswith("Race: ")]
    assert "If freeze 2 does not win, a trial of 10 steps from the winner's checkpoint decides" in line
    worst = int(re.search(r"at worst (\d+)%", line)[1])
    assert 100 * report.race_flop / report.full_flop <= worst + 1, "the trial is in what was said before"
    assert any(message and re.search(r"whole training: .* \(.* if it freezes deeper\)", message) for message in said)
    lines = finetune_lines(report)
    assert lines[0] == f"Trained: freeze 1 of 4 layers for {STEPS} steps, then freeze 2. Evidence: checked."
    assert "decides whether the training continues with freeze 2." in lines[1]
    assert "Freezing deeper loses nothing, so it does from there on." in lines[2]
    assert lines[-2].startswith("The race and its trial added ")


@pytest.mark.quick_cases(0)
def test_a_trial_that_cannot_tell_keeps_the_quarter_to_the_end(tried, tmp_path):
    report, _ = tried(deeper=False)
    (wide, _) = report.race.variants
    assert (report.freeze_depth, report.first_depth, report.deeper_from) == (1, None, None)
    assert report.planned_flop == wide.run_flop
    lines = finetune_lines(report)
    assert lines[0] == "Trained: freeze 1 of 4 layers. Evidence: checked."
    assert lines[2].endswith("Freezing deeper loses too much, or the trial cannot tell. It continues as before.")
    card = " ".join((tmp_path / "out" / "README.md").read_text().split())
    assert "frozen deeper in none" in card


@pytest.mark.quick_cases(0)
@pytest.mark.parametrize("moment", often(4, (1,)))
def test_killed_in_the_trial_the_switch_or_after_it_decides_and_ends_the_same(tried, tmp_path, moment):
    whole, n_operations = tried(deeper=True, name="whole")
    ended, _ = tried(deeper=True, killed_at=n_operations * (2 * moment + 1) // 8)
    assert ended is None
    again, _ = tried(deeper=True)
    assert_same_end((again, tmp_path / "out"), (whole, tmp_path / "whole"))


@pytest.mark.quick_cases(0)
@pytest.mark.parametrize("moment", often(10, (2, 7)))
def test_killed_at_any_of_ten_moments_the_same_command_ends_the_same(
    finished, request_for, tmp_path, monkeypatch, moment
):
    report, folder, _, n_operations = finished
    monkeypatch.setenv("SEMFREEZE_HOME", str(tmp_path / "home"))  # no learning rates are known there
    with arms_in_this_process():
        with killed(tmp_path / "out", n_operations * (2 * moment + 1) // 20) as kill:
            finetune(request_for(), tmp_path / "out")
        assert kill.happened
        again = finetune(request_for(), tmp_path / "out")
    assert_same_end((again, tmp_path / "out"), (report, folder))


def assert_same_end(ours, theirs):
    """The same decision, weights and files; losses are of the steps since the resumption alone."""
    (report, folder), (expected, other) = ours, theirs
    assert weights(folder) == weights(other)
    for name in ("freeze_depth", "first_depth", "deeper_from", "planned_flop", "race_flop", "steps"):
        assert getattr(report, name) == getattr(expected, name), name
    assert report.training["after"] == expected.training["after"]
    assert report.training["looks"] == expected.training["looks"]
    file_names = [{path.relative_to(root) for path in root.rglob("*") if path.is_file()} for root in (folder, other)]
    assert file_names[0] == file_names[1]


@pytest.fixture
def evidence(monkeypatch):
    """The analysis of a random model finds evidence; what the free checks decide is seen."""
    monkeypatch.setattr(auto, "evidence_reasons", lambda curve: ())


@pytest.fixture
def planned(monkeypatch):
    """Stops where the training begins, and gives its request."""
    requests = []

    def stop(request, folder, progress):
        requests.append(request)
        raise Killed

    monkeypatch.setattr(finetune_module, "train_plan", stop)

    def plan(request, folder, progress=silent):
        with pytest.raises(Killed), arms_in_this_process():
            finetune(request, folder, progress)
        return requests[-1]

    return plan


@pytest.mark.quick_cases(0)
def test_the_training_takes_as_many_examples_at_a_time_as_the_race_had_room_for(raced, request_for, planned, tmp_path):
    def examples_at_a_time(micro_batch_size=None):
        request = planned(in_pieces(request_for, micro_batch_size), tmp_path / "out")
        assert request.plan.cost.setup.micro_batch_size is None, "the plan stays, so that the training resumes"
        return request.how.examples_per_pass

    shutil.copytree(raced[0], tmp_path / "out")
    assert examples_at_a_time() == 4
    chosen = tmp_path / "out" / DECISION / "race" / "runs" / "depth-1-seed0.json"
    run = ArmRun.model_validate_json(chosen.read_text())
    chosen.write_text(run.model_copy(update={"accumulation": 2, "micro_batch_size": 2}).model_dump_json())
    assert examples_at_a_time() == 2
    assert examples_at_a_time(4) == 2, "there was no room for more"
    assert examples_at_a_time(1) == 1, "the same finetune"
    with pytest.raises(InputError, match=r"^--micro-batch-size must divide the batch size of 4, found 3: try 2\.$"):
        in_pieces(request_for, 3)


def in_pieces(request_for, micro_batch_size, **changes):
    options = replace(request_for().options, micro_batch_size=micro_batch_size)
    return request_for(options=options, **changes)


@pytest.mark.quick_cases(0)
def test_micro_batches_that_are_named_are_those_of_plan_race_and_training(request_for, planned, tmp_path):
    request = planned(in_pieces(request_for, 2), tmp_path / "out")
    raced = ValidationReport.model_validate_json((tmp_path / "out" / DECISION / "race" / "report.json").read_text())
    assert {run.micro_batch_size for run in raced.runs} == {2}
    assert raced.settings.setup.micro_batch_size == request.plan.cost.setup.micro_batch_size == 2
    assert request.how.micro_batch_size == 2
    settings = json.loads((tmp_path / "out" / DECISION / "settings.json").read_text())
    assert settings["options"]["micro_batch_size"] == 2


def estimate(likely, *costs):
    cost = {str(i): SimpleNamespace(flop=flop) for i, flop in enumerate(costs)}
    return SimpleNamespace(costs=cost, price=RacePrice(likely, 10 * likely), full_flop=1000)


def test_a_race_that_costs_more_than_it_can_save_is_not_made_unless_the_objective_needs_it(monkeypatch):
    depths = {"depth:7": 7, "depth:20": 20}
    saved, pays = 830 - 500, round(RACE_WINS * (830 - 500))

    def reason(likely, objective=None, n_reasons=0):
        monkeypatch.setattr(auto, "evidence_reasons", lambda curve: ("no evidence",) * n_reasons)
        return price_reason(objective or Objective(), depths, estimate(likely, 830, 500), 150, None)

    assert reason(pays - 1) is None
    assert reason(pays + 1) == (
        f"A race would take {percent((pays + 1) / 1000)} of the compute of training every layer for 150 steps. Freeze "
        f"20 saves {percent(saved / 1000)} of it next to freeze 7, but the deeper variant won on {percent(RACE_WINS)} "
        "of the tasks that we measured."
    )
    assert reason(350, n_reasons=1) is None, "nothing else can choose"
    for kind, limit in (("quality", None), ("memory", 1.0), ("time", 1.0)):
        assert reason(350, Objective(kind=kind, limit=limit)) is None


def test_a_race_that_would_not_pay_leaves_it_to_the_free_checks(request_for, planned, evidence, tmp_path, monkeypatch):
    monkeypatch.setattr(decision_module, "price_reason", price_reason)
    said = []
    request = planned(request_for(), tmp_path / "out", lambda event: said.append(event.message))
    assert (request.plan.rule, request.plan.evidence.badge, request.first_steps) == ("auto", "estimated", None)
    assert any(
        message.startswith("No race: A race would take ") and message.endswith("Free checks decide.")
        for message in said
        if message
    )


def test_a_short_finetune_is_not_raced_and_unprobed(request_for, planned, evidence, tmp_path):
    request = planned(request_for(steps=9), tmp_path / "out")
    assert (request.plan.rule, request.plan.evidence.badge) == ("auto", "estimated")
    assert request.plan.reasons[0].startswith("Unprobed: no race of finetunes was made.")
    assert (request.learning_rate, request.first_steps, request.keep_best) == (None, None, True)


def test_without_a_race_an_analysis_without_evidence_is_respected(request_for, tmp_path):
    with pytest.raises(
        PlanError, match=r"^The analysis makes no recommendation: .* measured, add --depth 1; .* every layer, --depth 0"
    ):
        finetune(request_for(steps=9), tmp_path / "out")


def test_a_depth_that_follows_a_refusal_takes_the_analysis_that_is_there(request_for, planned, tmp_path, monkeypatch):
    with pytest.raises(PlanError):
        finetune(request_for(steps=9), tmp_path / "out")
    monkeypatch.setattr(task_module, "begin_analysis", lambda *_: pytest.fail("it is there"))
    request = planned(request_for(steps=9, depth=1), tmp_path / "out")
    assert (request.plan.rule, request.plan.freeze_depth) == ("manual", 1)


def test_a_depth_of_your_own_is_trained_without_a_race(request_for, planned, tmp_path):
    request = planned(request_for(depth=3), tmp_path / "out")
    assert (request.plan.rule, request.plan.freeze_depth, request.first_steps) == ("manual", 3, None)
    with pytest.raises(InputError, match=r"--depth 3 names what to train, and --objective quality would choose it"):
        request_for(depth=3, objective=Objective(kind="quality"))


def test_few_rows_and_eval_rows_that_are_trained_on_are_refused_and_leave_nothing(request_for, tmp_path):
    few = write_task(tmp_path / "few.jsonl", 20)
    with pytest.raises(DataError, match=r"has 20 usable rows, too few to hold any out"):
        finetune(request_for(data=str(few)), tmp_path / "out")
    rows = [json.loads(line) for line in Path(request_for().data).read_text().splitlines()[:20]]
    both = tmp_path / "both.jsonl"
    both.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match=r"Every eval example is also a training example.* Remove them from"):
        finetune(request_for(evaluation=str(both)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.quick_cases(0)
def test_variants_that_learn_at_no_rate_end_it_with_a_sentence(request_for, tmp_path, monkeypatch):
    monkeypatch.setattr(validation_module, "known_search", lambda *_: None)
    monkeypatch.setattr(rate_search, "best_trial", lambda *_: None)
    monkeypatch.setattr("semfreeze_core.gains.rates.best_trial", lambda *_: None)
    with (
        arms_in_this_process(),
        pytest.raises(InputError, match=r"^No variant learned anything .*depth:2: At no learning rate was"),
    ):
        finetune(request_for(), tmp_path / "out")
    assert not (tmp_path / "out" / "config.json").exists()


@pytest.mark.quick_cases(0)
def test_a_time_that_no_variant_keeps_takes_the_fastest_for_fewer_steps_from_its_race_on(
    finished, request_for, planned, tmp_path
):
    request = planned(request_for(objective=Objective(kind="time", limit=1e-3)), tmp_path / "out")
    fastest = variant_text(request.plan.freeze_depth)  # of such a small model any of them
    assert request.plan.evidence.race.reason.endswith(f"so the fastest is taken: {fastest}.")
    assert [variant.freeze_depth for variant in request.plan.evidence.race.variants] == [0, 1, 2]
    assert (request.steps, request.last_step, request.first_steps.steps) == (None, STEPS + 1, STEPS)
    assert request.first_steps.checkpoint.is_dir()


@pytest.mark.quick_cases(0)
def test_a_memory_limit_leaves_out_the_variants_that_do_not_fit(finished, request_for, planned, tmp_path):
    report, *_ = finished
    limit = report.full_bytes - 1
    request = planned(in_pieces(request_for, 4, objective=Objective(kind="memory", limit=limit)), tmp_path / "out")
    assert [variant.freeze_depth for variant in request.plan.evidence.race.variants] == [1, 2]
    with pytest.raises(PlanError, match=r"No freeze depth up to 3 fits within"):
        finetune(request_for(objective=Objective(kind="memory", limit=10.0)), tmp_path / "less")


def memory_of(plan, depth, micro_batch_size):
    """Bytes of a depth in the setup of a plan, with other micro-batches."""
    setup = replace(plan.cost.setup, micro_batch_size=micro_batch_size)
    shape = measure_empty(ModelSource(source=plan.model.source).open())
    return depth_cost(shape, setup, parts_at_depth(shape, depth)).bytes.total


@pytest.mark.quick_cases(0)
def test_micro_batches_shrink_until_the_variants_fit_into_a_memory_limit(finished, request_for, planned, tmp_path):
    plan = parse_plan((finished[1] / "plan.json").read_text())
    whole, limit = memory_of(plan, 0, None), memory_of(plan, 0, 2)
    assert memory_of(plan, 0, 1) < limit < whole
    messages = []
    asked = request_for(objective=Objective(kind="memory", limit=limit))
    request = planned(asked, tmp_path / "out", lambda event: messages.append(event.message))
    assert [variant.freeze_depth for variant in request.plan.evidence.race.variants] == [0, 1, 2]
    raced = ValidationReport.model_validate_json((tmp_path / "out" / DECISION / "race" / "report.json").read_text())
    assert raced.settings.setup.micro_batch_size == 2
    (said,) = [message for message in messages if message.startswith("Micro-batches: ")]
    assert said.startswith("Micro-batches: the 4 examples of a step go through the model 2 at a time. All at once ")
    depth, size = request.plan.freeze_depth, request.how.micro_batch_size
    sizes = [one for one in (None, 2, 1) if memory_of(plan, depth, one) <= limit]
    assert size == request.plan.cost.setup.micro_batch_size == sizes[0], (
        "the largest that the chosen depth has room for"
    )
    assert (size is None) == (not request.plan.reasons[-1].startswith("Micro-batches: "))


@pytest.mark.quick_cases(0)
def test_without_a_race_micro_batches_shrink_before_more_layers_freeze(
    evidence, finished, request_for, planned, tmp_path
):
    plan = parse_plan((finished[1] / "plan.json").read_text())

    def within(limit, name):
        request, messages = request_for(objective=Objective(kind="memory", limit=limit), steps=6), []
        plan = planned(request, tmp_path / name, lambda event: messages.append(event.message)).plan
        assert [message for message in messages if message in plan.reasons] == plan.reasons, "said before it trains"
        return plan

    unlimited = within(1e12, "unlimited")
    depth = unlimited.freeze_depth
    assert (depth > 0, unlimited.cost.setup.micro_batch_size) == (True, None)
    single = within(memory_of(plan, depth, 1), "single")
    assert (single.freeze_depth, single.cost.setup.micro_batch_size) == (depth, 1)
    assert single.reasons[-1].startswith("Micro-batches: the 4 examples of a step go through the model 1 at a time.")
    assert single.cost.planned.bytes.total == memory_of(plan, depth, 1)
    deeper = within(memory_of(plan, depth, 1) - 1, "deeper")
    assert deeper.rule == "budget"
    assert deeper.freeze_depth > depth
    fits = [one for one in (None, 2, 1) if memory_of(plan, deeper.freeze_depth, one) < memory_of(plan, depth, 1)]
    assert deeper.cost.setup.micro_batch_size == fits[0]


@pytest.mark.quick_cases(0)
def test_variants_that_find_no_memory_say_so_and_the_same_command_trains_them(request_for, tmp_path, monkeypatch):
    def full(job, log, progress):
        if job.stem != "baseline":
            raise ResourceError("There is no memory.")
        run_job(job)

    with monkeypatch.context() as patch:
        patch.setattr(this_machine, "run_arm_process", full)
        with pytest.raises(
            InputError, match=r"^No variant of the race could be trained\. depth:2: There is no memory\."
        ):
            finetune(request_for(), tmp_path / "out")
    with arms_in_this_process():
        report = finetune(request_for(), tmp_path / "out")
    assert [variant.reason for variant in report.race.variants] == ["", ""]
    assert (tmp_path / "out" / "config.json").exists()


def test_a_forecast_without_the_examples_says_what_the_command_says_with_them(finished, monkeypatch):
    _, folder, said, _ = finished
    monkeypatch.setattr(forecast_module, "RACE_STEPS", STEPS)
    monkeypatch.setattr(forecast_module, "price_reason", lambda *_, **__: None)
    asked = ForecastRequest(n_rows=80, epochs=1, options=TrainingOptions(batch_size=4, precision="float32"))
    lines = forecast_lines(read_run(folder / "decision" / "analysis"), asked)
    before = [message for message, trained in said if not trained]
    number = r"\d[\d.,]*"
    for line, start in zip(lines, ("Finetune: ", "Race: ", "Estimated: "), strict=True):
        (same,) = (message for message in before if message.startswith(start))
        assert re.sub(number, "N", line) == re.sub(number, "N", same)
        expected = [float(value.rstrip(".,").replace(",", "")) for value in re.findall(number, same)]
        values = [float(value.rstrip(".,").replace(",", "")) for value in re.findall(number, line)]
        assert values == pytest.approx(expected, rel=0.1, abs=1)
