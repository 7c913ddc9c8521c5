"""How far each pilot may train so that all of them together take at most a share of one full finetune's compute.

Successive halving (Jamieson and Talwalkar 2016, https://arxiv.org/abs/1502.07943): every round trains the depths that
are left for the same share of their finetune, drops the worse half, and has the same budget as every other round.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from semfreeze_core.cost import parts_at_depth, run_flop, step_flop
from semfreeze_core.cost.flops import cached_layers
from semfreeze_core.errors import InputError
from semfreeze_core.finetune.arm.arms import Arm, steps_at_equal_compute
from semfreeze_core.finetune.prefix.proof import VERIFIED_EXAMPLES
from semfreeze_core.plan.rules import depth_cap
from semfreeze_core.records.cost import StepFlop
from semfreeze_core.records.defaults import PILOT_DEPTHS, PILOT_EVAL_ROWS, PILOT_STEPS
from semfreeze_core.records.model import ModelShape
from semfreeze_core.records.pilots import Aim
from semfreeze_core.records.training import TrainingSetup
from semfreeze_core.records.usual_depths import half_depth, quarter_depth, two_thirds_depth

# Depths often differ by only one or two percent of the loss reduction, which 64 examples seldom show: a finetune long
# enough gets more of them, until evaluations take a quarter of the budget.
_EVALUATION_SHARE = 0.25
_SLACK = 0.97  # of the budget is planned: real batches are padded a little more or less than their mean


@dataclass(frozen=True)
class PilotCosts:
    """What pilots of one finetune cost, in FLOPs by the cost model's formulas.

    Attributes:
        shape: the counted model.
        setup: the planned finetune: its steps, batch and examples, at the data's own lengths.
        aim: decides how many steps each depth's finetune has.
        n_eval: eval examples.
        eval_length: their mean length in tokens.
        prefix_cache: whether boundary states are computed once and shared by all pilots.
    """

    shape: ModelShape
    setup: TrainingSetup
    aim: Aim
    n_eval: int
    eval_length: int
    prefix_cache: bool = True

    @cached_property
    def full_flop(self) -> int:
        """Of the whole finetune with all layers trained."""
        return run_flop(self.shape, replace(self.setup, prefix_cache=False), parts_at_depth(self.shape, 0))

    def whole_steps(self, depth: int) -> int:
        """Steps of this depth's whole finetune: for the same FLOPs as full finetuning's, or the same number."""
        return self.setup.steps if self.aim != "compute" or depth == 0 else _steps_at_equal_compute(self, depth)

    def epochs(self, depth: int) -> float:
        """Passes of this depth's whole finetune over the training examples."""
        return self.whole_steps(depth) * self.setup.batch_size / self.setup.train_examples

    def pilot_steps(self, depth: int, share: float) -> int:
        """Steps of a pilot of this depth; at least one."""
        return max(1, round(share * self.whole_steps(depth)))

    def n_train(self, depths: Sequence[int], share: float) -> int:
        """Training examples that pilots of these depths use."""
        steps = max(self.pilot_steps(depth, share) for depth in depths)
        return min(self.setup.train_examples, steps * self.setup.batch_size)

    def pilot_flop(self, depth: int, share: float) -> int:
        """Of one pilot, its checks and its evaluation, without boundary states."""
        steps = self.pilot_steps(depth, share)
        return self.training_flop(depth, steps) + self.checks_flop(depth) + self.evaluation_flop(depth)

    def checks_flop(self, depth: int) -> int:
        """Of a pilot before its first step: a step counted twice, and the verification of its boundary states."""
        verification = 0
        if self.prefix_cache and depth > 0:
            length = self.setup.sequence_length
            verification = self._forward(VERIFIED_EXAMPLES, length, 0) + self._forward(VERIFIED_EXAMPLES, length, depth)
        return self.training_flop(depth, 2) + verification

    def training_flop(self, depth: int, steps: int) -> int:
        """Of steps from the boundary on, or of whole steps where there is no cache."""
        cached = self.prefix_cache and depth > 0
        setup = replace(self.setup, prefix_cache=cached)
        return steps * _step_flop(self.shape, setup, depth, cached).total

    def evaluation_flop(self, depth: int) -> int:
        """Of one evaluation on the eval examples from the boundary on."""
        return self._forward(self.n_eval, self.eval_length, depth if self.prefix_cache else 0)

    def states_flop(self, depth: int, n_train: int) -> int:
        """Of the boundary states of the training and eval examples, up to the deepest boundary."""
        if not self.prefix_cache or depth == 0:
            return 0
        examples = ((n_train, self.setup.sequence_length), (self.n_eval, self.eval_length))
        return sum(self._forward(n, length, 0) - self._forward(n, length, depth) for n, length in examples)

    def _forward(self, n: int, length: int, depth: int) -> int:
        """Of a forward pass of n examples of a length, from a boundary on."""
        one = replace(self.setup.of_pass(1), sequence_length=length, prefix_cache=depth > 0, checkpointing="none")
        cached = depth > 0 and cached_layers(parts_at_depth(self.shape, depth)) > 0
        return n * _step_flop(self.shape, one, depth, cached).forward


# The search for the longest pilots asks for the same few numbers hundreds of times.


@lru_cache(maxsize=1024)
def _step_flop(shape: ModelShape, setup: TrainingSetup, depth: int, cached: bool) -> StepFlop:
    return step_flop(shape, setup, parts_at_depth(shape, depth), cached=cached)


