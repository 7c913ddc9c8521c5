"""The report is one file that says what the run says, and needs nothing from outside."""

import json
import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import pytest

from semfreeze_core.errors import PlanError
from semfreeze_core.plan import make_plan
from semfreeze_core.plan.make import default_setup
from semfreeze_core.runs.folder import read_run
from semfreeze_core.runs.reports import list_validations
from semfreeze_core.runs.store import example_run
from semfreeze_core.wording.costs import setup_line
from semfreeze_core.wording.plan import headline
from semfreeze_core.wording.validation import measured_lines
from semfreeze_dashboard.panels.html_report import report_html
from tests.core.cli.terminal import ask


@pytest.fixture(scope="module")
def run():
    return read_run(example_run())


@pytest.fixture(scope="module")
def page(run):
    return report_html(run, name="example")


def without_script(page):
    return re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)


def test_report_html_opens_with_the_plans_conclusion(run, page):
    expected = headline(make_plan(run))
    (heading,) = re.findall(r"<h1>(.*?)</h1>", page, flags=re.DOTALL)
    assert unescape(heading) == expected


def test_report_html_shows_a_cell_for_every_layer(run, page):
    plan = make_plan(run)
    states = re.findall(r'title="layer \d+: (\w+)"', page)
    assert states == ["frozen"] * plan.freeze_depth + ["trained"] * (run.shape.n_layers - plan.freeze_depth)


def test_report_html_holds_every_chart_both_nulls_and_every_score(run, page):
    titles = re.findall(r"<h2>(.*?)</h2>", without_script(page))
    assert {"Deviation and random-label baseline", "Swapped-completion control", "Compute by freeze depth"} <= set(
        titles
    )
    assert page.count("Plotly.newPlot(") == 7
    for score in run.scores:
        assert f'<td class="text">{score.replace("_", " ")}</td><td class="text">score</td>' in page
    for rule in ("coverage", "paper", "compute", "turning"):
        assert f'<td class="text">{rule}</td><td class="text">rule</td>' in page


def test_report_html_carries_the_plan_and_the_provenance(run, page):
    plan, provenance = (json.loads(unescape(text)) for text in re.findall(r"<pre>(.*?)</pre>", page, flags=re.DOTALL))
    assert plan["freeze_depth"] == make_plan(run).freeze_depth
    assert provenance == run.manifest.provenance.model_dump()


def test_report_html_reports_the_plan_it_is_given_and_what_finetunes_measured(run, page):
    setup = replace(default_setup(run), batch_size=2)
    plan = make_plan(run, rule="manual", depth=7, setup=setup)
    validations = list_validations(example_run())
    other = report_html(run, plan=plan, validations=validations)
    assert re.search(rf"<h1>\s*{re.escape(headline(plan))}", unescape(other))
    assert setup_line(setup) in unescape(other)
    assert "no finished validation of this run tested freezing 7 of 30 layers" in other
    assert "predicted and not validated" in other
    tested = report_html(run, validations=validations)
    for line in measured_lines(validations, 19, 30):
        assert line in unescape(tested)
    assert "not validated" not in tested
    assert "Not measured yet" not in tested
    assert "no finished validation" in page, "no validation was given"


class Outside(HTMLParser):
    """Everything a browser would fetch to show a page."""

    def __init__(self):
        super().__init__()
        self.references = []

    def handle_starttag(self, tag, attrs):
        self.references += [(tag, name, value) for name, value in attrs if name in ("src", "href", "srcset", "data")]


def test_report_html_asks_for_nothing_from_outside(page):
    parser = Outside()
    parser.feed(page)
    assert parser.references == []
    assert not re.search(r"@import|url\(", without_script(page))


def test_report_html_escapes_what_the_user_named(run):
    data = run.manifest.data.model_copy(update={"source": "<script>alert(1)</script>.jsonl"})
    spoiled = replace(run, manifest=run.manifest.model_copy(update={"data": data}))
    page = report_html(spoiled, name='"><b>x')
    assert "<script>alert(1)" not in page
    assert '"><b>x' not in page


def test_report_html_writes_out_what_cannot_be_seen(run):
    data = run.manifest.data.model_copy(update={"source": "a\x1b[2J\u202eb.jsonl"})
    page = report_html(replace(run, manifest=run.manifest.model_copy(update={"data": data})), name="n\u202e")
    assert r"a\x1b[2J\u202eb.jsonl" in page
    assert "\x1b" not in page
    assert "\u202e" not in without_script(page)


def test_report_html_of_an_abstention_recommends_nothing(run):
    nothing = {
        metric: replace(pairs, own=pairs.own[:0], swapped=pairs.swapped[:0], reason="too few prompts")
        for metric, pairs in run.pairs.items()
    }
    page = without_script(report_html(replace(run, pairs=nothing)))
    assert "No recommendation from the auto rule" in page
    assert page.count(": undecided") == run.shape.n_layers
    assert "Swapped-completion control</h2>" not in page, "there are no pairs to draw"
    assert "too few prompts" in page


def test_report_html_refuses_a_metric_that_may_not_decide(run):
    with pytest.raises(PlanError, match="lens_loss"):
        report_html(run, metric="lens_loss")


def test_report_writes_a_file_and_replaces_none_unasked(tmp_path):
    path = tmp_path / "report.html"
    assert ask("report", "example", "-o", path).out == f"Report: {path}\n"
    assert path.read_text().startswith("<!doctype html>")
    path.write_text("mine")
    assert "already exists" in ask("report", "example", "-o", path).refusal
    assert path.read_text() == "mine"
    assert ask("report", "example", "-o", path, "--overwrite").code == 0
    assert path.read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(("name", "message"), [("absent", "no run with this name"), ("example", "cannot be written")])
def test_report_refuses_a_missing_run_and_a_place_that_is_a_folder(tmp_path, name, message):
    assert message in ask("report", name, "-o", tmp_path, "--overwrite").refusal
