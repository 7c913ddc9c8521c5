"""`semfreeze plan --compare`: every rule and score side by side, agreeing with what each says alone."""

import pytest

from tests.core.cli.terminal import ask
from tests.core.cli.test_cli_analyze import unexplained

OPINION = {
    "freeze_depth",
    "candidate_depth",
    "gain_coverage",
    "relative_flop",
    "relative_bytes",
    "recommendation",
    "reasons",
}
SCORES = ["block_influence", "variability", "spectrum", "depth_prior"]


@pytest.fixture(params=["tied", "untied", "gpt2"])
def family(request, stored):
    return stored(request.param)


def test_compare_has_every_key(family):
    document = ask("plan", family, "--compare", "--json").json
    assert list(document["rules"]) == ["coverage", "paper", "compute", "turning", "auto"]
    assert list(document["scores"]) == SCORES
    for opinion in document["rules"].values():
        assert opinion.keys() == OPINION
    for opinion in document["scores"].values():
        assert opinion.keys() == OPINION | {"sample"}
        assert opinion["sample"]
    assert document["agreement"].keys() == {"low", "high", "words"}
    assert document["n_layers"] == 4
    assert unexplained(document) == []


def test_compare_gives_no_null_without_a_reason(family):
    document = ask("plan", family, "--compare", "--json").json
    for opinion in (*document["rules"].values(), *document["scores"].values()):
        assert opinion["reasons"]
        assert all(opinion["reasons"])


@pytest.mark.parametrize("rule", ["coverage", "paper", "compute", "turning", "auto"])
def test_compare_says_what_plan_says(rule):
    opinion = ask("plan", "example", "--compare", "--json").json["rules"][rule]
    plan = ask("plan", "example", "--rule", rule, "--json").json
    for key in ("freeze_depth", "candidate_depth", "gain_coverage", "recommendation", "reasons"):
        assert opinion[key] == plan[key]
    for key in ("relative_flop", "relative_bytes"):
        assert opinion[key] == plan["cost"]["planned"][key]


def test_compare_says_of_scores_what_show_says():
    compared, shown = ask("plan", "example", "--compare", "--json").json, ask("show", "example", "--json").json
    assert list(compared["scores"]) == list(shown["scores"])
    for name, opinion in compared["scores"].items():
        for bound, key in (("estimate", "mean"), ("low", "low"), ("high", "high")):
            band = shown["scores"][name]["gain_coverage"]
            assert opinion["gain_coverage"][bound] == band[key][opinion["candidate_depth"]]
        assert opinion["sample"] == shown["scores"][name]["sample"]


def test_compare_adds_a_depth_and_a_budget(stored):
    flags = ("--compare", "--depth", 1, "--max-cost-fraction", 0.9, "--json")
    document = ask("plan", stored("untied"), *flags).json
    assert list(document["rules"]) == ["coverage", "paper", "compute", "turning", "auto", "budget", "manual"]
    assert document["rules"]["manual"]["freeze_depth"] == 1
    assert document["rules"]["budget"]["relative_flop"] <= 0.9


def test_compare_recommends_nothing_on_a_random_model(stored):
    document = ask("plan", stored("untied"), "--compare", "--json").json
    for opinion in (*document["rules"].values(), *document["scores"].values()):
        assert opinion["recommendation"] == "abstain"
        assert opinion["freeze_depth"] is None
    report = ask("plan", "untied", "--compare").out
    rows = [line for line in report.splitlines() if line.startswith(" ")]
    table = [line.split() for line in rows if {"rule", "score"} & set(line.split()[1:3])]
    assert len(table) == len(document["rules"]) + len(document["scores"])
    assert not any("freeze" in cells for cells in table)


def test_compare_prints_a_line_for_each():
    report = ask("plan", "example", "--compare").out
    assert report.lstrip().startswith("Selected depths range from")
    for name in ("coverage", "paper", "compute", "turning", "auto", *SCORES):
        shown = name.replace("_", " ")
        assert any(line.startswith(f" {shown} ") for line in report.splitlines())
        assert f"\n{shown}" in report
    assert "variability (on 256 examples in 5 classes, at their first supervised token)" in report
    assert "full finetuning" in report


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--rule", "paper"], "--compare asks every rule and writes no plan: leave --rule out."),
        (["--out", "plan.json"], "leave --out out."),
        (["--rule", "paper", "--out", "plan.json"], "leave --rule and --out out."),
        (
            ["--tau", "2", "--depth", "9"],
            "tau must be in (0, 1], found 2; --depth must be in 0..4 for this model, found 9",
        ),
        (["--metric", "lens_loss"], "chooses no depth"),
    ],
)
def test_compare_refuses_what_contradicts_it(stored, flags, message):
    assert message in ask("plan", stored("untied"), "--compare", *flags).refusal


def test_compare_shows_a_budget_that_nothing_fits(stored):
    budget = ask("plan", stored("untied"), "--compare", "--max-cost-fraction", 0.01, "--json").json["rules"]["budget"]
    assert budget["candidate_depth"] is None
    assert budget["relative_flop"] is None
    assert budget["gain_coverage"] == {"estimate": None, "low": None, "high": None}
    assert budget["reasons"][0].startswith("No freeze depth up to 3 fits within 1% of")


def outside(value, path=""):
    """Where in a document an estimate lies outside its own interval."""
    if isinstance(value, list):
        return [problem for index, item in enumerate(value) for problem in outside(item, f"{path}[{index}]")]
    if not isinstance(value, dict):
        return []
    wrong = [problem for name, item in value.items() for problem in outside(item, f"{path}.{name}")]
    estimates = value.get("estimate", value.get("mean"))
    if estimates is None or "low" not in value:
        return wrong
    columns = (estimates, value["low"], value["high"])
    rows = zip(*columns, strict=True) if isinstance(estimates, list) else [columns]
    return wrong + [
        f"{path}: {row}" for row in rows if None not in row and not row[1] - 1e-9 <= row[0] <= row[2] + 1e-9
    ]


@pytest.mark.parametrize("metric", ["semantic", "logit_z"])
@pytest.mark.parametrize("run", ["tied", "untied", "gpt2", "example"])
def test_no_document_has_an_estimate_outside_its_interval(stored, run, metric):
    run = run if run == "example" else stored(run)
    documents = {
        command: ask(*command.split(), run, "--metric", metric, "--json").json
        for command in ("plan --compare", "plan", "show")
    }
    assert {"rules", "scores"} <= documents["plan --compare"].keys()
    assert [problem for command, document in documents.items() for problem in outside(document, command)] == []


def test_an_estimate_outside_its_interval_is_found():
    assert outside({"a": [{"estimate": 0.82, "low": 0.58, "high": 0.81}]}) == [".a[0]: (0.82, 0.58, 0.81)"]
    assert outside({"mean": [1.0, 2.0, None], "low": [0.5, 2.5, None], "high": [1.5, 3.0, None]}) == [
        ": (2.0, 2.5, 3.0)"
    ]
