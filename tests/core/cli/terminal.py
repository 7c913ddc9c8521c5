"""The command line as a person meets it: exit code, stdout, stderr."""

import json
from typing import Any, NoReturn

from typer.testing import CliRunner

from tests.core.cli_app import app


class Answer:
    """What one command answered.

    Attributes:
        code: the exit code.
        out: stdout.
        err: stderr.
    """

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        """The one document on stdout."""
        assert self.code == 0, self.err
        return json.loads(self.out, parse_constant=_no_constant)

    @property
    def refusal(self) -> str:
        """The one message of a refusal, after checking that it is one: exit 2, nothing on stdout, one line."""
        assert self.code == 2, (self.code, self.out, self.err)
        assert self.out == ""
        assert "Traceback" not in self.err
        (line,) = self.err.strip().splitlines()
        assert line.startswith("semfreeze: ")
        return line.removeprefix("semfreeze: ")

    @property
    def usage_error(self) -> str:
        """The message of a command that was not understood, its frame and line breaks taken away."""
        assert self.code == 2, (self.code, self.out, self.err)
        assert self.out == ""
        assert "Traceback" not in self.err
        return " ".join(self.err.replace("│", " ").split())


def _no_constant(name: str) -> NoReturn:
    raise AssertionError(f"{name} is not JSON")


def ask(*args: object, stdin: str | None = None) -> Answer:
    """Run a command in this process; an exception that is not the command line's own is raised here."""
    result = CliRunner().invoke(app(), [str(a) for a in args], input=stdin, catch_exceptions=False)
    return Answer(result.exit_code, result.stdout, result.stderr)
