"""Plans as files."""

from pathlib import Path

from semfreeze_core.errors import PlanError
from semfreeze_core.plan.document import FreezePlan, parse_plan


def read_plan(path: Path) -> FreezePlan:
    """A plan from its JSON file.

    Raises:
        PlanError: no such file, not text, or not a plan.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise PlanError(f"{path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise PlanError(f"{path} is not a semfreeze plan: it is not UTF-8 text.") from error
    return parse_plan(text, where=str(path))
