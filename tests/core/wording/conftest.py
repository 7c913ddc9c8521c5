"""The bundled run, its validation and its sweep: real records to put into words."""

import pytest

from semfreeze_core.runs.folder import read_run
from semfreeze_core.runs.reports import list_sweeps, list_validations
from semfreeze_core.runs.store import example_run


@pytest.fixture(scope="session")
def run():
    return read_run(example_run())


@pytest.fixture(scope="session")
def validation():
    return list_validations(example_run())["sentence_to_json_train"]


@pytest.fixture(scope="session")
def sweep():
    return list_sweeps(example_run())["sentence_to_json_train"]
