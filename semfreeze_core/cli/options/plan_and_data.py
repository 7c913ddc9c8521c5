"""From the flags of `semfreeze validate` and `train` to what the finetune is asked for."""

from dataclasses import replace
from pathlib import Path

from semfreeze_core.errors import InputError
from semfreeze_core.plan.document import PLAN, FreezePlan
from semfreeze_core.plan.make import make_plan
from semfreeze_core.runs.folder import MANIFEST, VALIDATIONS, read_manifest, read_run
from semfreeze_core.runs.plans import read_plan
from semfreeze_core.runs.store import example_run, find_run
from semfreeze_core.sources.data.fields import FieldMapping
from semfreeze_core.sources.models.hub import is_repo_id
from semfreeze_core.storage import runs_folder, user_path

_LENGTH = 2048


def parse_rates(text: str) -> dict[str, float]:
    """Learning rates by variant or kind, from "full=1e-4,lora=1e-3".

    Raises:
        InputError: a part is not NAME=NUMBER.
    """
    rates: dict[str, float] = {}
    for part in (p.strip() for p in text.split(",")):
        if not part:
            continue
        name, _, number = part.rpartition("=")
        try:
            rates[name.strip()] = float(number)
        except ValueError as error:
            raise InputError(f"--lr {part}: expected NAME=NUMBER, like full=1e-4.") from error
        if not name.strip():
            raise InputError(f"--lr {part}: expected NAME=NUMBER, like full=1e-4.")
    return rates


def plan_and_data(
    named: str, mapping: FieldMapping, max_length: int | None, rule: str, depth: int | None
) -> tuple[FreezePlan, FieldMapping, int, bool, Path | None]:
    """The plan, and how its data is read: as its run read it, where there is one and nothing else is said.

    Args:
        named: a plan's file, a model's folder or hub repository that carries one, or a run.
        mapping: fields said on the command line; they go first.
        max_length: likewise.
        rule: of a run's plan.
        depth: the user's own depth of a run's plan.

    Returns:
        Plan, mapping, longest example, whether to add EOS, and the run's folder or None.

    Raises:
        InputError: neither a plan nor a run.
    """
    path = user_path(named)
    if path.is_file() or _carries_plan(path) or is_repo_id(named):
        return read_plan(path), mapping, max_length or _LENGTH, True, None
    folder = find_run(named)
    manifest = read_manifest(folder)
    plan = make_plan(
        read_run(folder),
        rule="manual" if depth is not None else rule,  # type: ignore[arg-type]  # checked there
        depth=depth,
        run_name=folder.absolute().name,
    )
    if mapping == FieldMapping():
        mapping = replace(mapping, **manifest.data.mapping)
    return plan, mapping, max_length or manifest.data.max_length, manifest.settings.add_eos, folder


def _carries_plan(folder: Path) -> bool:
    """Whether this is a model's folder with a plan beside its weights; a run's may hold one too."""
    return (folder / PLAN).is_file() and not (folder / MANIFEST).exists()


def default_folder(named: str, run_folder: Path | None, train: str, kind: str = VALIDATIONS) -> Path:
    """Where a validation or sweep is kept when nothing is said: in its run; of the shipped run or a plan, in the store.

    The training set is part of the name, so that several can stand beside each other.
    """
    task = Path(train.removeprefix("sample:").replace(":", "-")).stem
    if run_folder is not None and run_folder != example_run():
        return run_folder / kind / task
    return runs_folder().parent / kind / f"{Path(named).stem}-{task}"