@lru_cache(maxsize=1024)
def _steps_at_equal_compute(costs: PilotCosts, depth: int) -> int:
    arm = Arm(f"depth:{depth}", parts_at_depth(costs.shape, depth), None, 0.0)
    setup = replace(costs.setup, prefix_cache=costs.prefix_cache)
    return steps_at_equal_compute(costs.shape, arm, setup, costs.full_flop)


@dataclass(frozen=True)
class PilotPlan:
    """What pilots will do, before it is known which depths remain.

    Attributes:
        sizes: depths trained in each round.
        shares: how far each trains in it, as a share of its whole finetune.
        n_train: training examples of all rounds.
        flop: of everything, with each round's evaluation before training; the maximum, whichever depths remain.
    """

    sizes: tuple[int, ...]
    shares: tuple[float, ...]
    n_train: int
    flop: int


def candidate_depths(n_layers: int, proposals: Sequence[int | None], aim: Aim) -> tuple[int, ...]:
    """The depths that pilots try by default: the rules' and a spread, at least a tenth of the layers apart.

    Two thirds is first after the rules' depths: in every sweep so far the best depth at the same compute was it
    or the next deeper one.

    Args:
        n_layers: L.
        proposals: depths that rules propose; of depths too close together the first is taken.
        aim: "compute" leaves full finetuning out: it would take a quarter of the budget, and no short pilot shows how
            it can win (deep arms repeat few examples many times).
    """
    spread = [two_thirds_depth(n_layers), half_depth(n_layers), depth_cap(n_layers), quarter_depth(n_layers)]
    wanted = [*([] if aim == "compute" else [0]), *proposals, *spread]
    apart = max(1, n_layers // 10)
    depths: list[int] = []
    for depth in wanted:
        if depth is not None and len(depths) < PILOT_DEPTHS and all(abs(depth - other) >= apart for other in depths):
            depths.append(depth)
    return tuple(sorted(depths))


def round_sizes(n: int) -> tuple[int, ...]:
    """Depths in each round, the worse half dropped each time, down to two: 5 gives 5, 3, 2."""
    sizes = [n]
    while sizes[-1] > 2:
        sizes.append(math.ceil(sizes[-1] / 2))
    return tuple(sizes)


def affordable_eval_examples(costs: PilotCosts, depths: Sequence[int], budget: float, available: int) -> int:
    """Number of eval examples that a quarter of the budget affords in all evaluations, within PILOT_EVAL_ROWS.

    Args:
        costs: of the pilots; their `n_eval` does not matter.
        depths: candidates.
        budget: share of one full finetune's FLOPs.
        available: number of eval examples in the data.
    """
    one, sizes = replace(costs, n_eval=1), round_sizes(len(depths))
    each = (
        len(sizes) * one.evaluation_flop(0)
        + one.states_flop(max(depths), 0)
        + sum(sizes) * one.evaluation_flop(min(depths))
    )
    affordable = int(_EVALUATION_SHARE * budget * costs.full_flop / each)
    least, most = PILOT_EVAL_ROWS
    return min(available, most, max(least, affordable))


def plan_pilots(costs: PilotCosts, depths: Sequence[int], budget: float) -> PilotPlan:
    """The longest pilots inside a budget.

    Args:
        costs: of the pilots.
        depths: candidates, two or more.
        budget: share of one full finetune's FLOPs, in (0, 1].

    Raises:
        InputError: the budget is too small for useful pilots (the message has the least); or only one depth.
    """
    if not 0 < budget <= 1:
        raise InputError(f"--pilot-budget must be in (0, 1], found {budget:g}.")
    if len(set(depths)) < 2:
        raise InputError("Pilots need at least two different depths to decide between.")
    least = PILOT_STEPS / costs.setup.steps
    need = _plan(costs, depths, least).flop / costs.full_flop if least <= 1 else math.inf
    if need > budget:
        share = f"{math.ceil(100 * need)}% of" if need <= 1 else "more than"
        raise InputError(
            f"--pilot-budget {budget:g} is too small: pilots of {len(depths)} depths that make at least {PILOT_STEPS} "
            f"steps, with their evaluations, take {share} this finetune of {costs.setup.steps} steps of "
            f"{costs.setup.batch_size}. Allow more, give fewer --depths or --eval-examples, or plan a longer "
            "finetune (--steps, --epochs). A finetune this short can be compared as a whole: semfreeze sweep."
        )
    low, high = least, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (
            (middle, high) if _plan(costs, depths, middle).flop <= _SLACK * budget * costs.full_flop else (low, middle)
        )
    return _plan(costs, depths, low)


def _plan(costs: PilotCosts, depths: Sequence[int], share: float) -> PilotPlan:
    """Pilots whose first round trains this share, and later ones more as fewer depths are left; at most the whole."""
    sizes = round_sizes(len(depths))
    shares = tuple(min(1.0, share * len(depths) / size) for size in sizes)
    n_train = costs.n_train(depths, shares[-1])
    flop = len(sizes) * costs.evaluation_flop(0) + costs.states_flop(max(depths), n_train)
    for size, reach in zip(sizes, shares, strict=True):
        flop += sum(sorted(costs.pilot_flop(depth, reach) for depth in depths)[-size:])
    return PilotPlan(sizes, shares, n_train, flop)
