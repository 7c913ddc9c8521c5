"""Plans as files."""

from pathlib import Path

from semfreeze_core.errors import PlanError
from semfreeze_core.plan.document import PLAN, FreezePlan, parse_plan
from semfreeze_core.sources.models.hub import hub_file, is_repo_id


def read_plan(place: Path | str) -> FreezePlan:
    """A plan from its JSON file, from the folder of a model that carries one, or from such a hub repository.

    Args:
        place: a file, a folder, or owner/name.

    Raises:
        PlanError: no such file, not text, or not a plan.
        InputError: the hub does not have it.
    """
    path = Path(place)
    if path.suffix != ".json" and is_repo_id(str(place)):
        path = hub_file(str(place), PLAN)
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
        PlanError: saying what stands there.
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
        raise PlanError(_in_the_way(path)) from error
    raise PlanError(_in_the_way(path))


def _in_the_way(path: Path) -> str:
    return f"{path} is there already and is no plan, so it is not replaced. Choose another --out."
