"""A run's sentences and its layer table hold the record's own numbers."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from semfreeze_core.gains import fit_scaling_law
from semfreeze_core.plan.compare import side_by_side
from semfreeze_core.plan.make import curve_of
from semfreeze_core.plan.opinions import gather_opinions
from semfreeze_core.plan.slices import slices
from semfreeze_core.records.preview import ReadingForecast
from semfreeze_core.wording import comparison, rules, runs
from semfreeze_core.wording.numbers import interval


def test_layer_table_has_a_row_for_every_hidden_state(run):
    curve = curve_of(run, "semantic")
    table = runs.layer_table(curve)
    assert [row[0] for row in table.rows] == [str(s) for s in range(31)]
    first, last = table.dicts()[0], table.dicts()[-1]
    assert first["layer contribution"] == "not measured"  # a tied head
    assert last["layer contribution"] == ""
    assert table.dicts()[19]["R(k)"] == interval(curve.coverage.at(19), 2) == "0.95 [0.94, 0.95]"
    bars = runs.coverage_bars(curve)
    assert (bars[0], bars[19], bars[30]) == ("▇" * 10, "▇" * 9, "")


def test_evidence_check_is_passed_or_failed():
    assert runs.evidence_check("evidence") == "Evidence check: passed"
    assert runs.evidence_check("no evidence") == "Evidence check: failed"


def test_model_sentence_may_name_the_data_otherwise(run):
    assert runs.model_sentence(run.manifest) == (
        "embedded (LlamaForCausalLM, 30 layers, 135 million parameters), analyzed on 256 of 700 examples of "
        "sample:sentence_to_json_train."
    )
    assert runs.model_sentence(run.manifest, "mine.jsonl").endswith("of mine.jsonl.")


def test_contribution_sentence_at_both_ends_and_between(run):
    curve = curve_of(run, "semantic")
    assert runs.contribution_sentence(curve, 19) == (
        "Layers 19–29 (trained) account for 95% of the measured layer contributions (95% CI 94–95%)."
    )
    assert runs.contribution_sentence(curve, 0).startswith("All 30 layers train.")
    assert runs.contribution_sentence(curve, 30).startswith("All 30 layers are frozen")


def test_distance_and_law_hold_the_curves_numbers(run):
    curve = curve_of(run, "semantic")
    assert runs.distance_sentence(run.display, curve, 19).startswith(
        "Distance to the target token falls from 0.98 to 0.77 across the layers (0.97 at freeze depth 19)."
    )
    assert runs.scaling_law_sentence(curve) == (
        "Scaling law: lift over random labels is flat up to hidden state 19.2 (95% CI 18.8–19.2), then rises as a "
        "power law of the depth, exponent -1.71 (95% CI -1.79 to -1.02); R² 0.99 over 30 hidden states, 256 examples. "
        "Turning depth: 19 (95% CI 19–19). Every layer before it contributes less than the average layer."
    )


def test_scaling_law_sentence_where_it_rises_at_once_and_where_none_fits(run):
    curve = curve_of(run, "semantic")
    steady = fit_scaling_law(np.linspace(0, 1, 31), np.tile(np.linspace(0, 1, 31), (9, 1)), 0)
    sentence = runs.scaling_law_sentence(replace(curve, law=steady))
    assert "lift over random labels rises from the first layer on as a power law of the depth, exponent 1.0" in sentence
    assert "Turning depth: 0 (95% CI 0–0). The first layers contribute no less than the average layer." in sentence
    flat = fit_scaling_law(np.zeros(31), np.zeros((9, 31)), 1)
    assert runs.scaling_law_sentence(replace(curve, law=flat)) == (
        "No scaling law fits: lift over random labels does not rise through the layers."
    )


def test_opinion_table_has_every_rule_and_score_once(run):
    opinions = gather_opinions(run)
    table = rules.opinion_table(opinions)
    named = [(row["method"], row["kind"]) for row in table.dicts()]
    assert named == [(name, "rule") for name in opinions.rules] + [
        (name.replace("_", " "), "score") for name in opinions.scores
    ]
    assert table.dicts()[0]["recommendation"] == "freeze 19"
    assert len(rules.opinion_reasons(opinions)) == len(named)
    assert rules.WHY not in [column.title for column in table.without(rules.WHY).columns]


def test_recommendation_sentence_tells_a_depth_of_ones_own_from_the_rules(run):
    opinions = gather_opinions(run).rules
    assert rules.recommendation_sentence(opinions, "coverage", 19).startswith("The coverage rule recommends this depth")
    assert "You chose this depth; the coverage rule recommends 19" in (
        rules.recommendation_sentence(opinions, "coverage", 7)
    )


def test_slices_name_the_groups_that_a_depth_does_not_fit(run):
    groups, left_out = slices(run, "semantic", "prompt length")
    names = ", ".join(group.name for group in groups)
    assert f"fewer layers for {names}." in rules.slices_sentence(groups, 30, left_out)
    assert rules.slices_sentence(groups, 0, 2).endswith(
        "2 more groups are too small or too many to analyze on their own."
    )
    assert rules.slices_sentence([], 3, 0).startswith("No group has enough examples")
    assert rules.slices_table(groups, "group", 30).dicts()[0]["depth 30 fits"] == "deeper than the rule selects"


def test_runs_that_are_the_same_do_not_differ(run, validation):
    compared = side_by_side({"one": run, "two": run})
    assert comparison.depths_sentence(compared) == (
        "Recommended frozen layers: 19 of 30 (one), 19 of 30 (two). The recommendations agree within 10% of the layers."
    )
    rows = comparison.comparison_table(compared, {"one": {"mine": validation}}).dicts()
    assert [row["validated"] for row in rows] == [
        "depth 19: 100% [99, 101] same steps (pass), 100% [100, 101] same compute (pass)",
        "not yet",
    ]
    difference = compared.differences["two"]["advantage"]
    sentence = comparison.difference_sentence("two", "one", "advantage", difference)
    assert sentence.startswith(
        "Lift over random labels of two minus that of one (same examples, paired): no significant"
    )


def test_memory_sentence_of_what_fits_gives_no_advice():
    memory = SimpleNamespace(
        parameters=10**9, dtype="float32", device="cpu", model_bytes=2**30, states_bytes=2**28, process_bytes=0,
        free_bytes=2**33, needed_bytes=2**30 + 2**28, fits=True, placement=None, reading=None,
    )  # fmt: skip
    assert runs.memory_sentence(memory).endswith("8.0 GiB are free on cpu.")


@pytest.mark.parametrize(
    ("reading", "sentence"),
    [
        (
            ReadingForecast(8, "memory", 2**30),
            "Each layer comes in once for all of about 8 batches; meanwhile the hidden states between two layers, "
            "about 1.0 GiB, are kept in the machine's memory.",
        ),
        (
            ReadingForecast(8, "file", 2**30),
            "Each layer comes in once for all of about 8 batches; meanwhile the hidden states between two layers, "
            "about 1.0 GiB, are kept in a temporary file (TMPDIR).",
        ),
        (
            ReadingForecast(8, None, 2**30),
            "Each of about 8 batches brings these layers in again: the hidden states between two layers, about 1.0 "
            "GiB, have no room in the machine's memory or in the folder for temporary files (TMPDIR).",
        ),
        (ReadingForecast(1, None, 2**30), "All examples fit into one batch, so each layer comes in once."),
    ],
)
def test_reading_sentence_says_how_often_layers_come_in(reading, sentence):
    assert runs.reading_sentence(reading) == sentence
