"""Auditing an existing training script: it runs unchanged for a few steps, is audited, and ends there."""

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


class _AuditDone(BaseException):
    """Ends the script; no Exception, so that a script that catches those does not go on."""


class _AuditOnce(AuditCallback):
    """Ends the script after the audit, or as soon as there can be none.

    Attributes:
        refusal: why there can be none; None when there is a report, or nothing has trained.
    """

    refusal: InputError | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """As AuditCallback; a refusal ends the script, whatever it catches."""
        with self._ending_on_refusal():
            super().on_train_begin(args, state, control, model, **kwargs)

    def on_step_end(
        self, args: Any, state: Any, control: Any, model: Any = None, optimizer: Any = None, **kwargs: Any
    ) -> None:
        """Audit, and then end the script."""
        with self._ending_on_refusal():
            super().on_step_end(args, state, control, model, optimizer, **kwargs)
        if self.report is not None:
            raise _AuditDone

    @contextmanager
    def _ending_on_refusal(self) -> Iterator[None]:
        try:
            yield
        except InputError as error:
            self.refusal = error
            raise _AuditDone from error


def audit_script(
    script: Path, arguments: Sequence[str] = (), plan: FreezePlan | None = None, *, after_steps: int = 2
) -> AuditReport:
    """Run a script until its first transformers Trainer (or one built on it) has made a few steps, and audit that.

    The script runs in this process, with its own folder first on the path as when Python runs it; what it prints goes
    to stderr, and files that it writes remain.

    Args:
        script: a Python file.
        arguments: of its command line.
        plan: what it should train; without one, what requires a gradient should.
        after_steps: optimizer steps before the audit.

    Raises:
        InputError: there is no such file, it failed, or it ended without training.
        ModelError: the model or the run is of a kind that cannot be audited.
    """
    if not script.is_file():
        raise InputError(f"{script}: no such script. Expected a Python file that trains with transformers' Trainer.")
    callback = _AuditOnce(plan, after_steps=after_steps, stop_on_problems=False)
    try:
        with _callback_added(callback), _as_main(script, arguments), redirect_stdout(sys.stderr):
            runpy.run_path(str(script), run_name="__main__")
    except _AuditDone:
        pass
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        if callback.report is None:
            what = f"exit code {error.code}" if isinstance(error, SystemExit) else f"{type(error).__name__}: {error}"
            raise InputError(f"{script} ended before its training could be audited ({what}).") from error
    if callback.refusal is not None:
        raise callback.refusal
    if callback.report is None:
        raise InputError(
            f"{script} ended, but no transformers Trainer trained in it. An audit covers Trainer and what is built on "
            "it, such as TRL's trainers; in another loop call semfreeze_core.audit(model) after a step."
        )
    return callback.report


@contextmanager
def _callback_added(callback: AuditCallback) -> Iterator[None]:
    """Every Trainer created inside the block has the callback."""
    original = Trainer.__init__

    def with_callback(self: Trainer, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        self.add_callback(callback)

    Trainer.__init__ = with_callback  # type: ignore[method-assign]
    try:
        yield
    finally:
        Trainer.__init__ = original  # type: ignore[method-assign]


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
