"""Groups on the Analyze page: what they can be made of, and what is said of each."""

from dataclasses import replace

import pandas as pd
import pytest

from semfreeze_core.plan.slices import slices
from semfreeze_core.records.run import GROUP_PREFIX
from semfreeze_core.runs.folder import write_run
from semfreeze_dashboard.text import page_text
from tests.dashboard.test_pages import opened, sentence

LENGTHS = ["prompt length", "completion length"]


@pytest.fixture
def grouped(example, runs):
    """A run named `grouped` that has kept where its examples are from; returns it."""
    n = example.run.n_examples
    sources = pd.Series(["mail", "chat", "chat", None] * (n // 4), dtype="string")
    run = replace(example.run, examples=example.run.examples.assign(**{GROUP_PREFIX + "source": sources}))
    write_run(run, runs / "grouped")
    return run


def text_of(app):
    return " ".join(m.value for m in app.markdown)


def captions(app):
    return [caption.value for caption in app.caption]


def test_a_run_without_columns_says_so_and_offers_label_and_lengths():
    app = opened("analyze", groups="true")
    assert sentence(app)
    assert app.selectbox(key="by").options == ["label", *LENGTHS]
    assert page_text.NO_COLUMNS in captions(app)


def test_a_run_without_labels_offers_lengths_alone(doubtful):
    app = opened("analyze", groups="true", run="doubtful")
    assert sentence(app)
    assert app.selectbox(key="by").options == LENGTHS
    assert "by prompt length" in text_of(app)


def test_a_kept_column_makes_the_groups_that_the_core_reads(grouped):
    app = opened("analyze", groups="true", run="grouped")
    assert app.selectbox(key="by").options == ["label", "source", *LENGTHS]
    assert page_text.NO_COLUMNS not in captions(app)
    app.selectbox(key="by").select("source").run()
    assert sentence(app)
    assert "Coverage by source" in text_of(app)
    groups, _ = slices(grouped, "semantic", "source")
    table = app.dataframe[-1].value
    assert table["group"].tolist() == [group.name for group in groups] == ["chat", "mail"]
    assert table["examples"].tolist() == [str(group.curve.n_examples) for group in groups]


def test_labels_and_columns_do_nothing_on_the_page(example, runs):
    hostile = ":red[x] [y](javascript:z) `c` $m$ <b>\x1b[2J\u202e"
    n = example.run.n_examples
    examples = example.run.examples.assign(**{GROUP_PREFIX + "a*b*": pd.Series([hostile, "chat"] * (n // 2))})
    write_run(replace(example.run, examples=examples), runs / "hostile")
    app = opened("analyze", groups="true", run="hostile", by="a*b*", depth="30")
    assert sentence(app)
    shown = r"\:red\[x\] \[y\](javascript\:z) \`c\` \$m\$ \<b\>\\x1b\[2J\\u202e"
    assert shown in text_of(app)
    assert hostile not in text_of(app)
    assert r"by a\*b\*" in text_of(app)


@pytest.mark.quick_cases(2)
@pytest.mark.parametrize("by", ["source", "prompt length"])
def test_groups_that_a_depth_does_not_fit_are_named(grouped, by):
    app = opened("analyze", groups="true", run="grouped", by=by, depth="30")
    assert sentence(app)
    names = ", ".join(group.name for group in slices(grouped, "semantic", by)[0])
    assert f"Depth 30 does not fit all groups: the coverage rule freezes fewer layers for {names}." in text_of(app)
    assert f"Depth 0 is no deeper than the coverage rule selects for any of {names.count(',') + 1} groups" in text_of(
        app.slider(key="depth").set_value(0).run()
    )


def test_another_run_without_the_column_is_grouped_by_its_label(grouped):
    app = opened("analyze", groups="true", run="grouped", by="source")
    app.selectbox(key="run").select("example").run()
    assert sentence(app)
    assert app.selectbox(key="by").value == "label"
    assert "by label" in text_of(app)
