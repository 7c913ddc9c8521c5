"""What an arm leaves beside its result while it trains."""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

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
