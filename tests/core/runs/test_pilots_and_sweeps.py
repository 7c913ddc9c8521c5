"""Sweeps and measurements of a run, found again; damaged and newer ones named."""

import os
from pathlib import Path

import pytest

from semfreeze_core.errors import RunError
from semfreeze_core.runs.reports import list_measurements, list_sweeps, read_measurement, read_sweep, read_validation
from tests.core.plan.pilots import MEASURED


def test_measurements_are_found_by_their_folders_name(tmp_path):
    assert list_measurements(tmp_path) == list_sweeps(tmp_path) == {}
    folder = tmp_path / "pilots" / "task"
    folder.mkdir(parents=True)
    (tmp_path / "pilots" / "still running").mkdir()
    (folder / "measurement.json").write_text(MEASURED.model_dump_json())
    assert list_measurements(tmp_path) == {"task": MEASURED}


@pytest.mark.parametrize(
    ("read", "name", "what"),
    [(read_measurement, "measurement.json", "measurement"), (read_sweep, "sweep.json", "sweep")],
)
def test_what_is_not_there_or_damaged_is_said(tmp_path, read, name, what):
    with pytest.raises(RunError, match=f"has no {what}"):
        read(tmp_path)
    (tmp_path / name).write_text("{")
    with pytest.raises(RunError, match=f"{name} is damaged"):
        read(tmp_path)
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(RunError, match=f"{name} is not a regular file"):
        read(tmp_path)


def test_a_newer_measurement_asks_for_an_update(tmp_path):
    (tmp_path / "measurement.json").write_text(MEASURED.model_copy(update={"schema_version": 9}).model_dump_json())
    with pytest.raises(RunError, match=r"newer semfreeze \(schema 9\)"):
        read_measurement(tmp_path)


def test_measurements_that_version_0_1_0_wrote_open():
    folder = Path(__file__).parent / "written_by_0_1_0"
    validation = read_validation(folder)
    assert (validation.settings.setup.steps, validation.settings.setup.sequence_length) == (24, 2048)
    assert validation.arms["planned"].improvement_kept.estimate == 0.9920936682773203
    assert [depth.freeze_depth for depth in read_sweep(folder).depths] == [0, 7, 15, 20, 22]
