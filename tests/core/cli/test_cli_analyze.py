"""`semfreeze analyze` and `show`: every key promised, with the right length, and no null without its reason."""

import json
import shlex

import numpy as np
import pytest

from semfreeze_core.runs.folder import read_manifest
from semfreeze_core.runs.store import run_names
from semfreeze_core.semantics import scores
from semfreeze_core.workflow import analysis as steps
from semfreeze_core.workflow import projection
from tests.core.cli.refusals import fail
from tests.core.cli.terminal import ask
from tests.core.runs.tiny_run import task_rows

BAND = ("mean", "low", "high")
INTERVAL = ("estimate", "low", "high")
MEASURED = {*BAND, *INTERVAL, "fitted", "residuals", "r_squared"}


def numbers(values):
    return np.array(values, dtype=float)  # null becomes NaN


@pytest.fixture(params=["tied", "untied", "gpt2"])
def family(request):
    return request.param


@pytest.fixture
def document(family, stored):
    return ask("show", stored(family), "--json").json


@pytest.mark.quick_cases(3)
def test_show_has_every_key_with_its_length(document):
    layers = document["n_layers"]
    assert layers == 4
    assert document["n_examples"] == 48
    assert document["metric"] == "semantic"
    for metric in ("semantic", "logit_z"):
        for key in ("deviation", "null", "advantage"):
            assert [len(document[key][metric][bound]) for bound in BAND] == [layers + 1] * 3
    assert [len(document["gain"][bound]) for bound in BAND] == [layers] * 3
    assert [len(document["gain_coverage"][bound]) for bound in BAND] == [layers + 1] * 3
    assert all(isinstance(document["task_null"][bound], float) for bound in INTERVAL)
    assert document["evidence"]["verdict"] in ("evidence", "no evidence")
    assert document["evidence"]["reasons"]
    for key in ("seconds", "tokens", "tokens_per_second", "peak_bytes"):
        assert document["extraction"][key] > 0
    assert document["n_supervised_tokens"] == document["data"]["n_supervised_tokens"] > 48


def test_show_keys_agree_with_each_other(document):
    for metric in ("semantic", "logit_z"):
        deviation, null, advantage = (numbers(document[k][metric]["mean"]) for k in ("deviation", "null", "advantage"))
        np.testing.assert_allclose(advantage, null - deviation, atol=1e-6)
        assert (deviation >= 0).all()
        assert (deviation <= 2).all()
    advantage = numbers(document["advantage"]["semantic"]["mean"])
    gain = numbers(document["gain"]["mean"])
    measured = np.isfinite(gain)
    np.testing.assert_allclose(gain[measured], np.diff(advantage)[measured], atol=1e-6)
    raw = numbers(document["raw_gain"]["mean"])
    np.testing.assert_allclose(raw, -np.diff(numbers(document["deviation"]["semantic"]["mean"])), atol=1e-6)
    for key in ("deviation", "null", "advantage"):
        low, mean, high = (numbers(document[key]["semantic"][bound]) for bound in ("low", "mean", "high"))
        assert (low <= mean).all()
        assert (mean <= high).all()
    took = document["extraction"]
    assert took["tokens_per_second"] == pytest.approx(took["tokens"] / took["seconds"])


def test_show_gives_a_coverage_that_falls_from_1_to_0_or_says_why_not(document, family):
    coverage = document["gain_coverage"]
    if family == "gpt2":  # this one's advantage only falls
        assert set(coverage["mean"]) == {None}
        assert coverage["reason"] == "the advantage rises nowhere, so no share of it exists"
        return
    assert coverage["reason"] is None
    for bound in BAND:
        assert coverage[bound][0] == 1
        assert coverage[bound][-1] == 0
        assert (np.diff(coverage[bound]) <= 0).all()
    if family == "tied":
        assert coverage["mean"][1] == 1  # layer 0 is not measured


