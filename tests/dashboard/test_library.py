"""The Library page: runs beside the open one, predicted against measured, and the folder's runs kept in order."""

import json
import shutil

import numpy as np
import pytest

from semfreeze_core.plan.compare import side_by_side
from semfreeze_core.records.prediction_error import PredictedMeasured
from semfreeze_core.runs.folder import MANIFEST
from semfreeze_core.runs.job_folder import this_process
from semfreeze_core.runs.store import example_run, read_note
from semfreeze_core.wording.calibration import BUNDLED_CALIBRATION
from semfreeze_dashboard.charts import compared
from semfreeze_dashboard.data.run_folder import DEMO_VARIABLE
from semfreeze_dashboard.text import page_text
from tests.core.runs.left_job import put
from tests.dashboard.test_pages import html_of, opened, sentence


@pytest.fixture
def three(doubtful, runs):
    """The doubtful run, and the shipped one twice more under other names."""
    for name in ("one", "two"):
        shutil.copytree(example_run(), runs / name)
    return runs


def together(names, **query):
    app = opened("library", **query)
    return app.multiselect(key="with").set_value(names).run()


def test_alone_the_page_says_how_to_go_on(three):
    app = opened("library")
    assert sentence(app) == "Compare example with other runs."
    assert [info.value for info in app.info] == [page_text.COMPARE_WITH]
    assert app.multiselect(key="with").options == ["doubtful", "one", "two"]


def test_without_another_run_it_says_how_to_make_one(runs):
    app = opened("library")
    assert {page_text.NOTHING_TO_COMPARE, page_text.NO_RUNS, page_text.NO_FINETUNES} <= {
        info.value for info in app.info
    }
    assert "Same steps: 100%" in html_of(app), "its own validation"


def test_where_nothing_of_ones_own_is_measured_the_examples_calibration_stands_and_says_whose_it_is(runs):
    app = opened("library")
    assert page_text.NO_FINETUNES in {info.value for info in app.info}
    assert BUNDLED_CALIBRATION in {text.value for text in app.markdown}
    assert any("from 2 finetunes of the bundled example" in caption.value for caption in app.caption)
    assert len(app.get("plotly_chart")) == 1


def test_a_damaged_report_is_named_though_nothing_else_is_measured(runs):
    shutil.copytree(example_run(), runs / "one")
    shutil.rmtree(runs / "one" / "sweeps")
    (report,) = (runs / "one" / "validations").glob("*/report.json")
    report.write_text("{")
    app = opened("library")
    assert any("report.json" in warning.value for warning in app.warning)
    assert page_text.NO_FINETUNES in {info.value for info in app.info}


def test_runs_side_by_side_are_told_and_drawn(three, example):
    app = together(["one", "doubtful"])
    comparison = side_by_side({"example": example.run, "one": example.run})
    depth = comparison.columns[0].opinion.freeze_depth
    assert sentence(app).startswith(f"Recommended frozen layers: {depth} of 30 (example), {depth} of 30 (one), ")
    table = app.dataframe[0].value.set_index("run")
    assert table["frozen layers"].to_dict() == {"example": str(depth), "one": str(depth), "doubtful": "none"}
    assert "100% [100, 101] same compute (pass)" in table["validated"]["example"]
    assert any("No evidence" in warning.value and "doubtful" in warning.value for warning in app.warning)
    differences = [m.value for m in app.markdown if m.value.startswith("Coverage R(k) of one minus")]
    assert "no significant difference" in differences[0]
    assert len(app.get("plotly_chart")) == 4  # of which one is the calibration
    app.segmented_control(key="difference").set_value("advantage").run()
    assert any(m.value.startswith("Lift over random labels of one minus that of example") for m in app.markdown)


def test_a_run_that_is_damaged_is_told_and_the_page_stays(three):
    manifest = three / "one" / MANIFEST
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"schema_version": 99}))
    app = together(["one"])
    assert len(app.error) == 1
    assert "newer" in app.error[0].value
    assert not app.exception


