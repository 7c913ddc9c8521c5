"""The task null: the same prompts with completions of other examples.

With completions of several tokens, teacher forcing makes later tokens predictable from earlier ones whatever the
prompt says. That is language, not the task. Swapping completions between examples keeps the language and breaks the
task, so only what a prompt does for its own completion is left in the difference. Our derivation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from semfreeze_core.progress import Progress, silent
from semfreeze_core.records.defaults import NULL_PAIRS
from semfreeze_core.records.examples import TokenizedExample
from semfreeze_core.records.trace import SwappedPairs, TransitionTrace
from semfreeze_core.semantics.analysis import Labels, read_traces
from semfreeze_core.semantics.extraction import ExtractionTally
from semfreeze_core.semantics.positions import Positions, choose_positions
from semfreeze_core.sources.models.decoder import Decoder

MIN_PAIRS = 8


@dataclass(frozen=True)
class OwnReading:
    """What the main analysis read of the examples; prompts with their own completions are among them.

    Attributes:
        positions: of each example.
        traces: by metric, a row for each example.
    """

    positions: Sequence[Positions]
    traces: Mapping[str, TransitionTrace]

    def has(self, example: TokenizedExample, at: Positions, examples: Sequence[TokenizedExample], index: int) -> bool:
        """Whether an example was read at these positions as the one of this index."""
        return np.array_equal(example.input_ids, examples[index].input_ids) and np.array_equal(
            at, self.positions[index]
        )


def swap_partners(completions: Sequence[bytes], seed: int) -> list[tuple[int, int]]:
    """Pairs (i, j): example i gets the completion of example j, which differs from its own; each completion once.

    With equal completions side by side, the groups in random order (sorted ones would give everybody the completion
    most like its own), and a shift by the size of the largest group, nobody meets its own group unless that group is
    more than half of all; such pairs are left out.
    """
    order = np.random.default_rng(seed).permutation(len(completions)).tolist()
    counts: dict[bytes, int] = {}  # in random order, as `order` is
    for i in order:
        counts[completions[i]] = counts.get(completions[i], 0) + 1
    rank = {completion: at for at, completion in enumerate(counts)}
    order.sort(key=lambda i: rank[completions[i]])
    shift = max(counts.values())
    pairs = [(i, order[(at + shift) % len(order)]) for at, i in enumerate(order)]
    return [(i, j) for i, j in pairs if completions[i] != completions[j]]


def with_completion(prompt: TokenizedExample, donor: TokenizedExample, row: int) -> TokenizedExample:
    """`prompt` up to its last supervised stretch, followed by that of `donor`."""
    cut, donor_cut = last_stretch(prompt), last_stretch(donor)
    not_supervised = prompt.supervised[:cut].copy()
    not_supervised[:] = False  # earlier turns stay as context; only the swapped stretch is compared
    return TokenizedExample(
        input_ids=np.concatenate([prompt.input_ids[:cut], donor.input_ids[donor_cut:]]),
        supervised=np.concatenate([not_supervised, donor.supervised[donor_cut:]]),
        label=donor.label,
        row=row,
    )


def last_stretch(example: TokenizedExample) -> int:
    """Where the last run of supervised tokens begins."""
    supervised = np.flatnonzero(example.supervised)
    breaks = np.flatnonzero(np.diff(supervised) > 1)
    return int(supervised[breaks[-1] + 1] if len(breaks) else supervised[0])


def read_task_null(
    decoder: Decoder,
    examples: Sequence[TokenizedExample],
    labels: Labels,
    *,
    position_limit: int,
    seed: int,
    analyzed: OwnReading | None = None,
    max_tokens: int | None = None,
    progress: Progress = silent,
) -> tuple[dict[str, SwappedPairs], ExtractionTally]:
    """Read up to 64 prompts with their own and with swapped completions, paired by prompt.

    The swapped completions' labels must be among `labels`, which they are when donors come from the same examples and
    positions are drawn by the donor's row. Where `analyzed` has read a prompt with its own completion at the same
    positions, as it has of all that have one turn and need no cut, that is taken and not read again.
    """
    drawn = np.random.default_rng(seed).permutation(len(examples))[:NULL_PAIRS].tolist()
    # A lone first token is a BOS or the start of a plain text: no prompt that could be paired with another completion.
    prompted = [i for i in drawn if last_stretch(examples[i]) > 1]
    chosen = [_alone(examples[i]) for i in prompted]
    partners = swap_partners([e.input_ids[last_stretch(e) :].tobytes() for e in chosen], seed) if chosen else []
    if len(partners) < MIN_PAIRS:
        reason = (
            f"only {len(partners)} of {len(drawn)} examples have a prompt that could be given another example's "
            f"completion ({MIN_PAIRS} are needed)"
        )
        empty = np.empty((0, len(decoder.layers) + 1), dtype=np.float32)
        return {m: SwappedPairs(m, empty, empty, reason) for m in labels.metrics}, ExtractionTally()
    longest = max(len(e.input_ids) for e in examples)
    originals = [_cut_to_fit(chosen[i], chosen[j], longest) for i, j in partners]
    swapped = [
        with_completion(prompt, chosen[j], chosen[j].row) for prompt, (_, j) in zip(originals, partners, strict=True)
    ]
    both = [*originals, *swapped]
    positions: list[Positions] = choose_positions(both, position_limit, seed)
    known = {
        row: prompted[i]
        for row, (i, _) in enumerate(partners)
        if analyzed is not None and analyzed.has(both[row], positions[row], examples, prompted[i])
    }
    unread = [row for row in range(len(both)) if row not in known]
    traces, tally = read_traces(
        decoder,
        [both[row] for row in unread],
        [positions[row] for row in unread],
        labels,
        stage="Analyzing swapped completions",
        max_tokens=max_tokens,
        progress=progress,
    )
    pairs = dict[str, SwappedPairs]()
    for name, trace in traces.items():
        deviation = np.empty((len(both), trace.deviation.shape[1]), dtype=trace.deviation.dtype)
        deviation[unread] = trace.deviation
        if analyzed is not None and known:
            deviation[list(known)] = analyzed.traces[name].deviation[list(known.values())]
        pairs[name] = SwappedPairs(name, deviation[: len(originals)], deviation[len(originals) :])
    return pairs, tally


def _alone(example: TokenizedExample) -> TokenizedExample:
    """The example with only its last supervised stretch supervised."""
    return with_completion(example, example, example.row)


def _cut_to_fit(prompt: TokenizedExample, donor: TokenizedExample, longest: int) -> TokenizedExample:
    """The prompt's example, its context cut from the left so far that the donor's completion fits as well.

    No model gets more tokens than in the main analysis, and both sides of a pair have one prompt. The
    first token stays, as it may be a BOS.
    """
    excess = last_stretch(prompt) + len(donor.input_ids) - last_stretch(donor) - longest
    if excess <= 0:
        return prompt
    cut = slice(1, 1 + excess)
    return replace(
        prompt,
        input_ids=np.delete(prompt.input_ids, cut),
        supervised=np.delete(prompt.supervised, cut),
        truncated=prompt.truncated + excess,
    )
