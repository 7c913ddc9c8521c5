"""UMAP on the Analyze page: drawn when it is kept, offered when it is not, followed while its job runs."""

import json
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from semfreeze_core.records.job import Job, JobSpec
from semfreeze_core.runs.jobs import JOBS
from semfreeze_core.runs.umaps import umap_file, write_umap
from semfreeze_dashboard.data.run_folder import DEMO_VARIABLE
from semfreeze_dashboard.panels import jobs_panel, umap_panel
from semfreeze_dashboard.text import page_text
from tests.dashboard.test_pages import APP, opened, sentence

NOT_THERE = "UMAP lays states out"


def traces(**query):
    return opened("analyze", **{"projection": "UMAP", **query})


def captions(app):
    return " ".join(caption.value for caption in app.caption)


def offer(app):
    """The button that computes, or None."""
    return next((button for button in app.button if button.label == "Compute UMAP"), None)


def text_of(app):
    return " ".join(m.value for m in app.markdown)


@pytest.fixture
def umap_path(example, laid_out):
    """A UMAP of the shipped run with the page's defaults, in the cache; returns its file."""
    file = umap_file(example.run.manifest, seed=0, n_neighbors=15)
    write_umap(laid_out, file)
    return file


@pytest.fixture
def jobs(monkeypatch):
    """Jobs as the page sees them, none of which runs: a list to which `submit` adds a queued one."""
    queued = []

    def submit(runs, command, title, out=None):
        spec = JobSpec(command=tuple(command), title=title, created=1.0)
        queued.append(Job(f"job-{len(queued)}", spec, "queued", 0, None, None))
        return queued[-1]

    monkeypatch.setattr(umap_panel, "list_jobs", lambda runs: list(queued))
    monkeypatch.setattr(jobs_panel, "find_job", lambda runs, name: next(job for job in queued if job.name == name))
    monkeypatch.setattr(jobs_panel, "job_folder", lambda runs, name: runs / JOBS / name)
    monkeypatch.setattr(umap_panel, "submit", submit)
    return queued


def test_traces_show_pca_until_umap_is_asked_for():
    app = opened("analyze")
    assert sentence(app)
    assert app.button_group(key="projection").value == "PCA"
    assert app.button_group(key="space").value == "2-D"
    assert offer(app) is None
    assert "1,000 of 9,293 target tokens" in captions(app)


def test_traces_draw_a_kept_umap_with_what_it_is_made_of(umap_path):
    app = traces()
    assert sentence(app)
    assert offer(app) is None
    for part in ("322 of 9,293 target tokens", "1,000 shown", "seed 0, 15 neighbors", "mean little", "106 target"):
        assert part in captions(app)
    assert NOT_THERE not in text_of(app)
    figure = json.loads(app.get("plotly_chart")[0].proto.spec)
    assert figure["layout"]["xaxis"]["title"]["text"] == "UMAP 1, no unit"
    assert len(figure["frames"]) == 31


@pytest.mark.quick_cases(3)
@pytest.mark.parametrize("look", [{"colour": "outcome"}, {"colour": "deviation", "paths": "0"}, {"paths": "40"}])
def test_traces_draw_a_kept_umap_in_every_look(umap_path, look):
    app = traces(**look)
    assert sentence(app)
    assert "322 of 9,293" in captions(app)


def test_traces_go_back_to_pca(umap_path):
    app = traces()
    app.button_group(key="projection").set_value("PCA").run()
    assert sentence(app)
    assert "1,000 of 9,293 target tokens" in captions(app)
    assert app.button_group(key="space").value == "2-D"


@pytest.mark.parametrize("query", [{}, {"seed": "3"}, {"neighbours": "50"}])
def test_traces_offer_what_is_not_kept_with_its_price(query, umap_path):
    umap_path.unlink()
    app = traces(**query)
    assert sentence(app)
    assert offer(app) is not None
    assert "322 of the 1,000 shown positions at all 31 spaces and 106 bases, 10,088 points" in text_of(app)
    assert f"about {20 if 'neighbours' in query else 16} seconds" in text_of(app)
    assert "9,293 target tokens" not in captions(app)
    assert any("Sentence:" in code.value for code in app.code)  # the rest of the page is there


@pytest.mark.parametrize("query", [{"seed": "3"}, {"neighbours": "50"}])
def test_a_kept_umap_is_not_drawn_for_another_seed_or_number_of_neighbors(query, umap_path):
    assert offer(traces(**query)) is not None


