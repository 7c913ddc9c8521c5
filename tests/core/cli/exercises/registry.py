"""What shows that options do what they say: a place to register it, and the world it works in."""

from semfreeze_core.errors import ModelError
from tests.core.cli.terminal import ask
from tests.core.runs.tiny_run import task_rows, write_jsonl

EXERCISES = {}
_usual = {}  # what analyze says of the untied model and the task without an option, by model; read once a process


def exercise(*names):
    """Register a function of the world as what shows that these options ("command --flag") do what they say."""

    def register(function):
        for name in names:
            assert name not in EXERCISES, name
            EXERCISES[name] = function
        return function

    return register


class World:
    """What the exercises work with.

    Attributes:
        models: folder of tiny models.
        task: the task file.
        tmp: the test's own folder.
        patch: monkeypatch.
    """

    def __init__(self, models, task, tmp, patch):
        self.models, self.task, self.tmp, self.patch = models, task, tmp, patch

    def analyze(self, *args, model=None, data=None, plain=("--dtype", "float32", "--device", "cpu", "--quiet")):
        return ask("analyze", "--model", model or self.models / "untied", "--data", data or self.task, *plain, *args)

    def read(self, *args, **where):
        return self.analyze("--json", *args, **where).json

    def usual(self):
        """What `read` says without an option, for comparison; the run itself may lie in another test's folder."""
        if self.models not in _usual:
            _usual[self.models] = self.read()
        return _usual[self.models]

    def columns(self, **names):
        """The task with its columns renamed, as a file."""
        rows = [{names.get(key, key): value for key, value in row.items()} for row in task_rows()]
        return write_jsonl(self.tmp / "renamed.jsonl", rows)

    def stop_at(self, module, name):
        """Stop the command where it calls `name`; returns the arguments it was called with once it was."""
        arguments = {}

        def stop(*args, **kwargs):
            arguments.update(kwargs, arguments=args)
            raise ModelError("stopped")

        self.patch.setattr(f"{module}.{name}", stop)
        return arguments
