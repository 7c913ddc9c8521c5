"""Auditing somebody's own training script: it runs as it is, is looked at after a few steps, and ends there."""

import runpy
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from transformers import Trainer

from semfreeze_core.errors import InputError
from semfreeze_core.finetune.audit.audit import AuditReport
from semfreeze_core.finetune.audit.callbacks import AuditCallback
from semfreeze_core.plan.document import FreezePlan


class _Seen(BaseException):
    """Ends the script; no Exception, so that a script that catches those does not go on."""


class _Look(AuditCallback):
    """An audit after which nothing else is wanted of the run."""

    def on_step_end(
        self, args: Any, state: Any, control: Any, model: Any = None, optimizer: Any = None, **kwargs: Any
    ) -> None:
        """Audit, and then end the script.

        Raises:
            ModelError: as AuditCallback.
        """
        super().on_step_end(args, state, control, model, optimizer, **kwargs)
        if self.report is not None:
            raise _Seen


def audit_script(
    script: Path, arguments: Sequence[str] = (), plan: FreezePlan | None = None, *, after_steps: int = 2
) -> AuditReport:
    """Run a script until its first transformers Trainer (or one built on it) has made a few steps, and audit that.

    The script runs in this process, with its own folder first on the path as when Python runs it; what it prints goes
    to stderr, and what it writes up to there it has written.

    Args:
        script: a Python file.
        arguments: of its command line.
        plan: what it should train; without one, what requires a gradient should.
        after_steps: optimizer steps before the look.

    Raises:
        InputError: there is no such file, it failed, or it ended without training.
        ModelError: the model or the run is of a kind that cannot be audited.
    """
    if not script.is_file():
        raise InputError(f"{script}: no such script. Expected a Python file that trains with transformers' Trainer.")
    look = _Look(plan, after_steps=after_steps, stop_on_problems=False)
    try:
        with _watched(look), _as_main(script, arguments), redirect_stdout(sys.stderr):
            runpy.run_path(str(script), run_name="__main__")
    except _Seen:
        pass
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        if look.report is None:
            what = f"exit code {error.code}" if isinstance(error, SystemExit) else f"{type(error).__name__}: {error}"
            raise InputError(f"{script} ended before its training could be seen ({what}).") from error
    if look.report is None:
        raise InputError(
            f"{script} ended, and no transformers Trainer has trained in it. An audit sees Trainer and what is built "
            "on it, as TRL's are; in another loop call semfreeze_core.audit(model) after a step."
        )
    return look.report


@contextmanager
def _watched(look: AuditCallback) -> Iterator[None]:
    """Every Trainer that is made meanwhile carries the callback."""
    own = Trainer.__init__

    def made(self: Trainer, *args: Any, **kwargs: Any) -> None:
        own(self, *args, **kwargs)
        self.add_callback(look)

    Trainer.__init__ = made  # type: ignore[method-assign]
    try:
        yield
    finally:
        Trainer.__init__ = own  # type: ignore[method-assign]


@contextmanager
def _as_main(script: Path, arguments: Sequence[str]) -> Iterator[None]:
    """The command line and path that the script would find."""
    argv, path = sys.argv, list(sys.path)
    sys.argv = [str(script), *arguments]
    sys.path.insert(0, str(script.resolve().parent))
    try:
        yield
    finally:
        sys.argv, sys.path[:] = argv, path
