"""Plans as files."""

from pathlib import Path

from semfreeze_core.errors import PlanError
from semfreeze_core.plan.document import PLAN, FreezePlan, parse_plan
from semfreeze_core.sources.models.hub import hub_file, is_repo_id


def read_plan(source: Path | str) -> FreezePlan:
    """A plan from its JSON file, from the folder of a model that carries one, or from such a hub repository.

    Args:
        source: a file, a folder, or owner/name.

    Raises:
        PlanError: no such file, not text, or not a plan.
        InputError: the hub does not have it.
    """
    path = Path(source)
    if path.suffix != ".json" and is_repo_id(str(source)):
        path = hub_file(str(source), PLAN)
    elif path.is_dir():
        path = path / PLAN
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise PlanError(f"{path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise PlanError(f"{path} is not a semfreeze plan: it is not UTF-8 text.") from error
    return parse_plan(text, where=str(path))


def require_plan_path(path: Path) -> None:
    """Refuse to write a plan over anything but a plan or an empty file.

    Raises:
        PlanError: naming what exists there.
    """
    try:
        if not path.exists():
            return
        if path.is_file():  # reading a device might never end
            if path.stat().st_size:
                read_plan(path)
            return
    except OSError as error:
        raise PlanError(f"{path} cannot be written: {error.strerror}.") from error
    except PlanError as error:
        raise PlanError(_refusal(path)) from error
    raise PlanError(_refusal(path))


def _refusal(path: Path) -> str:
    return f"{path} already exists and is not a plan, so it is not replaced. Choose another --out."
