"""`semfreeze runs`, `cache` and `models`: what is there, and nothing deleted that was not meant."""

import json
import shutil

import pytest

from semfreeze_core.runs.store import run_names
from semfreeze_core.storage import cache_folder, folder_bytes, runs_folder
from tests.core.cli.terminal import ask
from tests.core.saved_models import save_tiny


def test_runs_list_says_where_runs_would_be():
    assert ask("runs", "list").out == f"No runs in {runs_folder()} yet. The bundled run is named: example\n"
    assert ask("runs", "list", "--json").json == {"folder": str(runs_folder()), "runs": []}


def test_runs_list_describes_each_run(stored, models, task):
    stored("tied")
    ask("runs", "note", "tied", "a first try")
    shown = ask("show", "tied", "--json").json
    (entry,) = ask("runs", "list", "--json").json["runs"]
    assert entry == {
        "name": "tied",
        "model": str(models / "tied"),
        "data": str(task),
        "n_examples": 48,
        "created": shown["provenance"]["created"],
        "bytes": folder_bytes(runs_folder() / "tied"),
        "note": "a first try",
        "problem": None,
    }
    table = ask("runs", "list").out
    for cell in ("tied", "48", "0.1 MiB", "a first try"):
        assert cell in table


def test_runs_list_lists_what_cannot_be_read(stored):
    stored("tied")
    (runs_folder() / "empty").mkdir()
    shutil.copytree(runs_folder() / "tied", runs_folder() / "newer")
    manifest = runs_folder() / "newer" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"schema_version": 9}))
    entries = {entry["name"]: entry for entry in ask("runs", "list", "--json").json["runs"]}
    assert sorted(entries) == ["empty", "newer", "tied"]
    assert entries["tied"]["problem"] is None
    assert "it has no manifest.json" in entries["empty"]["problem"]
    assert "written by a newer semfreeze" in entries["newer"]["problem"]
    assert entries["newer"]["model"] is None
    table = ask("runs", "list").out
    assert table.count("unreadable:") == 2


@pytest.mark.parametrize("text", ["[/red] closed", "[bold]x", "日本 🎉", "two\nlines", " "])
def test_runs_note_gives_back_what_was_written(stored, text):
    stored("tied")
    assert ask("runs", "note", "tied", text).code == 0
    assert ask("runs", "note", "tied").out == f"{text}\n"
    assert ask("runs", "list", "--json").json["runs"][0]["note"] == text
    assert text.split("\n")[0] in ask("runs", "list").out


def test_runs_note_is_taken_away_by_an_empty_text(stored):
    stored("tied")
    ask("runs", "note", "tied", "x")
    ask("runs", "note", "tied", "")
    assert ask("runs", "note", "tied").out == "\n"
    assert not (runs_folder() / "tied" / "note.txt").exists()


def test_runs_rename_moves_a_run(stored):
    stored("tied")
    assert ask("runs", "rename", "tied", "first").out == "tied is now called first.\n"
    assert run_names() == ["first"]
    assert ask("show", "first").code == 0
    assert "no run with this name" in ask("show", "tied").refusal


def test_runs_rename_refuses_a_name_that_is_taken(stored):
    stored("tied")
    stored("untied")
    assert ask("runs", "rename", "tied", "untied").refusal == "A run named untied already exists."


@pytest.mark.parametrize("name", ["../x", "a/b", "two words", "example", "", "ü"])
def test_runs_rename_refuses_what_is_no_name(stored, name):
    assert "is not a valid run name" in ask("runs", "rename", stored("tied"), name).refusal


@pytest.mark.parametrize("answer", ["y\n", "yes\n"])
def test_runs_rm_deletes_after_a_yes(stored, answer):
    stored("tied")
    assert "Deleted tied (0.1 MiB)." in ask("runs", "rm", "tied", stdin=answer).out
    assert run_names() == []


@pytest.mark.parametrize("answer", ["n\n", "\n"])
def test_runs_rm_leaves_the_run_after_a_no(stored, answer):
    stored("tied")
    said = ask("runs", "rm", "tied", stdin=answer)
    assert said.code == 0
    assert "Nothing was deleted." in said.out
    assert run_names() == ["tied"]


def test_runs_rm_refuses_when_nobody_answers(stored):
    stored("tied")
    said = ask("runs", "rm", "tied", stdin="")
    assert said.code == 2
    assert "Nothing was deleted: the question was not answered. Use --yes in scripts." in said.err
    assert run_names() == ["tied"]


@pytest.mark.parametrize("name", ["..", ".", "", "../here", "a/b", "absent", "example", "~"])
@pytest.mark.parametrize("command", [["rm", "--yes"], ["note"], ["rename"]])
def test_runs_commands_only_know_the_store(stored, tmp_path, command, name):
    stored("tied")
    before = sorted(tmp_path.rglob("*"))
    rest = ["other"] if command[0] != "rm" else []
    assert "no run with this name in" in ask("runs", command[0], name, *command[1:], *rest).refusal
    assert sorted(tmp_path.rglob("*")) == before


def test_runs_rm_never_follows_a_link(stored, tmp_path):
    stored("tied")
    shutil.move(runs_folder() / "tied", tmp_path / "archive")
    (runs_folder() / "tied").symlink_to(tmp_path / "archive")
    assert ask("runs", "rm", "tied", "--yes").code == 0
    assert run_names() == []
    assert ask("show", tmp_path / "archive").code == 0


