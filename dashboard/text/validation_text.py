"""Sentences about real finetunes: what they have shown, what they will take, how far they are."""

from semfreeze_core.records.defaults import MIN_SEEDS
from semfreeze_core.records.sweep import SweepReport
from semfreeze_core.records.validation import ValidationReport
from semfreeze_core.wording.sweep import best_depth_sentences
from semfreeze_core.wording.validation import depth_tested, sample_size, verdict_sentence

INTRODUCTION = (
    "Every variant is trained on the same data in the same order, each in a process of its own, and resumes where it "
    "was interrupted. A verdict needs three seeds."
)
STARTED = "A validation is starting: semfreeze prepares the data and loads the model. Curves follow."
NO_VARIANT_YET = "No variant is finished yet. Curves, shares, tables and answers follow."
QUICK_LOOK = f"A quick look shows whether the plan keeps up; a verdict needs {MIN_SEEDS} seeds."
NO_VERDICT = "Select both full and planned to get a verdict."
NOT_PROGRESSIVE = (
    "progressive freezes {wide} layers at first and the plan's depth later, which has to be more than that; it is "
    "{depth}, so this variant is not trained."
)
OTHER_DATA = "The plan was made from {read}; it may not apply to this dataset."


def validation_sentence(report: ValidationReport | None) -> str:
    """What finetunes have shown of the plan, or that none has."""
    if report is None:
        return "Not measured yet: no finetune has tested this run's plan."
    if not report.arms:
        return f"No result yet: {depth_tested(report)} ({sample_size(report)}). No variant is finished."
    sentences = [f"Measured: {depth_tested(report)} ({sample_size(report)})."]
    sentences += [verdict_sentence(report, budget) for budget in report.verdicts]
    return " ".join([*sentences, *([] if report.finished else ["Not finished."])])


def sweep_sentence(report: SweepReport) -> str:
    """Which swept depth gained most at either budget."""
    if report.reason:
        return report.reason
    best = best_depth_sentences(report)
    if not best:
        return "This sweep has no depth with a result yet."
    return " ".join([*best, *([] if report.finished else ["Not finished."])])
