"""Plans as files."""

import json
from pathlib import Path

from semfreeze_core.errors import PlanError
from semfreeze_core.plan.document import PLAN, FreezePlan, located_plan, parse_plan
from semfreeze_core.records.finetune_report import TRAINING_RESULT
from semfreeze_core.records.rates import KnownRate
from semfreeze_core.sources.models.hub import hub_file, is_repo_id

_LARGEST = 2**24  # bytes
_WAY_OUT = f"Give a {PLAN} that semfreeze plan --out wrote, or a model's folder that contains one."


def read_plan(source: Path | str) -> FreezePlan:
    """A plan from its JSON file, from the folder of a model that carries one, or from such a hub repository.

    Args:
        source: a file, a folder, or owner/name.

    Raises:
        PlanError: no such file, no regular file, too large, not text, or not a plan.
        InputError: the hub does not have it.
    """
    path = Path(source)
    if path.suffix != ".json" and is_repo_id(str(source)):
        path = hub_file(str(source), PLAN)
    try:
        if path.is_dir():
            path = path / PLAN
            if not path.exists():
                raise PlanError(f"{path.parent} contains no {PLAN}. {_WAY_OUT}")
        if not path.exists():
            raise PlanError(f"{path} does not exist. {_WAY_OUT}")
        if not path.is_file():  # reading a pipe or a device might never end
            raise PlanError(f"{path} is not a file, and a plan is one. {_WAY_OUT}")
        if (size := path.stat().st_size) > _LARGEST:
            raise PlanError(f"{path} is not a semfreeze plan: it has {size / 2**20:,.0f} MiB, and a plan less than 1.")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise PlanError(f"{path} cannot be read: {error.strerror}. {_WAY_OUT}") from error
    except UnicodeDecodeError as error:
        raise PlanError(f"{path} is not a semfreeze plan: it is not UTF-8 text.") from error
    return located_plan(parse_plan(text, where=str(path)), path.parent)


def trained_rate(folder: Path) -> KnownRate | None:
    """The learning rate that a trained model's folder was trained at; None where that is not written there."""
    try:
        rate = json.loads((folder / TRAINING_RESULT).read_text(encoding="utf-8"))["learning_rate"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return KnownRate(rate, "the one at which this model was trained") if isinstance(rate, float) else None


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
