"""From the flags of `semfreeze validate` and `train` to the finetune's request."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from semfreeze_core.cli.options.finetune import FinetuneFlags, require
from semfreeze_core.cost.setup import options_applied
from semfreeze_core.device import choose_device, trained_precision
from semfreeze_core.errors import InputError
from semfreeze_core.plan.badge import with_badge
from semfreeze_core.plan.document import PLAN, FreezePlan
from semfreeze_core.plan.make import make_plan
from semfreeze_core.records.defaults import RULE
from semfreeze_core.records.fields import FieldMapping
from semfreeze_core.records.options import flag_of
from semfreeze_core.records.training import TrainingSetup
from semfreeze_core.runs.folder import MANIFEST, VALIDATIONS, read_manifest, read_run
from semfreeze_core.runs.plans import read_plan
from semfreeze_core.runs.reports import readable_validations
from semfreeze_core.runs.store import example_run, find_run
from semfreeze_core.sources.models.hub import is_repo_id
from semfreeze_core.storage import runs_folder, user_path

AUTO_RATES = "auto"  # of --lr: every rate that is not given is searched


def variant_list(text: str) -> tuple[str, ...]:
    """Variants from a list with commas; a comma before a number belongs to a set of layers, "layers:0-3,26-29"."""
    return tuple(name.strip() for name in re.split(r",\s*(?!\d)", text) if name.strip())


def parse_rates(text: str) -> dict[str, float]:
    """Learning rates by variant or kind, from "full=1e-4,lora=1e-3"; "auto" gives none.

    Raises:
        InputError: a part is not NAME=NUMBER.
    """
    rates: dict[str, float] = {}
    for part in variant_list(text):
        if part == AUTO_RATES:
            continue
        name, _, number = part.rpartition("=")
        try:
            rates[name.strip()] = float(number)
        except ValueError as error:
            raise InputError(f"--lr {part}: expected NAME=NUMBER, like full=1e-4, or {AUTO_RATES}.") from error
        if not name.strip():
            raise InputError(f"--lr {part}: expected NAME=NUMBER, like full=1e-4.")
    return rates


@dataclass(frozen=True)
class PlanAndData:
    """A plan, and how its data is read.

    Attributes:
        plan: the plan.
        mapping: which fields hold what.
        longest: the analysis's longest example in tokens; None of a plan's file, which does not say.
        add_eos: whether completions end with the tokenizer's EOS.
        run_folder: of the run the plan was made from, or None.
    """

    plan: FreezePlan
    mapping: FieldMapping
    longest: int | None = None
    add_eos: bool = True
    run_folder: Path | None = None


def plan_and_data(source: str, mapping: FieldMapping, rule: str = RULE, depth: int | None = None) -> PlanAndData:
    """The plan, and how its data is read: as in its run's analysis, if there is one and no field is given.

    Args:
        source: a plan's file, a model's folder or hub repository that carries one, or a run.
        mapping: fields given on the command line; they take precedence.
        rule: of a run's plan.
        depth: the user's own depth of a run's plan.

    Raises:
        InputError: neither a plan nor a run.
    """
    path = user_path(source)
    if _is_plan_file(path) or _carries_plan(path) or is_repo_id(source):
        return PlanAndData(read_plan(path), mapping)
    folder = find_run(source)
    manifest = read_manifest(folder)
    plan = make_plan(
        read_run(folder),
        rule="manual" if depth is not None else rule,  # type: ignore[arg-type]  # checked there
        depth=depth,
        run_name=folder.absolute().name,
    )
    plan = with_badge(plan, readable_validations(folder)[0])
    if mapping == FieldMapping():
        mapping = replace(mapping, **manifest.data.mapping)
    return PlanAndData(plan, mapping, manifest.data.max_length, manifest.settings.add_eos, folder)


def finetune_setup(flags: FinetuneFlags, longest: int | None, *, steps: int, train_examples: int) -> TrainingSetup:
    """How the variants of a validation or sweep train: as the flags say, else its defaults.

    Args:
        flags: already checked.
        longest: longest example in tokens where no flag says, or None for the default.
        steps: where all are evaluated.
        train_examples: drawn.

    Raises:
        InputError: a number out of range.
    """
    from semfreeze_core.finetune.validation.request import VALIDATION_SETUP

    counts = {"steps": steps, "train_examples": train_examples}
    require([f"{flag_of(name)} must be at least 1, found {count}" for name, count in counts.items() if count < 1])
    length = flags.max_length or longest or VALIDATION_SETUP.sequence_length
    setup = replace(VALIDATION_SETUP, sequence_length=length, steps=steps, train_examples=train_examples)
    setup = replace(setup, precision=trained_precision(setup.precision, choose_device(flags.device)))
    return options_applied(setup, flags)


def _is_plan_file(path: Path) -> bool:
    """Whether a path can only mean a plan's file, there or not; read_plan says what is wrong with it."""
    return path.suffix == ".json" or (path.exists() and not path.is_dir())


def _carries_plan(folder: Path) -> bool:
    """Whether this is a model's folder that holds a plan; a run's may hold one too."""
    return (folder / PLAN).is_file() and not (folder / MANIFEST).exists()


def default_folder(named: str, run_folder: Path | None, train: str, kind: str = VALIDATIONS) -> Path:
    """Default folder of a validation or sweep: in its run; of the bundled run or a plan, in the store.

    The training set is part of the name, so that a run can have several.
    """
    task = Path(train.removeprefix("sample:").replace(":", "-")).stem
    if run_folder is not None and run_folder != example_run():
        return run_folder / kind / task
    return runs_folder().parent / kind / f"{Path(named).stem}-{task}"
