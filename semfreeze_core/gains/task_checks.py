"""Free checks of a task: how new completions are, whether prompts have an answer tag, how unequal losses are."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from semfreeze_core.gains.bootstrap import Floats
from semfreeze_core.records.defaults import BIGRAM_COMPLETIONS, MIN_CHECKED_COMPLETIONS
from semfreeze_core.records.examples import TokenizedExample
from semfreeze_core.records.task_checks import TaskChecks

Bigram = tuple[int, int]


def completion_bigrams(example: TokenizedExample) -> list[Bigram]:
    """Pairs of neighboring target tokens, one for each place where they stand."""
    both = example.supervised[:-1] & example.supervised[1:]
    ids = example.input_ids
    return list(zip(ids[:-1][both].tolist(), ids[1:][both].tolist(), strict=True))


def bigram_coverage(train: Sequence[TokenizedExample], evaluation: Sequence[TokenizedExample]) -> float | None:
    """Share of the token pairs in eval completions that occur in training completions, 0..1.

    Pairs are counted as often as they stand there. None where the eval completions have no pair.
    """
    known = {pair for example in train for pair in completion_bigrams(example)}
    pairs = [pair for example in evaluation for pair in completion_bigrams(example)]
    return sum(pair in known for pair in pairs) / len(pairs) if pairs else None


def answer_tag_share(examples: Sequence[TokenizedExample]) -> tuple[float | None, int]:
    """Share of prompts that end in the most common last two tokens, 0..1, and the number of prompts it is of.

    A prompt is everything before the last stretch of target tokens; None where no prompt has two tokens.
    """
    ends = Counter(end for example in examples if (end := _prompt_end(example)) is not None)
    n_prompts = ends.total()
    return (max(ends.values()) / n_prompts if n_prompts else None), n_prompts


def loss_variation(losses: Floats) -> float | None:
    """Spread of each example's loss before training, as standard deviation over mean; None for fewer than two."""
    mean = float(losses.mean()) if len(losses) else 0.0
    return float(losses.std(ddof=1)) / mean if len(losses) > 1 and mean > 0 else None


def check_task(train: Sequence[TokenizedExample], evaluation: Sequence[TokenizedExample]) -> TaskChecks:
    """The free checks of both sets.

    Args:
        train: training examples in seeded order; coverage takes the first BIGRAM_COMPLETIONS of them, so that it does
            not grow with the training set.
        evaluation: eval examples.
    """
    known = train[:BIGRAM_COMPLETIONS]
    enough = len(known) == BIGRAM_COMPLETIONS and len(evaluation) >= MIN_CHECKED_COMPLETIONS
    share, n_prompts = answer_tag_share([*train, *evaluation])
    return TaskChecks(
        n_train_completions=len(known),
        n_eval_completions=len(evaluation),
        bigram_coverage=bigram_coverage(known, evaluation) if enough else None,
        n_prompts=n_prompts,
        answer_tag_share=share,
    )


def _prompt_end(example: TokenizedExample) -> Bigram | None:
    """The two tokens before the last stretch of target tokens."""
    targets = np.flatnonzero(example.supervised)
    gaps = np.flatnonzero(np.diff(targets) > 1)
    first = int(targets[gaps[-1] + 1] if len(gaps) else targets[0])
    return (int(example.input_ids[first - 2]), int(example.input_ids[first - 1])) if first >= 2 else None