def test_show_has_every_score_with_its_length(document):
    assert list(document["scores"]) == ["block_influence", "variability", "spectrum", "depth_prior"]
    for name, score in document["scores"].items():
        assert score.keys() == {"gain_coverage", "values", "sample", "reason"}
        assert len(score["values"]) == 4
        assert [len(score["gain_coverage"][bound]) for bound in BAND] == [5] * 3
        assert score["gain_coverage"]["mean"][0] == 1
        assert score["sample"]
        drawn = name in ("block_influence", "variability")
        assert (score["reason"] is None) == drawn
        assert (score["gain_coverage"]["low"][0] is None) != drawn
    assert document["scores"]["depth_prior"]["gain_coverage"]["mean"] == [1, 0.75, 0.5, 0.25, 0]


def test_show_prints_which_scores_there_are(stored):
    assert "Other layer scores: block_influence, variability, spectrum, depth_prior" in ask("show", stored("tied")).out


def test_show_says_which_scores_are_not_measured_and_why(analyze, rows_file):
    rows = [{"prompt": r["prompt"], "completion": r["completion"]} for r in task_rows()]
    report = analyze(data=rows_file(rows)).out
    assert "Other layer scores: block_influence, spectrum, depth_prior" in report
    assert "variability was not measured: it needs two classes of at least two examples each" in report


def test_show_leaves_the_first_gain_of_a_tied_model_out_and_says_why(document, family):
    gain = document["gain"]
    if family == "untied":
        assert gain["mean"][0] is not None
        assert gain["reason"] is None
    else:
        assert [gain[bound][0] for bound in BAND] == [None] * 3
        assert "tied head" in gain["reason"]
        assert "tied head" in document["isotonic"]["reason"]


def unexplained(value, explained=False, path=""):
    """Places of measured nulls that no reason stands beside."""
    if isinstance(value, dict):
        explained = explained or bool(value.get("reason")) or bool(value.get("reasons"))
        paths = []
        for key, inner in value.items():
            if key in MEASURED and not explained and has_null(inner):
                paths.append(f"{path}.{key}")
            paths += unexplained(inner, explained, f"{path}.{key}")
        return paths
    return []


def has_null(value):
    return value is None or (isinstance(value, list) and any(has_null(v) for v in value))


ODD_TASKS = {
    "ordinary": ([], task_rows()),
    "plain text": (["--text-field", "text"], [{"text": r["prompt"] + r["completion"]} for r in task_rows()]),
    "one label": (["--no-eos"], task_rows(labels=("card",))),
    "one token": (
        ["--no-eos"],
        [{"prompt": r["prompt"], "completion": "abcdef"[i % 6]} for i, r in enumerate(task_rows())],
    ),
    "one token, all the same": (["--no-eos"], [{"prompt": r["prompt"], "completion": "a"} for r in task_rows()]),
    "three examples": (["--allow-few"], task_rows(3)),
    "one example": (["--allow-few"], task_rows(1)),
}


@pytest.fixture
def odd_document(analyze, models, rows_file):
    """What analyze says of an odd task."""

    def read(task_name, model="untied"):
        flags, rows = ODD_TASKS[task_name]
        return analyze("--json", *flags, model=models / model, data=rows_file(rows)).json

    return read


@pytest.mark.quick_cases(4)
@pytest.mark.parametrize(
    ("task_name", "model"),
    [
        ("ordinary", "tied"),
        ("ordinary", "untied"),
        ("plain text", "tied"),
        ("one label", "untied"),
        ("one token", "tied"),
        ("one token, all the same", "tied"),
        ("three examples", "untied"),
        ("one example", "tied"),
    ],
)
def test_analyze_gives_no_null_without_a_reason(odd_document, task_name, model):
    assert unexplained(odd_document(task_name, model)) == []


def test_analyze_says_that_the_task_null_of_plain_text_is_undefined(odd_document):
    document = odd_document("plain text")
    assert unexplained(document) == []
    assert [document["task_null"][bound] for bound in INTERVAL] == [None] * 3
    assert "have a prompt that could be given another example's completion" in document["task_null"]["reason"]
    assert document["evidence"]["verdict"] == "no evidence"
    assert any(
        "swapped-completion control could not be computed" in reason for reason in document["evidence"]["reasons"]
    )