def test_cache_list_names_what_can_be_cleared():
    folder = cache_folder() / "embedded" / "model-1"
    folder.mkdir(parents=True)
    (folder / "weights").write_bytes(bytes(3 * 2**20))
    document = {"folder": str(cache_folder()), "entries": [{"name": "embedded/model-1", "bytes": 3 * 2**20}]}
    assert ask("cache", "list", "--json").json == document
    assert ask("cache", "list").out == f"{cache_folder()}: 3.0 MiB\n  embedded/model-1  3.0 MiB\n"


def test_cache_clear_clears_the_cache_and_nothing_else(stored, tmp_path):
    stored("tied")
    for name in ("one", "two"):
        (cache_folder() / "embedded" / name).mkdir(parents=True)
        (cache_folder() / "embedded" / name / "weights").write_bytes(bytes(2**20))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "kept").touch()
    (cache_folder() / "embedded" / "link").symlink_to(tmp_path / "mine")
    assert ask("cache", "clear", "--yes").out == "Freed 2.0 MiB.\n"
    assert ask("cache", "list", "--json").json["entries"] == []
    assert run_names() == ["tied"]
    assert (tmp_path / "mine" / "kept").exists()


def test_cache_clear_asks_first():
    (cache_folder() / "embedded" / "one").mkdir(parents=True)
    assert "Nothing was deleted." in ask("cache", "clear", stdin="n\n").out
    unanswered = ask("cache", "clear", stdin="")
    assert unanswered.code == 2
    assert "Nothing was deleted: the question was not answered" in unanswered.err
    assert (cache_folder() / "embedded" / "one").exists()
    assert "Freed" in ask("cache", "clear", stdin="y\n").out
    assert not (cache_folder() / "embedded" / "one").exists()


def test_cache_clear_has_nothing_to_do_without_a_cache():
    assert ask("cache", "clear", "--yes").out == "Freed 0.0 MiB.\n"


@pytest.mark.parametrize(
    ("name", "head"), [("untied", "lm_head.weight"), ("tied", "the embedding"), ("gpt2", "the embedding")]
)
def test_models_check_says_what_it_found(models, name, head):
    report = ask("models", "check", models / name, "-q").out
    prefix = "transformer.h." if name == "gpt2" else "model.layers."
    assert f"{prefix}0..3" in report
    assert f"head        {head}" in report
    assert ("(tied to the head)" in report) == (name != "untied")
    assert "verified    head(final_norm(last hidden state)) gives the model's logits" in report


def test_models_check_json_holds_identity_shape_and_names(models, stored):
    document = ask("models", "check", models / "untied", "--json", "-q").json
    shown = ask("show", stored("untied"), "--json").json
    assert document["identity"] == shown["model"]["identity"]
    assert document["shape"] == shown["model"]["shape"]
    assert document["names"] == shown["model"]["names"]
    assert document["logits_error"] < 0.05


def test_models_check_counts_what_a_plan_trains(models, stored):
    ask("plan", stored("untied"), "--depth", "3", "--out", "plan.json")
    report = ask("models", "check", models / "untied", "--plan", "plan.json", "-q").out
    # one Llama layer has four attention matrices, three of the MLP and two norms; then the final norm
    assert report.splitlines()[-1] == "  plan        fits; it trains 10 of this model's parameter tensors"


def test_models_check_refuses_the_plan_of_another_model(models, stored, tmp_path):
    ask("plan", stored("untied"), "--depth", "3", "--out", "plan.json")
    save_tiny(tmp_path / "twin", "llama", tied=False, seed=1)
    for model, fragment in (
        (models / "gpt2", "its layers or parameters differ"),
        (tmp_path / "twin", "its weights differ"),
    ):
        message = ask("models", "check", model, "--plan", "plan.json", "-q").refusal
        assert message.startswith(f"The plan was made for {models / 'untied'} (LlamaForCausalLM, weights ")
        assert fragment in message


def test_models_check_refuses_a_plan_that_abstains(models, stored):
    ask("plan", stored("untied"), "--out", "plan.json")
    message = ask("models", "check", models / "untied", "--plan", "plan.json", "-q").refusal
    assert message.startswith("The plan makes no recommendation, so there is nothing to train:")


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff"])
def test_models_check_refuses_what_is_no_plan_before_it_loads_the_model(tmp_path, content):
    if content is not None:
        (tmp_path / "plan.json").write_bytes(content)
    message = "is not a semfreeze plan" if content is not None else "does not exist"
    assert message in ask("models", "check", tmp_path / "absent", "--plan", tmp_path / "plan.json").refusal


def test_demo_leaves_a_run_that_is_the_users_own(stored, models, monkeypatch):
    stored("tied")
    ask("runs", "rename", "tied", "demo")
    before = {p.name: p.read_bytes() for p in (runs_folder() / "demo").iterdir()}
    message = ask("demo", "-q").refusal
    assert message == (
        f"The run demo is your analysis of {models / 'tied'}, so the demo does not replace it. Give it another name "
        "first: semfreeze runs rename demo NEW_NAME"
    )
    assert {p.name: p.read_bytes() for p in (runs_folder() / "demo").iterdir()} == before
