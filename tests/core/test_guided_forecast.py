"""What a guided finetune will do and take, before any example is read: the example run at several lengths."""

import re
from dataclasses import replace

import pytest

from semfreeze_core.errors import InputError, PlanError
from semfreeze_core.guided.forecast import ForecastRequest, forecast_lines
from semfreeze_core.plan.make import default_setup, make_plan
from semfreeze_core.records.defaults import BATCH_SIZE, EPOCHS, HELD_OUT
from semfreeze_core.records.examples import Example, Segment
from semfreeze_core.records.options import TrainingOptions
from semfreeze_core.records.race import Objective
from semfreeze_core.records.task_checks import TaskChecks
from semfreeze_core.runs.folder import read_run
from semfreeze_core.runs.store import example_run
from semfreeze_core.sources.data.held_out import held_out_rows


def checked(run, coverage):
    """The run with a free check of its completions."""
    checks = TaskChecks(
        n_train_completions=80, n_eval_completions=20, bigram_coverage=coverage, n_prompts=100, answer_tag_share=1.0
    )
    data = run.manifest.data.model_copy(update={"checks": checks})
    return replace(run, manifest=run.manifest.model_copy(update={"data": data}))


@pytest.fixture(scope="module")
def run():
    """The example, as if its completions were new."""
    return checked(read_run(example_run()), 0.2)


def shares(lines):
    (race,) = [line for line in lines if line.startswith("Race: ")]
    return tuple(map(int, re.search(r"about (\d+)% .* at worst (\d+)%", race).groups()))


def test_a_race_takes_a_twentieth_of_1000_steps_and_is_not_worth_its_price_over_300(run):
    long = forecast_lines(run, ForecastRequest(n_rows=4000, steps=1000))
    assert [line.partition(":")[0] for line in long] == ["Finetune", "Race", "Estimated"]
    assert long[0].startswith("Finetune: 1,000 steps of 8 examples on 3,488 training examples, evaluated on 512.")
    assert long[1].startswith("Race: freeze 7, freeze 15. ")
    likely, worst = shares(long)
    assert 3 <= likely <= 5 < worst
    by_quality = forecast_lines(run, ForecastRequest(n_rows=4000, steps=1000, objective=Objective(kind="quality")))
    assert by_quality[1].startswith("Race: train all layers, freeze 7, freeze 15. ")
    assert shares(by_quality)[0] > likely
    short = forecast_lines(run, ForecastRequest(n_rows=480, steps=300))
    assert short[1].startswith("No race: A race would take 15% of the compute of training every layer for 300 steps.")


@pytest.mark.parametrize(("coverage", "steps"), [(0.2, 600), (0.9, 350)])  # as docs/race.md has it
def test_a_race_pays_from_here_on(run, coverage, steps):
    def raced(n):
        rows = round(n * BATCH_SIZE / EPOCHS / (1 - HELD_OUT))  # so that a run of n steps makes the default passes
        return forecast_lines(checked(run, coverage), ForecastRequest(n_rows=rows, steps=n))[1].startswith("Race: ")

    assert raced(round(1.1 * steps))
    assert not raced(round(0.9 * steps))


def test_the_deep_variant_is_the_analysis_own_where_its_checks_know_the_completions(run):
    known = checked(run, 0.9)
    line = forecast_lines(known, ForecastRequest(n_rows=4000, steps=1000))[1]
    assert line.startswith("Race: freeze 7, freeze 19. ")


@pytest.mark.parametrize("n", [48, 200, 4000])
def test_as_many_rows_are_held_out_as_the_command_holds_out(run, n):
    rows = [Example((Segment(f"p{i}", False), Segment("c", True)), None, i) for i in range(n)]
    n_eval = len(held_out_rows("t.jsonl", rows, 0))
    (line, *_) = forecast_lines(run, ForecastRequest(n_rows=n, steps=300))
    assert f"on {n - n_eval:,} training examples, evaluated on {n_eval:,}." in line
    (line, *_) = forecast_lines(run, ForecastRequest(n_rows=n, n_eval=70, epochs=2))
    assert line.startswith(f"Finetune: {2 * -(-n // 8):,} steps of 8 examples on {n:,} training examples, ")
    assert "evaluated on 70." in line


def test_without_a_race_the_free_checks_decision_and_its_cost_are_told(run):
    lines = forecast_lines(run, ForecastRequest(n_rows=480, steps=100, options=TrainingOptions(batch_size=4)))
    plan = make_plan(run, rule="auto", setup=default_setup(run))
    assert lines[1] == "No race: The finetune has 100 steps; a race is made from 150 steps on. Free checks decide."
    assert lines[2].partition(".")[0] == plan.reasons[0].partition(".")[0]
    assert lines[-1].startswith("Estimated: ")
    with pytest.raises(InputError, match="--objective time needs a race"):
        forecast_lines(run, ForecastRequest(n_rows=480, steps=100, objective=Objective(kind="time", limit=60.0)))


def test_examples_are_cut_where_the_analysis_cut_them_unless_somebody_says_otherwise(run):
    long = replace(run, examples=run.examples.assign(n_tokens=1000))

    def memory(max_length):
        (line,) = (
            line
            for line in forecast_lines(long, ForecastRequest(n_rows=480, steps=300, max_length=max_length))
            if line.startswith("Estimated: ")
        )
        return float(re.search(r"([\d.]+) GiB", line)[1])

    assert memory(None) == memory(1000) > memory(512)


def test_a_memory_limit_leaves_what_fits_or_says_that_nothing_does(run):
    def within(gib):
        asked = Objective(kind="memory", limit=gib * 2**30)
        return forecast_lines(run, ForecastRequest(n_rows=480, steps=300, objective=asked))

    assert within(16)[1].startswith("Race: train all layers, freeze 7, freeze 15. ")
    peak = float(re.search(r"([\d.]+) GiB", within(16)[-1])[1])
    less = within(peak - 0.3)
    assert less[1].startswith("Race: train all layers, freeze 7, freeze 15. ")
    assert less[2].startswith("Micro-batches: the 8 examples of a step go through the model 4 at a time. All at once")
    assert float(re.search(r"([\d.]+) GiB", less[-1])[1]) < peak - 0.3
    tight = within(1.2)
    assert tight[2].startswith("12 of 30 is the smallest freeze depth within 1.2 GiB.")
    assert tight[-2].startswith("Micro-batches: the 8 examples of a step go through the model 1 at a time.")
    with pytest.raises(PlanError, match=r"^No freeze depth .* This is with 1 example at a time\.$"):
        within(0.1)
