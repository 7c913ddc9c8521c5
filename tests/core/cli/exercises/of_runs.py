"""What shows that the options of commands on runs, jobs and caches do what they say."""

import shutil
from pathlib import Path

from semfreeze_core.runs.reports import list_validations
from semfreeze_core.runs.store import example_run, run_names
from semfreeze_core.storage import cache_folder, runs_folder
from tests.core.cli.exercises.registry import exercise
from tests.core.cli.terminal import ask
from tests.core.runs.left_job import DEAD, put


@exercise("show --metric", "show --json")
def _(world):
    document = ask("show", "untied", "--metric", "logit_z", "--json").json
    assert document["metric"] == "logit_z"
    assert document["gain"] != ask("show", "untied", "--json").json["gain"]
    spread = document["example_picks"]
    assert len(spread["depths"]) == document["n_examples"]
    assert spread["share"] == sum(spread["range"][0] <= k <= spread["range"][1] for k in spread["depths"]) / len(
        spread["depths"]
    )
    shown = " ".join(ask("show", "untied", "--metric", "logit_z").out.split())
    assert "logit_z distance" in shown
    assert spread["words"] in shown
    assert f"Examples per depth: {min(spread['depths'])}: " in shown


@exercise("show --slices")
def _(world):
    document = ask("show", "example", "--slices", "--json").json
    labels = [group["name"] for group in document["slices"]["groups"]]
    assert sum(group["n_examples"] for group in document["slices"]["groups"]) == document["n_examples"]
    assert all(label in ask("show", "example", "--slices").out for label in labels)
    assert "slices" not in ask("show", "example", "--json").json


@exercise("show --by")
def _(world):
    document = ask("show", "example", "--by", "completion length", "--json").json
    assert document["slices"]["by"] == "completion length"
    assert sum(group["n_examples"] for group in document["slices"]["groups"]) == document["n_examples"]
    assert "tokens" in ask("show", "example", "--by", "prompt length").out
    assert "Available groups: label, prompt length, completion length" in ask("show", "example", "--by", "mood").refusal


@exercise("calibration --runs", "calibration --json")
def _(world):
    ((name, shipped),) = list_validations(example_run()).items()
    message = "No finished validations or sweeps."
    bundled = ask("calibration").out
    assert message in bundled
    assert "The bundled example" in bundled
    assert f"example/validations/{name}" in bundled.replace("\n", "")
    shutil.copytree(example_run() / "validations" / name, world.tmp / "other" / "mine" / "validations" / name)
    document = ask("calibration", "--runs", world.tmp / "other", "--json").json
    assert {pair["arm"] for pair in document["pairs"]} == set(shipped.arms)
    assert "one finetune gives no interval" in ask("calibration", "--runs", world.tmp / "other").out
    assert message in ask("calibration").out


@exercise("compare --metric", "compare --json")
def _(world):
    for metric in ("semantic", "logit_z"):
        document = ask("compare", "example", "untied", "--metric", metric, "--json").json
        assert document["metric"] == metric
        shown = ask("show", "untied", "--metric", metric, "--json").json
        assert document["runs"]["untied"]["gain_coverage"] == {
            key: shown["gain_coverage"][key] for key in ("mean", "low", "high")
        }
    assert "untied: --metric lens_loss: expected" in ask("compare", "untied", "tied", "--metric", "lens_loss").refusal


@exercise("report --metric", "report --out", "report -o", "report --overwrite")
def _(world):
    assert ask("report", "untied", "--out", "page.html").out == "Report: page.html\n"
    semantic = Path("page.html").read_text()
    assert "already exists" in ask("report", "untied", "-o", "page.html").refusal
    assert ask("report", "untied", "-o", "page.html", "--metric", "logit_z", "--overwrite").code == 0
    assert ("logit_z distance" in semantic, "logit_z distance" in Path("page.html").read_text()) == (False, True)


@exercise("runs list --json")
def _(world):
    listed = ask("runs", "list", "--json").json
    assert listed["folder"] == str(runs_folder())
    assert [run["name"] for run in listed["runs"]] == ["tied", "untied"]


@exercise("runs rm --yes", "runs rm -y")
def _(world):
    for name, flag in (("tied", "--yes"), ("untied", "-y")):
        assert ask("runs", "rm", name, flag).code == 0
        assert name not in run_names()


@exercise("jobs list --runs", "jobs list --json", "jobs log --runs", "jobs log --lines", "jobs cancel --runs")
def _(world):
    put(world.tmp / "runs", "one", DEAD, "done", log="first\nsecond\nthird\n")
    here = ("--runs", world.tmp / "runs")
    assert [job["name"] for job in ask("jobs", "list", *here, "--json").json["jobs"]] == ["one"]
    assert ask("jobs", "list", "--json").json == {"folder": str(runs_folder()), "jobs": []}
    assert ask("jobs", "log", "one", *here).out == "first\nsecond\nthird\n"
    assert ask("jobs", "log", "one", *here, "--lines", "2").out == "second\nthird\n"
    assert ask("jobs", "cancel", "one", *here).out == "one: done\n"
    for command in ("log", "cancel"):
        assert "There is no job named 'one'" in ask("jobs", command, "one").refusal


@exercise("cache list --json")
def _(world):
    assert ask("cache", "list", "--json").json == {"folder": str(cache_folder()), "entries": []}


@exercise("cache clear --yes", "cache clear -y")
def _(world):
    for flag in ("--yes", "-y"):
        (cache_folder() / "embedded" / "model").mkdir(parents=True)
        assert ask("cache", "clear", flag).out == "Freed 0.0 MiB.\n"
        assert not (cache_folder() / "embedded" / "model").exists()


@exercise("demo --data", "demo --examples", "demo --quiet", "demo -q")
def _(world):
    world.patch.setattr(
        "semfreeze_core.sources.models.opening.convert_embedded", lambda progress: world.models / "untied"
    )
    for data, examples, flag in ((world.task, 40, "--quiet"), (world.task, 48, "-q")):
        answer = ask("demo", "--data", data, "--examples", examples, flag)
        assert answer.code == 0
        assert answer.err == ""
        shown = ask("show", "demo", "--json").json
        assert shown["data"]["source"] == str(data)
        assert shown["n_examples"] == examples
        assert "No recommendation from the auto rule" in answer.out
    assert "Already analyzed" in ask("demo", "--data", world.task, "--examples", 48).err


@exercise("umap --seed", "umap --neighbors", "umap --json")
def _(world):
    flags = ([], ["--seed", "3"], ["--neighbors", "4"])
    documents = [ask("umap", "untied", *more, "--json", "-q").json for more in flags]
    assert [(d["seed"], d["neighbors"]) for d in documents] == [(0, 15), (3, 15), (0, 4)]
    assert len({Path(d["file"]).read_bytes() for d in documents}) == 3
    assert not any(d["from_cache"] for d in documents)


@exercise("umap --quiet", "umap -q")
def _(world):
    assert ask("umap", "untied").err.startswith("Loading UMAP\n")
    for seed, flag in ((1, "--quiet"), (2, "-q")):
        assert ask("umap", "untied", "--seed", seed, flag).err == ""


@exercise("--version")
def _(world):
    from semfreeze_core import __version__

    assert ask("--version").out == f"semfreeze {__version__}\n"