def test_analyze_says_that_a_single_label_can_show_nothing(odd_document):
    document = odd_document("one token, all the same")
    assert unexplained(document) == []
    assert set(document["gain_coverage"]["mean"]) == {None}
    assert document["gain_coverage"]["reason"] == "the advantage rises nowhere, so no share of it exists"
    assert document["isotonic"]["r_squared"] is None
    assert document["isotonic"]["reason"]
    assert document["later_tokens"]["semantic"]["n_examples"] == 0
    assert document["later_tokens"]["semantic"]["reason"] == "no example has such a token"
    assert any("All target labels are identical" in reason for reason in document["evidence"]["reasons"])


def test_analyze_and_show_print_the_same_document(analyze):
    first = analyze("--out", "one", "--json")
    assert ask("show", "one", "--json").json == first.json


@pytest.mark.usefixtures("read_already")
def test_analyze_names_a_run_after_model_and_data(analyze):
    for expected in ("untied-task", "untied-task-2"):
        answer = analyze()
        assert answer.code == 0
        assert expected in run_names()
        assert answer.out.splitlines()[-1] == f"Next: semfreeze plan {expected}"


def test_analyze_finds_a_free_name_when_another_analysis_took_it(analyze, stored, home, monkeypatch):
    real = steps.read_traces

    def read_while_another_finishes(*args, **kwargs):
        (home / "runs" / "untied-task").mkdir(parents=True, exist_ok=True)
        return real(*args, **kwargs)

    monkeypatch.setattr(steps, "read_traces", read_while_another_finishes)
    assert analyze().code == 0
    assert run_names() == ["untied-task", "untied-task-2"]


@pytest.mark.usefixtures("read_already")
@pytest.mark.parametrize("out", ["./run", "deep/er/run", "two words/run"])
def test_analyze_writes_to_a_path(analyze, tmp_path, out):
    answer = analyze("--out", out)
    assert (tmp_path / "here" / out / "manifest.json").exists()
    assert run_names() == []
    quoted = f"'{out}'" if " " in out else out
    assert answer.out.splitlines()[-1] == f"Next: semfreeze plan {quoted}"
    assert ask("show", out, "--json").json["run"] == str(tmp_path / "here" / out).removeprefix(f"{tmp_path}/here/")


def test_show_prints_a_line_for_every_space(document, family):
    report = ask("show", family).out
    assert f"{document['model']['identity']['architecture']}, 4 layers" in report
    passed = document["evidence"]["verdict"] == "evidence"
    assert f"Evidence check: {'passed' if passed else 'failed'}" in report
    assert ("not measured" in report) == (family != "untied")
    rows = [line.split() for line in report.splitlines() if line.strip()[:1].isdigit() and "[" in line]
    assert [int(row[0]) for row in rows] == [0, 1, 2, 3, 4]
    assert [row[1] for row in rows] == [f"{value:.3f}" for value in document["deviation"]["semantic"]["mean"]]


def test_show_prints_the_metric_asked_for(stored):
    stored("tied")
    assert "semantic distance to the target token" in ask("show", "tied").out
    assert "logit_z distance to the target token" in ask("show", "tied", "--metric", "logit_z").out
    semantic, logit_z = (ask("show", "tied", "--metric", m, "--json").json for m in ("semantic", "logit_z"))
    assert semantic["deviation"] == logit_z["deviation"]
    assert semantic["gain"] != logit_z["gain"]
    assert logit_z["metric"] == "logit_z"


@pytest.mark.parametrize("name", ["[red]a[bold]", "-dash [a]", "naïve 日本 🎉 a\\[b]"])
def test_analyze_shows_names_as_they_are(analyze, rows_file, name):
    answer = analyze("--out", "one", data=rows_file(task_rows(), f"{name}.jsonl"))
    assert answer.code == 0
    assert f"{name}.jsonl" in answer.out.replace("\n", "")


