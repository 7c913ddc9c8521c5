"""Guided finetunes as their folders stand: finished, racing, damaged."""

import json

import pytest

from semfreeze_core.errors import RunError
from semfreeze_core.records.finetune_report import DECISION, FINETUNE_REPORT
from semfreeze_core.records.race import RACE_FOLDER, RACE_RESULT
from semfreeze_core.runs.finetunes import list_finetunes
from semfreeze_core.runs.folder import FINETUNES
from semfreeze_core.wording.race import leader_sentence, race_table, racing_table
from tests.dashboard.finetunes import raced, trial, variant, write_finished, write_racing


def test_a_run_without_finetunes_has_none(tmp_path):
    assert list_finetunes(tmp_path) == {}
    (tmp_path / FINETUNES / "not begun").mkdir(parents=True)
    assert list_finetunes(tmp_path) == {}


def test_finished_ones_come_before_those_that_run(tmp_path):
    write_racing(tmp_path / FINETUNES / "a", full=[trial(1e-4, 1.5)])
    folder = write_finished(tmp_path / FINETUNES / "b")
    finetunes = list_finetunes(tmp_path)
    assert list(finetunes) == ["b", "a"]
    assert (finetunes["b"].report.folder, finetunes["b"].race.chosen) == (str(folder), "depth:7")
    assert (finetunes["a"].report, finetunes["a"].race) == (None, None)


def test_a_race_that_runs_knows_rates_losers_and_the_leader(tmp_path):
    tried = {"full": [trial(1e-4, 1.5), trial(3e-4, 1.9, "behind")], "depth-7": []}
    folder = write_racing(tmp_path / FINETUNES / "a", {"depth:7": 1.5, "depth:19": 1.25}, **tried)
    racing = list_finetunes(tmp_path)["a"].racing
    assert [variant.name for variant in racing] == ["depth:19", "depth:7", "full"]
    assert leader_sentence(racing) == "Lowest eval loss so far: freeze 19, 1.250 (2 variants evaluated)."
    assert leader_sentence(racing[2:]) == "No variant is evaluated yet."
    first, second, third = racing_table(racing).dicts()
    assert list(first.values()) == ["freeze 19", "1.250", "3e-5", "", "evaluated"]
    assert second["variant"] == "freeze 7", "its result takes the place of its trials"
    tried = "1e-4: loss 1.500 after 20 steps; 3e-4: stopped after 10 steps, behind"
    assert list(third.values()) == ["train all layers", "—", "—", tried, "training"]
    (path,) = folder.rglob("depth-19-seed0.json")
    path.write_text(
        path.read_text().replace('"done"', '"failed"', 1).replace('"reason":""', '"reason":"No memory."', 1)
    )
    assert racing_table(list_finetunes(tmp_path)["a"].racing).dicts()[0]["state"] == "No memory."


def test_the_variants_of_a_race_that_has_ended_are_the_races_own(tmp_path):
    folder = write_racing(tmp_path / FINETUNES / "a", full=[trial(1e-4, 1.5)])
    (folder / DECISION / RACE_FOLDER / RACE_RESULT).write_text(raced().model_dump_json())
    finetune = list_finetunes(tmp_path)["a"]
    assert finetune.racing == ()
    rows = race_table(finetune.race).dicts()
    assert [row["variant"] for row in rows] == ["train all layers", "freeze 7 (chosen)", "freeze 20"]
    assert rows[1] == {
        "variant": "freeze 7 (chosen)", "learning rate": "1e-4", "eval loss": "1.210",
        "eval loss, by target token": "1.220",
        "compute, whole finetune": "23.0 TFLOPs", "time, whole finetune": "1.5 min",
    }  # fmt: skip
    failed = finetune.race.model_copy(update={"variants": [variant("depth:7", 7, 1.2, reason="No memory.")]})
    assert race_table(failed).dicts()[0]["note"] == "No memory."


@pytest.mark.parametrize("text", ["", "[]", '{"trials": 7}', '{"trials": [{}]}', "\0"])
def test_what_a_race_is_writing_is_left_for_later(tmp_path, text):
    folder = write_racing(tmp_path / FINETUNES / "a", full=[trial(1e-4, 1.5)])
    (path,) = folder.rglob("trials.json")
    path.write_text(text)
    assert list_finetunes(tmp_path)["a"].racing == ()


def test_a_report_that_cannot_be_read_is_an_error(tmp_path):
    path = write_finished(tmp_path / FINETUNES / "b") / FINETUNE_REPORT
    document = json.loads(path.read_text())
    path.write_text("{}")
    with pytest.raises(RunError, match=r"report\.json is damaged or from another version"):
        list_finetunes(tmp_path)
    path.write_text(json.dumps(document | {"schema_version": 99}))
    with pytest.raises(RunError, match="newer semfreeze"):
        list_finetunes(tmp_path)
