"""Guided finetunes in a run's folder, one folder each: their reports, and what a race knows while it runs."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from semfreeze_core.errors import RunError
from semfreeze_core.records.finetune_report import (
    DECISION,
    FINETUNE_REPORT,
    FINETUNE_SCHEMA_VERSION,
    FinetuneReport,
)
from semfreeze_core.records.race import RACE_FOLDER, RACE_RESULT, Race, RacingVariant
from semfreeze_core.records.rates import RateTrial
from semfreeze_core.records.validation import ArmRun
from semfreeze_core.runs.folder import FINETUNES

_FIRST_SEED, _TRIALS = "-seed0", "trials.json"  # as a validation and its search of rates name them
_Document = TypeVar("_Document", bound=BaseModel)


@dataclass(frozen=True)
class GuidedFinetune:
    """A guided finetune as its folder stands.

    Attributes:
        folder: of the model.
        report: of a finished one, else None.
        race: its result, once the race has ended; None without one.
        racing: the variants of a race that has not ended, lowest loss first.
    """

    folder: Path
    report: FinetuneReport | None
    race: Race | None
    racing: tuple[RacingVariant, ...]


class _Trials(BaseModel):
    """What a reader needs of a search that runs."""

    trials: list[RateTrial]


def list_finetunes(run_folder: Path) -> dict[str, GuidedFinetune]:
    """Every guided finetune of a run that has begun, by its folder's name: the finished ones as they were, then others.

    Raises:
        RunError: a report is damaged or of a newer semfreeze.
    """
    folders = sorted(path.parent for path in (run_folder / FINETUNES).glob(f"*/{DECISION}"))
    finetunes = [read_finetune(folder) for folder in folders]
    return {finetune.folder.name: finetune for finetune in sorted(finetunes, key=_end)}


def _end(finetune: GuidedFinetune) -> tuple[bool, str]:
    report = finetune.report
    return report is None, "" if report is None else report.provenance.created


def read_finetune(folder: Path) -> GuidedFinetune:
    """A guided finetune as its folder stands.

    Raises:
        RunError: its report is damaged or of a newer semfreeze.
    """
    report, race_folder = _report(folder / FINETUNE_REPORT), folder / DECISION / RACE_FOLDER
    if report is not None:
        return GuidedFinetune(folder, report, report.race, ())
    race = _read_if_whole(Race, race_folder / RACE_RESULT)
    return GuidedFinetune(folder, None, race, () if race is not None else _racing(race_folder / "runs"))


def _report(path: Path) -> FinetuneReport | None:
    if not path.exists():
        return None
    report = _read_if_whole(FinetuneReport, path)
    if report is None:
        raise RunError(f"{path} is damaged or from another version of semfreeze. Remove it and run the command again.")
    if report.schema_version > FINETUNE_SCHEMA_VERSION:
        raise RunError(f"{path} was written by a newer semfreeze (schema {report.schema_version}). Update semfreeze.")
    return report


def _racing(runs: Path) -> tuple[RacingVariant, ...]:
    variants = dict[str, RacingVariant]()
    for path in sorted(runs.glob(f"*{_FIRST_SEED}.rates/{_TRIALS}")):
        name = path.parent.name.removesuffix(f"{_FIRST_SEED}.rates").replace("-", ":", 1)
        if (search := _read_if_whole(_Trials, path)) is not None:
            variants[name] = RacingVariant(name, tuple(search.trials))
    for path in sorted(runs.glob(f"*{_FIRST_SEED}.json")):
        if (run := _read_if_whole(ArmRun, path)) is not None:
            trials = () if run.rate_search is None else tuple(run.rate_search.trials)
            loss = run.points[-1].loss if run.points else None
            rate = run.learning_rate if run.status == "done" else None
            variants[run.arm] = RacingVariant(run.arm, trials, True, loss, rate, run.reason)
    return tuple(sorted(variants.values(), key=lambda one: float("inf") if one.loss is None else one.loss))


def _read_if_whole(kind: type[_Document], path: Path) -> _Document | None:
    """A document; None where it is gone, not whole or of another version."""
    with suppress(OSError, ValidationError, UnicodeDecodeError):
        if path.is_file():  # reading a pipe would wait for ever
            return kind.model_validate_json(path.read_text(encoding="utf-8"))
    return None
