"""What searching the variants' learning rates costs, told before it starts."""

from dataclasses import replace

from semfreeze_core.finetune.arm.arms import Arm
from semfreeze_core.finetune.arm.flop import evaluation_flop
from semfreeze_core.finetune.validation.request import Prepared
from semfreeze_core.gains.rates import lost_steps
from semfreeze_core.records.defaults import CURVE_EXAMPLES, RATE_TRIALS
from semfreeze_core.wording.rates import search_price_line


def search_note(prepared: Prepared) -> str | None:
    """How rates are searched, and the least and most that adds to the finetunes' compute; None without a search."""
    arms = [arm for arm in prepared.arms if arm.name in prepared.document.searched]
    if not arms or prepared.request.chained_search:  # a race, which says what it costs as a whole
        return None
    least, most = (sum(search_flop(prepared, arm, longest) for arm in arms) for longest in (False, True))
    runs = sum(
        arm.flop(prepared.shape, replace(prepared.setups[arm.name], steps=how.total_steps))
        for arm in prepared.arms
        for how in (prepared.settings[arm.name],)
    )
    runs *= len(prepared.document.seeds)
    steps = max(prepared.settings[arm.name].rate_steps or 0 for arm in arms)
    return search_price_line([arm.name for arm in arms], steps, _n_items(prepared), (least / runs, most / runs))


def search_flop(prepared: Prepared, arm: Arm, longest: bool) -> int:
    """FLOPs of the trials that lose and of all evaluations: two trials that stop half-way, or all that there can be."""
    settings = prepared.settings[arm.name]
    setup = arm.phases(prepared.shape, prepared.setups[arm.name])[0].setup
    steps = settings.rate_steps or 0
    step = arm.step_flop(prepared.shape, setup)
    examples = prepared.data.evaluation.tokenized[: _n_items(prepared)]
    evaluation = evaluation_flop(prepared.shape, setup, arm.parts, examples)
    evaluations = 1 + 2 * RATE_TRIALS if longest else 5
    return lost_steps(steps)[longest] * step + evaluations * evaluation


def _n_items(prepared: Prepared) -> int:
    return min(CURVE_EXAMPLES, len(prepared.data.evaluation.tokenized))
