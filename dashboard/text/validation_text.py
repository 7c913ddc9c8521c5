"""Sentences about real finetunes: what they have shown, what they will take, how far they are."""

from semfreeze_core.plan.forecast import FinetuneForecast
from semfreeze_core.records.pilots import Measurement
from semfreeze_core.records.sweep import SweepReport
from semfreeze_core.records.validation import LiveArm, ValidationReport
from semfreeze_core.wording.numbers import duration, flop, gib

PROOF = (
    "Every arm is trained for real, on equal data in equal order, each in a process of its own, and goes on where it "
    "was interrupted. A verdict needs three seeds."
)
BEGUN = "A validation has begun: the data is prepared, and the model read before training. Its curves will stand here."
NO_VERDICT = "A verdict needs both arms, full and planned: without them shares are not told."
OTHER_DATA = "The plan was read on {read}. What it says of layers is said of those examples, not of these."


def proof_sentence(report: ValidationReport | None) -> str:
    """What finetunes have shown of the plan, or that none has."""
    if report is None:
        return "No finetune has tested this run's plan yet: what it keeps is predicted, not measured."
    depth = "The plan" if report.freeze_depth is None else f"Freezing {report.freeze_depth} of {report.n_layers} layers"
    done = "" if report.finished else " Not finished yet."
    return f"{depth} {report.verdict} at equal {report.settings.budget}: {report.reason}.{done}"


def sweep_sentence(report: SweepReport) -> str:
    """Which swept depth gained most at either budget."""
    if report.reason:
        return report.reason
    best = [
        f"freezing {depth} of {report.n_layers} layers gained most at equal {budget}"
        for budget, depth in report.best_depth.items()
        if depth is not None
    ]
    if not best:
        return "This sweep has no depth with a result yet."
    told = " and ".join(best)
    done = "" if report.finished else " Not finished yet."
    return f"Of {len(report.depths)} depths finetuned for real, {told}.{done}"


def pilots_sentence(measured: Measurement) -> str:
    """What pilots decided, and what that took."""
    share = f"{100 * measured.spent_flop / measured.full_flop:.0f} % of one full finetune of {measured.steps} steps"
    if measured.freeze_depth is None:
        return f"Pilots, which took {share}, decide nothing."
    return f"Pilots, which took {share}, decide for freezing {measured.freeze_depth} of {measured.n_layers} layers."


def forecast_words(forecast: FinetuneForecast, whose_rate: str) -> str:
    """What finetunes will take, before they start."""
    time = "no rate is known to tell the time by"
    if forecast.seconds is not None:
        time = f"about {duration(forecast.seconds)} at the rate {whose_rate}, eval readings left out"
    return (
        f"Predicted: {flop(forecast.flop)}, {time}; at most {gib(forecast.peak_bytes)} at once, which full finetuning "
        "takes (projected; when memory runs out, fewer examples at a time)."
    )


def live_words(arm: LiveArm) -> str:
    """How far an arm in training is, how fast, and what it takes."""
    trained = arm.seconds - arm.cache_seconds
    pace = f", {trained / arm.step:.2f} s a step" if arm.step else ""
    loss = "" if arm.train_loss is None else f", train loss {arm.train_loss:.3f}"
    far = f"{arm.arm} (seed {arm.seed}): step {arm.step} of {arm.total_steps}"
    return f"{far}{pace}{loss}, peak {gib(arm.peak_bytes)} so far."
