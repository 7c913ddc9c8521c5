"""Every option of every command changes what it says it changes; one nobody ran would be missing here by name."""

import pytest
import typer

from tests.core.cli.exercises import of_analyze, of_models, of_plans, of_runs  # noqa: F401 - registers them
from tests.core.cli.exercises.registry import EXERCISES, World
from tests.core.cli.test_cli_audit import OPTIONS as AUDIT
from tests.core.cli.training_options import FINETUNE, PILOTS, SWEEP, TRAIN, VALIDATE
from tests.core.cli_app import app
from tests.dashboard.server.test_start import OPTIONS as DASHBOARD

TYPERS_OWN = {"--help", "-h", "--install-completion", "--show-completion"}


@pytest.fixture
def world(models, task, tmp_path, monkeypatch, stored, quick_umap):
    for name in ("tied", "untied"):
        stored(name)
    return World(models, task, tmp_path, monkeypatch)


def by_exercise():
    """Each exercise once, under the names of its options."""
    for show in dict.fromkeys(EXERCISES.values()):
        yield pytest.param(show, id=", ".join(name for name, other in EXERCISES.items() if other is show))


@pytest.mark.quick_cases(8)
@pytest.mark.parametrize("show", list(by_exercise()))
def test_option_does_what_it_says(show, world):
    show(world)


def every_option(command, path=""):
    for parameter in command.params:
        names = {*parameter.opts, *parameter.secondary_opts}
        if all(name.startswith("-") for name in names):
            yield from (f"{path}{name}" for name in names - TYPERS_OWN)
    for name, inner in getattr(command, "commands", {}).items():
        yield from every_option(inner, f"{path}{name} ")


# Commands whose options have a file of exercises beside their own tests: what they ask for would train, or serve.
ELSEWHERE = {
    "audit ": AUDIT,
    "plan ": PILOTS,
    "validate ": VALIDATE,
    "sweep ": SWEEP,
    "train ": TRAIN,
    "finetune ": FINETUNE,
    "dashboard ": DASHBOARD,
}


def test_every_option_is_exercised():
    exercised = set(EXERCISES) | {f"{path}{name}" for path, names in ELSEWHERE.items() for name in names}
    assert exercised == set(every_option(typer.main.get_command(app())))


def test_every_command_explains_every_option():
    def explain(command, path):
        for parameter in command.params:
            if any(name.startswith("-") for name in parameter.opts):
                assert parameter.help, f"{path}{parameter.opts}"
        assert command.help, path
        for name, inner in getattr(command, "commands", {}).items():
            explain(inner, f"{path} {name}")

    explain(typer.main.get_command(app()), "semfreeze")