@pytest.mark.parametrize("field", ["[/bold]", "{a} [/] 日本"])
def test_analyze_shows_fields_as_they_are(analyze, rows_file, field):
    rows = [{"question": r["prompt"], "answer": r["completion"], field: "x"} for r in task_rows()]
    answer = analyze("--label-field", field, data=rows_file(rows))
    assert answer.code == 0
    shown = ask("analyze", "--model", "x", "--data", rows_file(rows), "--text-field", "absent").refusal
    assert f"Columns found: question, answer, {field}." in shown


def test_analyze_tells_its_progress_on_stderr_only(models, task):
    answer = ask("analyze", "--model", models / "untied", "--data", task, "--dtype", "float32", "--json")
    assert answer.err.splitlines() == [
        "Loading the model",
        "Verifying the model's parts",
        "Checking rows",
        "Encoding examples",
        "Solving for the semantic bases",
        "Extracting hidden states",
        "Analyzing swapped completions",
        "The plan is ready",
        "  No recommendation from the auto rule. Its formula alone selects depth 1.",
        "Projecting the display sample",
        "Computing the weights' spectrum",
    ]
    assert answer.json["n_examples"] == 48


@pytest.fixture
def stopped(analyze, monkeypatch):
    """Runs `analyze` and ends it, as Ctrl-C does, when it begins with the spectrum; returns what was printed."""

    def stop(*args):
        with monkeypatch.context() as patch:
            patch.setattr(scores, "spectrum_score", fail(KeyboardInterrupt()))
            return analyze(*args)

    return stop


@pytest.mark.quick_cases(2)
@pytest.mark.parametrize("out", [[], ["--out", "mine"]], ids=["unnamed", "named"])
def test_the_same_command_again_adds_what_an_interrupted_one_lacks(analyze, stopped, monkeypatch, home, out):
    answer = stopped(*out)
    (name,) = run_names()
    folder = home / "runs" / name
    saved = f"The run in {folder} is whole and ready for a plan. Not computed: spectrum. Run the same command again"
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(saved)
    assert ask("plan", name).code == 0
    monkeypatch.setattr(steps, "read_traces", fail(AssertionError("it is read again")))
    document = analyze("--json", *out).json
    assert (document["run"], document["scores_to_come"]) == (str(folder), [])
    assert document["scores"]["spectrum"]["values"]
    assert run_names() == [name]
    assert ask("show", name, "--json").json == document
    assert "already exists" in analyze("--out", name).refusal


def test_the_same_command_again_adds_a_projection_that_an_interrupted_one_lacks(analyze, monkeypatch, home):
    with monkeypatch.context() as patch:
        patch.setattr(projection, "project_display", fail(KeyboardInterrupt()))
        answer = analyze("--out", "mine")
    assert answer.code == 2
    saved = f"The run in {home / 'runs' / 'mine'} is whole and ready for a plan. Not computed: "
    assert answer.err.startswith(f"{saved}projection of hidden states and spectrum. Run the same command again")
    assert ask("plan", "mine").code == 0
    assert ask("show", "mine", "--json").json["projection_to_come"]
    refusal = ask("umap", "mine").refusal
    assert refusal.startswith("Not computed yet: projection of hidden states. The plan does not depend on this. To ")
    whole = analyze("--out", "other", "--json").json
    document = analyze("--out", "mine", "--json").json
    assert [document[name] for name in ("projection_to_come", "scores_to_come")] == [False, []]
    assert document["scores"] == whole["scores"]
    assert read_manifest(home / "runs" / "mine").files == read_manifest(home / "runs" / "other").files


def test_overwrite_analyzes_again_what_lacks_scores(analyze, stopped, monkeypatch):
    stopped("--out", "mine")
    monkeypatch.setattr(steps, "read_traces", fail(ZeroDivisionError("it is read again")))
    with pytest.raises(ZeroDivisionError):
        analyze("--out", "mine", "--overwrite")


