"""Plans as files: read back as written, and never written over anything else."""

import os

import huggingface_hub
import pytest
from huggingface_hub.errors import OfflineModeIsEnabled

from semfreeze_core.errors import InputError, PlanError
from semfreeze_core.plan import make_plan
from semfreeze_core.runs.plans import read_plan, require_plan_path


@pytest.fixture
def plan(run):
    return make_plan(run, rule="manual", depth=2)


def test_read_plan_gives_back_what_was_written(plan, tmp_path):
    (tmp_path / "plan.json").write_text(plan.model_dump_json())
    assert read_plan(tmp_path / "plan.json") == plan


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a semfreeze plan: its JSON"),
        (b"{}", "is not a semfreeze plan: model"),
        (b"[1]", "is not a semfreeze plan"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (b'{"schema_version": 4}', "has schema version 4, but this semfreeze reads up to 3"),
    ],
)
def test_read_plan_refuses_what_is_no_plan(tmp_path, content, message):
    (tmp_path / "plan.json").write_bytes(content)
    with pytest.raises(PlanError, match=message):
        read_plan(tmp_path / "plan.json")


def test_read_plan_refuses_what_is_no_file(tmp_path):
    for path in (tmp_path, tmp_path / "absent", tmp_path / "absent.json"):
        with pytest.raises(PlanError, match=r"(contains no plan\.json|does not exist)\. Give a plan\.json that"):
            read_plan(path)
    os.mkfifo(tmp_path / "pipe.json")  # opening it would wait for a writer
    with pytest.raises(PlanError, match=r"pipe\.json is not a file, and a plan is one"):
        read_plan(tmp_path / "pipe.json")
    with (tmp_path / "huge.json").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(PlanError, match="it has 1,048,576 MiB, and a plan less than 1"):
        read_plan(tmp_path / "huge.json")


def test_read_plan_takes_a_models_folder_that_carries_one(plan, tmp_path):
    (tmp_path / "plan.json").write_text(plan.model_dump_json())
    assert read_plan(tmp_path) == plan
    assert read_plan(str(tmp_path)) == plan


def test_read_plan_takes_a_hub_repository_that_carries_one(plan, tmp_path, monkeypatch):
    (tmp_path / "kept.json").write_text(plan.model_dump_json())
    asked = []

    def download(repo, name):
        asked.append((repo, name))
        return str(tmp_path / "kept.json")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert read_plan("owner/name") == plan
    assert asked == [("owner/name", "plan.json")]


def test_read_plan_says_what_is_neither_here_nor_on_the_hub(monkeypatch):
    def download(*_):
        raise OfflineModeIsEnabled("Cannot reach the hub: offline mode is enabled.")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(
        InputError, match=r"owner/name is not a local file or folder, and its plan\.json could not be downloaded"
    ):
        read_plan("owner/name")


def test_require_plan_place_allows_a_new_an_empty_and_a_plans_file(plan, tmp_path):
    require_plan_path(tmp_path / "new" / "plan.json")
    (tmp_path / "empty.json").touch()
    require_plan_path(tmp_path / "empty.json")
    (tmp_path / "plan.json").write_text(plan.model_dump_json())
    require_plan_path(tmp_path / "plan.json")


@pytest.mark.parametrize("content", ["my notes", "{}", '{"prompt": "a", "completion": "b"}\n'])
def test_require_plan_place_refuses_somebodys_file(tmp_path, content):
    (tmp_path / "mine").write_text(content)
    with pytest.raises(PlanError, match=r"is not a plan, so it is not replaced\. Choose another --out"):
        require_plan_path(tmp_path / "mine")


def test_require_plan_place_refuses_folders_and_pipes_without_reading_them(tmp_path):
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for a writer
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(PlanError, match="already exists and is not a plan"):
            require_plan_path(path)
    with pytest.raises(PlanError, match="cannot be written: File name too long"):
        require_plan_path(tmp_path / ("x" * 300))
