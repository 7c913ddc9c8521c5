"""What an arm leaves beside its result while it trains."""

import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from semfreeze_core.finetune.arm.progress_file import live_path
from semfreeze_core.records.validation import LIVE

RECORDED = "recorded.json"  # in a checkpoint by time, written last
TRIALS = "trials.json"  # of a search, with the best one's rate


def rates_folder(result: Path) -> Path:
    """The folder of the trials that search the rate of the arm whose result will be `result`."""
    return result.with_suffix(".rates")


def trial_folder(rates: Path, rate: float) -> Path:
    """The folder of a rate's checkpoints among the trials."""
    return rates / f"{rate:g}"


def checkpoint_folder(result: Path) -> Path:
    """The folder of the last step's checkpoint of the arm whose result is `result`, where it is kept."""
    return result.with_suffix(".checkpoints")


def saves_folder(result: Path) -> Path:
    """The folder of the checkpoints by time of the arm whose result will be `result`."""
    return result.with_suffix(".saves")


def remove_unfinished(result: Path) -> None:
    """Delete what a finished arm would have gone on from; the last step's checkpoint stays, where it is kept."""
    live_path(result).unlink(missing_ok=True)
    for folder in (rates_folder(result), saves_folder(result)):
        shutil.rmtree(folder, ignore_errors=True)


def remove_all(runs: Path) -> None:
    """Delete the results in a folder and all that is beside them."""
    for path in runs.glob("*.json"):
        path.unlink()
    for path in runs.glob(f"*{LIVE}"):  # of arms without a result
        path.unlink()
    for folder in (rates_folder, saves_folder, checkpoint_folder):
        for path in runs.glob(folder(Path("*")).name):
            shutil.rmtree(path, ignore_errors=True)


def to_go_on_from(result: Path) -> list[Path]:
    """The files from which another process would go on with the arm whose result will be `result`.

    They are whole: nothing is written into them any more, though they may be deleted.
    """
    files: list[Path] = []
    with suppress(OSError, ValueError):
        rates = rates_folder(result)
        state = json.loads((rates / TRIALS).read_text())
        files.append(rates / TRIALS)
        if state["best"] is not None:
            files += _below(trial_folder(rates, state["best"]["rate"]))
    saves = [path.parent for path in saves_folder(result).glob(f"checkpoint-*/{RECORDED}")]
    if saves:
        files += _below(max(saves, key=lambda path: int(path.name.partition("-")[2])))
    return files


def _below(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())
