"""Numbers and lists that pages write out are those of the defaults and registries."""

import re

import pytest

from semfreeze_core import example_run, read_run
from semfreeze_core.cost.flops import ATTENTION_GRADIENT
from semfreeze_core.cost.speed import utilization_range
from semfreeze_core.plan.decide import RULES
from semfreeze_core.records import defaults as d
from semfreeze_core.records.scores import SCORE_NAMES
from semfreeze_core.wording.rates import learning_rate
from tests.docs.pages import README, ROOT, commands, prose

METHOD, READING, SCALING, TRAINING, CHOOSING, COST, FINETUNE, RACE, EXPORTERS = (
    ROOT / "docs" / f"{name}.md"
    for name in (
        *("method", "understanding-results", "scaling", "training", "choosing-depth-and-rate", "costs-and-memory"),
        *("finetune", "race", "exporters"),
    )
)
CI = f"{100 * d.CONFIDENCE:g}%"
MARGIN = f"{100 * d.MARGIN:g}%"
FIRST, LAST = d.PICK_PERCENTILES
WRITTEN = {
    README: [
        f"the plan keeps full finetuning's loss reduction within {MARGIN} at one-sided {CI} confidence",
        f"the lower end of the {100 * (2 * d.CONFIDENCE - 1):g}% interval",
        f"plans of under {d.FEW_EXAMPLES} examples",
    ],
    METHOD: [
        f"Up to {d.POSITIONS} positions",
        f"{CI} percentile intervals of {d.BOOTSTRAP_REPLICATES:,} bootstrap replicates",
        f"R^2 is below {d.MIN_LAW_R_SQUARED:g}",
        f"a difference at {CI}",
        f"Up to {d.NULL_PAIRS} prompts",
        f"in {100 - d.SCORE_PERCENTILE:g}% of replicates",
        f"w = {d.COVERAGE_WEIGHT:g}, tau = {d.TAU:g}.",
        f"M = {d.DATA_MULTIPLE},",
        f"M = {d.DATA_MULTIPLES[0]} and M = {d.DATA_MULTIPLES[-1]}",
        f"`--pilot-budget` ({d.PILOT_BUDGET:g})",
        f"more than {d.MANY_EPOCHS} times",
        f"less than R^2 = {d.MIN_R_SQUARED:g} of it",
        f"from its {FIRST}th to its {LAST}th percentile",
        f"I_planned - {1 - d.MARGIN:g} I_full",
        f"the {100 * (2 * d.CONFIDENCE - 1):g}% interval",
        f"fewer than {d.MIN_SEEDS} seeds",
        f"fewer than {d.LEAST_BIGRAM_COVERAGE:g} of the token pairs",
    ],
    READING: [
        f"the {CI} bootstrap",
        f"{LAST - FIRST}% range",
        f"fewer than {d.MIN_SLICE} examples",
    ],
    SCALING: [
        f"{d.EXAMPLES} are drawn by default",
        f"Fewer than {d.MIN_EXAMPLES} are refused",
        f"up to {d.NULL_PAIRS} examples",
    ],
    TRAINING: [
        f"more than {d.MANY_EPOCHS} times",
    ],
    CHOOSING: [
        f"`--pilot-budget`, {d.PILOT_BUDGET:.0%}",
        f"under {d.FEW_EXAMPLES} examples",
        f"{d.RATE_STEPS} steps or a third",
        f"same {d.CURVE_EXAMPLES} eval examples",
        f"after {d.WIDE_STEPS} steps, or after half of a finetune that has fewer than {2 * d.WIDE_STEPS}",
    ],
    FINETUNE: [
        f"{d.HELD_OUT:.0%} of the rows",
        f"| {d.EPOCHS} epochs |",
        f"| `--batch-size` | {d.BATCH_SIZE} |",
        f"At least {d.HELD_OUT_ROWS[0] + d.MIN_EXAMPLES} usable rows",
        f"in {d.BIGRAM_COMPLETIONS} training completions",
        f"first {d.RACE_STEPS} steps",
        f"at most {d.RACE_ROWS[1]}.",
        f"| `--accuracy-examples` | {d.ACCURACY_ROWS} |",
        f"at most {d.MAX_LENGTH} |",
    ],
    RACE: [
        f"within {MARGIN} of the best one's with {d.RACE_CONFIDENCE:.0%} confidence",
        f"below {d.MIN_RACED_STEPS} steps, with fewer than {d.RACE_ROWS[0]} eval examples",
        f"likely costs more than {d.RACE_WINS:.0%} of what the deep variant saves",
        f"600 steps are rows x {1 - d.HELD_OUT:g} x {d.EPOCHS} / {d.BATCH_SIZE}",
        f"fewer than {d.LEAST_BIGRAM_COVERAGE:g} of the token pairs",
    ],
    EXPORTERS: [
        "an untuned default ({}, LoRA {})".format(*(learning_rate(d.LEARNING_RATES[k]) for k in ("frozen", "lora"))),
    ],
    COST: [
        f"C + {ATTENTION_GRADIENT} A",
        f"{utilization_range()} of the peak",
    ],
}


def text_of(page):
    return " ".join(prose(page).split()).replace(" %", "%")


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.stem)
def test_numbers_are_the_defaults(page):
    text = text_of(page)
    assert [phrase for phrase in WRITTEN[page] if phrase not in text] == []


def test_the_method_has_every_rule():
    rules = prose(METHOD).split("## 4. Rules")[1].split("More about them")[0]
    assert set(re.findall(r"^- `(\w+)`", rules, flags=re.MULTILINE)) == set(RULES)


def help_of(command, option):
    (parameter,) = (param for param in commands()[command].params if param.name == option)
    return parameter.help


def test_the_help_of_rule_names_every_rule():
    assert re.split(r", | or ", re.sub(r" \(.*?\)", "", help_of("plan", "rule").rstrip("."))) == list(RULES)


def test_the_help_of_scores_names_those_that_an_analysis_leaves_out():
    left_out = set(SCORE_NAMES) - set(read_run(example_run()).scores)
    assert left_out
    assert [name for name in left_out if name not in help_of("analyze", "scores")] == []