def test_an_unfinished_run_of_other_data_is_no_ones_but_its_own(analyze, stopped, rows_file):
    stopped("--out", "mine")
    assert "already exists" in analyze("--out", "mine", data=rows_file(task_rows(40))).refusal
    assert ask("show", "mine", "--json").json["scores_to_come"] == ["spectrum"]


def test_show_and_compare_report_a_score_to_come_without_a_number(stopped):
    stopped("--out", "mine")
    report = " ".join(ask("show", "mine").out.split())
    assert "Not computed yet: spectrum. The plan does not depend on this. To compute it, run `semfreeze" in report
    document = ask("show", "mine", "--json").json
    assert document["scores_to_come"] == ["spectrum"]
    assert "spectrum" not in document["scores"]
    compared = ask("plan", "mine", "--compare", "--json").json["scores"]["spectrum"]
    assert compared["reasons"] == ["Not computed yet."]
    assert [compared["candidate_depth"], compared["freeze_depth"], compared["gain_coverage"]["estimate"]] == [None] * 3
    assert "spectrum: Not computed yet." in ask("plan", "mine", "--compare").out


def test_the_command_that_show_names_adds_the_score(stopped):
    stopped("--out", "mine", "--seed", "3", "--no-eos", "--examples", "40", "--prompt-field", "prompt")
    printed = " ".join(ask("show", "mine").out.split())
    arguments = shlex.split(printed.split("`semfreeze analyze ")[-1].split("`")[0])
    assert "--out=mine" in arguments or any(word.endswith("runs/mine") for word in arguments)
    answer = ask("analyze", *arguments, "--device", "cpu", "-q", "--json")
    assert answer.json["scores_to_come"] == []
    assert run_names() == ["mine"]


def test_analyze_prints_the_plan_with_the_run(analyze):
    lines = analyze("--out", "one").out.splitlines()
    assert lines[-2:] == [ask("plan", "one").out.strip().splitlines()[0], "Next: semfreeze plan one"]


def test_analyze_is_silent_when_quiet(analyze):
    assert analyze().err == ""
    assert analyze("--json").err == ""


def test_analyze_reads_data_of_every_format(analyze, rows_file, tmp_path):
    import pandas as pd

    rows = task_rows()
    table = pd.DataFrame(rows)
    files = [rows_file(rows)]
    for suffix, write in (  # each way to read; tests/core/sources/data/test_rows.py has every extension
        (".tsv", lambda p: table.to_csv(p, index=False, sep="\t")),
        (".parquet", table.to_parquet),
        (".json", lambda p: p.write_text(json.dumps(rows))),
    ):
        files.append(tmp_path / f"rows{suffix}")
        write(files[-1])
    documents = [analyze("--json", data=file).json for file in files]
    assert {document["data"]["tokens_digest"] for document in documents} == {documents[0]["data"]["tokens_digest"]}
    assert all(document["deviation"] == documents[0]["deviation"] for document in documents)


def test_analyze_takes_numbers_as_labels(analyze, rows_file):
    rows = [row | {"label": i % 3} for i, row in enumerate(task_rows())]
    document = analyze("--json", data=rows_file(rows)).json
    assert document["data"]["n_labels"] == 3


def test_analyze_reads_a_gguf_file(analyze, tmp_path):
    from tests.core.saved_models import save_tiny_gguf

    save_tiny_gguf(tmp_path / "tiny.gguf")
    document = analyze("--json", model=tmp_path / "tiny.gguf").json
    assert document["n_layers"] == 4
    assert document["model"]["identity"]["source"].endswith("tiny.gguf")


def test_analyze_reads_the_model_through_a_link(analyze, models, tmp_path):
    (tmp_path / "link").symlink_to(models / "untied")
    assert analyze("--json", model=tmp_path / "link").json["n_layers"] == 4