def test_a_demonstration_compares_nothing_and_touches_nothing(three, monkeypatch):
    monkeypatch.setenv(DEMO_VARIABLE, "1")
    app = opened("library")
    assert [info.value for info in app.info] == [page_text.NOTHING_TO_COMPARE]
    assert not app.button
    assert not app.text_input


def picked(app, row):
    """The page after a click on a row of the runs, which AppTest has no gesture for."""
    app.session_state["kept runs"] = {"selection": {"rows": [row], "columns": [], "cells": []}}
    return app.run()


def button(app, label):
    return next(widget for widget in app.button if widget.label == label)


def test_runs_are_annotated_renamed_and_deleted(three):
    app = picked(opened("library"), 1)
    app.text_input(key="note of one").set_value("tried on Tuesday").run()
    button(app, "Keep the note").click().run()
    assert read_note(three / "one") == "tried on Tuesday"
    app = picked(opened("library"), 1)
    app.text_input(key="name of one").set_value("first").run()
    button(app, "Rename").click().run()
    assert not (three / "one").exists()
    assert read_note(three / "first") == "tried on Tuesday"
    app = picked(opened("library"), 1)
    button(app, "Delete for good").click().run()
    assert sorted(path.name for path in three.iterdir() if path.is_dir()) == ["doubtful", "two"]


@pytest.mark.quick_cases(3)
@pytest.mark.parametrize("name", ["../two", "two", "", "a/b", "example"])
def test_names_that_cannot_be_are_refused_and_nothing_is_lost(three, name):
    app = picked(opened("library"), 1)
    app.text_input(key="name of one").set_value(name).run()
    button(app, "Rename").click().run()
    assert len(app.error) == 1
    assert (three / "one" / MANIFEST).exists()
    assert (three / "two" / MANIFEST).exists()


def test_a_run_under_a_job_stays(three):
    put(three, "7", this_process(2.0), out=str(three / "one" / "validations" / "x"))
    app = picked(opened("library"), 1)
    button(app, "Delete for good").click().run()
    assert any("one is in use" in error.value for error in app.error)
    assert (three / "one" / MANIFEST).exists()


def test_runs_are_sought_by_every_word(three):
    app = opened("library")
    app.text_input(key="form runs sought").set_value("ON").run()
    assert list(app.dataframe[-1].value["run"]) == ["doubtful", "one", "two"]  # sentence_to_jsON
    app.text_input(key="form runs sought").set_value("sentence two").run()
    assert list(app.dataframe[-1].value["run"]) == ["two"]
    app.text_input(key="form runs sought").set_value("nowhere").run()
    assert any("0 of 3 runs" in caption.value for caption in app.caption)


def test_charts_hold_each_run_over_the_share_of_its_layers(example):
    comparison = side_by_side({"a": example.run, "b": example.run})
    figure = compared.draw_coverages(comparison.columns)
    lines = {trace.name: trace for trace in figure.data if trace.mode == "lines" and trace.name}
    assert lines["a"].x[-1] == 1
    assert np.array_equal(lines["a"].y, comparison.columns[0].curve.coverage.mean, equal_nan=True)
    marks = [trace for trace in figure.data if trace.mode == "markers"]
    assert [mark.x[0] for mark in marks] == [comparison.columns[0].relative_depth] * 2
    advantage = compared.draw_advantages(comparison.columns)
    assert min(trace.x[0] for trace in advantage.data if trace.mode == "lines") == pytest.approx(1 / 30)
    held = {"b": comparison.differences["b"]["gain coverage"]}
    assert compared.draw_differences(held, "gain coverage").data[-1].y[-1] == 0


def test_calibration_draws_every_arm_beside_the_line(example):
    pairs = [
        PredictedMeasured(finetune="f", arm=arm, quantity=f"coverage at equal {budget}", predicted=0.9, measured=m)
        for arm, m in (("planned", 1.1), ("half", 0.8))
        for budget in ("steps", "compute")
    ]
    figure = compared.draw_calibration(pairs)
    assert [len(trace.x) for trace in figure.data] == [2, 2, 2]
    assert tuple(figure.data[-1].y) == (0, 1.1), "the line goes as far as the points"
