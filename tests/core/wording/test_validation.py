"""A validation shows both bases with their labels, and whether a depth was measured comes from the validations."""

from semfreeze_core.records.interval import IntervalEntry
from semfreeze_core.records.training import DepthSwitch
from semfreeze_core.wording import validation as wording


def changed(report, name, **update):
    arm = report.arms[name].model_copy(update=update)
    return report.model_copy(update={"arms": report.arms | {name: arm}})


def test_verdicts_show_both_bases_with_their_labels(validation):
    heading, steps, compute = wording.verdict_lines("mine", validation)
    assert heading == "Measured in validation mine (freeze 19 of 30 layers; 128 eval examples, 3 seeds):"
    assert steps == "Same steps: pass. 100% of full finetuning's loss reduction (95% CI 99–101%; required: 95%)."
    assert compute.startswith("Same compute: pass. 100% of full finetuning's loss reduction")


def test_a_verdict_is_made_from_the_reports_numbers_and_not_from_its_prose(validation):
    prose = validation.model_copy(update={"reasons": dict.fromkeys(validation.reasons, "old words")})
    assert wording.verdict_lines("mine", prose) == wording.verdict_lines("mine", validation)


def test_an_inconclusive_verdict_says_what_is_missing(validation):
    open_ = validation.model_copy(update={"verdicts": {"steps": "undecided"}})
    assert wording.verdict_sentence(open_, "steps").endswith("add seeds or eval examples.")
    for name in ("full", "planned"):
        open_ = changed(open_, name, seeds=[0])
    assert wording.verdict_sentence(open_, "steps").endswith("A verdict needs 3 seeds.")
    nothing = IntervalEntry(estimate=None, low=None, high=None)
    flat = changed(open_, "planned", improvement_kept=nothing)
    assert "is not significant, so there is nothing to compare with" in wording.verdict_sentence(flat, "steps")


def test_a_verdict_without_both_variants_gives_the_reports_reason(validation):
    alone = validation.model_copy(
        update={"arms": {}, "verdicts": {"steps": "undecided"}, "reasons": {"steps": "no finished run of full"}}
    )
    assert wording.verdict_sentence(alone, "steps") == "Same steps: inconclusive. No finished run of full."


def test_a_depth_is_measured_only_where_a_finished_validation_tested_it(validation):
    reports = {"mine": validation}
    assert wording.measured_lines(reports, 19, 30)[0].startswith("Measured in validation mine")
    assert wording.measured_lines(reports, 3, 30) == [
        "Not measured yet: no finished validation of this run tested freezing 3 of 30 layers. Validated depths: 19."
    ]
    unfinished = {"mine": validation.model_copy(update={"finished": False})}
    assert wording.measured_lines(unfinished, 19, 30) == [
        "Not measured yet: no finished validation of this run tested freezing 19 of 30 layers."
    ]


def test_short_verdicts_label_each_share(validation):
    assert wording.short_verdicts(validation) == (
        "depth 19: 100% [99, 101] same steps (pass), 100% [100, 101] same compute (pass)"
    )


def failed(report, name, *runs, reason):
    """The report with a failed variant; its runs are (seed, cause)."""
    one = next(run for run in report.runs if run.arm == name)
    others = [run for run in report.runs if run.arm != name]
    ended = [one.model_copy(update={"seed": s, "status": "failed", "cause": c, "reason": reason}) for s, c in runs]
    report = report.model_copy(update={"runs": [*others, *ended]})
    return changed(report, name, seeds=[], failed_seeds=[seed for seed, _ in runs], reason=reason)


def test_failed_variants_are_named_with_the_reason_and_the_remedy(validation):
    assert wording.failed_variants_sentence(validation) is None
    n = len(validation.arms)
    short = failed(validation, "full", (0, "resources"), (2, "resources"), reason=f"No memory. {wording.RETRIED}")
    assert wording.failed_variants_sentence(short) == (
        f"1 of {n} variants failed: full, seeds 0, 2 (No memory). Finished variants are kept. The same command trains "
        "the failed ones again."
    )
    both = failed(short, "planned", (1, "diverged"), reason="the loss was nan")
    sentence = wording.failed_variants_sentence(both)
    assert sentence.startswith(f"2 of {n} variants failed: full, seeds 0, 2 (No memory); planned, seed 1 (the loss was")
    assert sentence.endswith("choose a lower --lr and another --out.")
    assert "The same command trains" in sentence
    alone = failed(validation, "planned", (1, "diverged"), reason="the loss was nan")
    assert "The same command" not in wording.failed_variants_sentence(alone)


def test_a_variant_that_freezes_deeper_shows_both_depths_and_when(validation):
    assert wording.quality_caption(validation).endswith("Same steps: 40.")
    switched = changed(validation, "half", freeze_depth=7, switch=DepthSwitch(7, 20, 20))
    table = wording.quality_table(switched).dicts()
    assert [row["frozen"] for row in table if row["variant"] == "half"] == ["7, then 20"]
    assert wording.quality_caption(switched).endswith(" half freezes 7 layers for 20 steps, then 20.")


def test_tables_of_a_validation_have_a_row_for_every_variant(validation):
    quality, cost = wording.quality_table(validation), wording.arm_cost_table(validation)
    assert [row[0] for row in quality.rows] == ["before training", *validation.arms]
    assert [row[0] for row in cost.rows] == list(validation.arms)
    planned = quality.dicts()[2]
    assert planned["loss reduction, same steps"] == "100% [99, 101]"
    assert planned["loss reduction, same compute"] == "100% [100, 101]"
    assert "allocator and runtime overhead not included" in wording.arm_cost_caption(validation)


def test_evidence_gives_each_share_with_its_label_and_else_which_depths_have_any(validation):
    reports = {"mine": validation}
    assert wording.evidence_text("measured", reports, 19) == (
        "Same steps: 100% [99, 101] of full finetuning's loss reduction, pass. Same compute: 100% [100, 101], pass. "
        "95% CI, 128 eval examples, 3 seeds."
    )
    assert wording.evidence_text("estimated", reports, 3) == "No finetune has confirmed it. Validated depths: 19."
    assert wording.evidence_text("checked", {}, 3) == "Short finetunes of several variants chose it."