def test_compute_submits_the_command_and_follows_it(jobs, example):
    app = traces(seed="7")
    offer(app).click().run()
    assert sentence(app)
    (job,) = jobs
    assert job.spec.command == ("umap", str(example.folder), "--seed", "7", "--neighbors", "15")
    assert job.spec.title == "UMAP of example, seed 7, 15 neighbors"
    assert "**: queued, starting" in text_of(app)
    assert offer(app) is None


def test_a_job_that_ended_well_is_drawn(jobs, umap_path):
    data = umap_path.read_bytes()
    umap_path.unlink()
    app = traces()
    offer(app).click().run()
    umap_path.write_bytes(data)
    jobs[0] = replace(jobs[0], state="done")
    app.run()
    assert sentence(app)
    assert "322 of 9,293" in captions(app)


@pytest.mark.quick_cases(2)
@pytest.mark.parametrize("state", ["failed", "dead"])
def test_a_job_that_failed_says_why_and_is_offered_again(jobs, state, monkeypatch):
    monkeypatch.setattr(jobs_panel, "failure", lambda runs, job: "No memory was left.")
    app = traces()
    offer(app).click().run()
    jobs[0] = replace(jobs[0], state=state)
    app.run()
    assert sentence(app)
    assert "No memory was left." in captions(app)
    assert [button.label for button in app.button if button.label == "Cancel"] == []
    assert offer(app) is not None


def test_a_cancelled_job_is_offered_again(jobs, monkeypatch):
    def cancel(runs, name):
        jobs[0] = replace(jobs[0], state="cancelled")

    monkeypatch.setattr(jobs_panel, "cancel", cancel)
    app = traces()
    offer(app).click().run()
    next(button for button in app.button if button.label == "Cancel").click().run()
    assert sentence(app)
    assert offer(app) is not None
    assert not app.warning


def test_a_damaged_umap_is_said_to_be_and_offered_again(umap_path, jobs):
    umap_path.write_bytes(b"damage")
    app = traces()
    assert sentence(app)
    assert f"{umap_path.name} is damaged" in app.warning[0].value
    assert offer(app) is not None


def test_a_demonstration_draws_what_is_kept_and_computes_nothing(umap_path, monkeypatch):
    monkeypatch.setenv(DEMO_VARIABLE, "1")
    app = traces()
    assert "322 of 9,293" in captions(app)
    assert not app.info
    app = traces(seed="1")
    assert sentence(app)
    assert app.info[0].value == page_text.UMAP_IN_DEMO
    assert offer(app) is None


def test_a_sample_with_too_few_points_says_so(umap_path, monkeypatch):
    monkeypatch.setattr("semfreeze_core.semantics.umap_projection.umap_points", lambda display: 12)
    app = traces()
    assert sentence(app)
    assert "neighbors must be less than the 12 points there are" in app.info[0].value


@pytest.mark.quick_cases(3)
@pytest.mark.parametrize("query", [{"seed": "-4"}, {"neighbours": "1"}, {"seed": "x", "projection": "tsne"}])
def test_nonsense_in_the_link_is_left_out(query, umap_path):
    assert sentence(traces(**query))


@pytest.mark.slow
def test_the_page_with_a_umap_imports_neither_torch_nor_umap(umap_path):
    script = (
        "import sys\n"
        "from streamlit.testing.v1 import AppTest\n"
        "for seed in ('0', '1'):\n"
        f"    app = AppTest.from_file({str(APP)!r}, default_timeout=60).run()\n"
        "    app.switch_page('views/analyze.py')\n"
        "    app.query_params.update(projection='UMAP', seed=seed)\n"
        "    app.run()\n"
        "    assert not app.exception and not app.error\n"
        "    print(any('UMAP lays states out' in m.value for m in app.markdown))\n"
        "print(*sorted({'torch', 'transformers', 'umap', 'numba'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.stdout.split() == ["False", "True"], done.stderr


@pytest.mark.slow
def test_a_real_job_computes_a_umap_that_is_then_drawn(runs):
    app = traces()
    offer(app).click().run()
    until = time.monotonic() + 300
    while "9,293 target tokens" not in captions(app):
        assert time.monotonic() < until, text_of(app)
        time.sleep(1)
        app.run()
        assert sentence(app)
    assert "322 of 9,293" in captions(app)
