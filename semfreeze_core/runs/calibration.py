"""Every validation and sweep of the store, as predictions next to measurements."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from semfreeze_core.errors import RunError
from semfreeze_core.gains.calibration import calibrate
from semfreeze_core.records.prediction_error import (
    Calibration,
    CalibrationReport,
    PredictedMeasured,
    Quantity,
)
from semfreeze_core.records.sweep import SWEEP
from semfreeze_core.records.validation import REPORT, ValidationReport
from semfreeze_core.runs.folder import SWEEPS, VALIDATIONS
from semfreeze_core.runs.reports import read_sweep, read_validation
from semfreeze_core.runs.store import example_run
from semfreeze_core.storage import runs_folder


def read_calibration(runs: Path | None = None) -> CalibrationReport:
    """Predicted against measured over everything kept in the runs of a folder, and beside it.

    Args:
        runs: folder of the runs; default the store's. Results of plans and of the bundled run lie next to it.
    """
    runs = (runs_folder() if runs is None else runs).resolve()  # "." has neither a name nor a parent
    return _calibration({folder: str(folder.relative_to(runs.parent)) for folder in _finetunes(runs)})


def bundled_calibration() -> CalibrationReport:
    """Predicted against measured in the bundled run's validation and sweep, apart from a person's own finetunes."""
    run = example_run()
    folders = [folder for kind in (VALIDATIONS, SWEEPS) for folder in _with_reports(run, f"{kind}/*")]
    return _calibration({folder: f"example/{folder.relative_to(run)}" for folder in folders})


def _calibration(folders: Mapping[Path, str]) -> CalibrationReport:
    """Predicted against measured in folders of finetunes, by what to call them."""
    pairs, problems = list[PredictedMeasured](), list[str]()
    for folder, name in folders.items():
        try:
            pairs += _pairs(folder, name)
        except RunError as error:
            problems.append(str(error))
    return CalibrationReport(calibrations=calibrate(pairs), pairs=pairs, problems=problems)


def coverage_calibration(report: CalibrationReport) -> Calibration | None:
    """That of the coverage at equal steps, which is what R(k) predicts."""
    return next((entry for entry in report.calibrations if entry.quantity == "coverage at equal steps"), None)


def _finetunes(runs: Path) -> Iterator[Path]:
    """Folders of validations and sweeps with a report."""
    for kind in (VALIDATIONS, SWEEPS):
        for parent, pattern in ((runs, f"*/{kind}/*"), (runs.parent, f"{kind}/*")):
            folders = _with_reports(parent, pattern)
            yield from (f for f in folders if not any(part.startswith(".") for part in f.relative_to(parent).parts))


def _with_reports(parent: Path, pattern: str) -> list[Path]:
    """Folders below another with a validation's report, a sweep's, or both."""
    return sorted({path.parent for report in (REPORT, SWEEP) for path in parent.glob(f"{pattern}/{report}")})


def _pairs(folder: Path, name: str) -> Iterator[PredictedMeasured]:
    if (folder / REPORT).exists():
        report = read_validation(folder)
        yield from _arm_pairs(report, name)
        if not (folder / SWEEP).exists():
            yield from _planned_pairs(report, name)
    if (folder / SWEEP).exists():
        yield from _sweep_pairs(folder, name)


def _arm_pairs(report: ValidationReport, name: str) -> Iterator[PredictedMeasured]:
    full = report.arms.get("full")
    for arm_name, arm in report.arms.items():
        if not arm.seeds:
            continue
        values: list[tuple[Quantity, float | None, float | None]] = [
            ("memory", arm.peak_bytes.predicted, arm.peak_bytes.measured),
            ("FLOP", arm.flop.predicted, arm.flop.counted),
        ]
        if full is not None and full.seeds and full.train_seconds > 0 and arm is not full:
            values.append(("seconds", arm.relative_flop, arm.train_seconds / full.train_seconds))
        yield from _known(name, arm_name, values)


def _planned_pairs(report: ValidationReport, name: str) -> Iterator[PredictedMeasured]:
    planned = report.arms.get("planned")
    if planned is not None and report.finished:
        predicted = report.predicted_gain_coverage
        yield from _known(
            name,
            "planned",
            [
                ("coverage at equal steps", predicted, planned.improvement_kept.estimate),
                ("coverage at equal compute", predicted, planned.improvement_kept_compute.estimate),
            ],
        )


def _sweep_pairs(folder: Path, name: str) -> Iterator[PredictedMeasured]:
    sweep = read_sweep(folder)
    for depth in sweep.depths if sweep.finished else ():
        if depth.freeze_depth:
            yield from _known(
                name,
                f"depth:{depth.freeze_depth}",
                [
                    ("coverage at equal steps", depth.gain_coverage, depth.share.get("steps")),
                    ("coverage at equal compute", depth.gain_coverage, depth.share.get("compute")),
                ],
            )


def _known(
    name: str, arm: str, values: list[tuple[Quantity, float | None, float | None]]
) -> Iterator[PredictedMeasured]:
    """Those of which both numbers are there."""
    for quantity, predicted, measured in values:
        if predicted is not None and measured is not None and (measured > 0 or quantity.startswith("coverage")):
            yield PredictedMeasured(
                quantity=quantity, finetune=name, arm=arm, predicted=float(predicted), measured=float(measured)
            )
