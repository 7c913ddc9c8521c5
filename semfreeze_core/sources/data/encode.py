"""Examples as token ids and a supervised mask: the one encoding that analysis and training share.

Prompts and completions are tokenized apart and joined, so which tokens are supervised follows from lengths alone. A
chat is tokenized whole, as `apply_chat_template` does, and the mask follows from each token's place in the text. It
never follows from token ids: a padding token may be the end-of-sequence token, and a prompt may hold the completion's
words.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from semfreeze_core.errors import DataError
from semfreeze_core.progress import Progress, ProgressEvent, silent
from semfreeze_core.records.defaults import MIN_EXAMPLES
from semfreeze_core.records.examples import Example, RowCounts, TokenizedExample
from semfreeze_core.wording.numbers import counted

_EXAMPLES_PER_CALL = 256  # one tokenizer call for many segments is several times faster than one a segment
_USUAL_CHARACTERS_PER_TOKEN = 16  # texts of up to so many for each token of the limit are tokenized as they are

_Pieces = list[tuple[list[int], bool]]  # token ids and whether they are supervised, in reading order


@dataclass(frozen=True)
class TooLong:
    """An example whose supervised tokens, with one token before them to predict the first, exceed the limit."""

    n_tokens: int


@dataclass(frozen=True)
class NothingSupervised:
    """An example with no token left to predict: a text of one token that nothing precedes."""


@dataclass(frozen=True)
class EncodedSet:
    """Tokenized examples in the order of the examples they come from.

    Attributes:
        tokenized: the examples that can be used.
        notes: what was dropped, cut or left out, in words.
        n_truncated: examples that lost context tokens.
        n_truncated_tokens: context tokens lost, over all examples.
        n_too_long: examples dropped because their supervised tokens exceed the limit.
        n_unsupervised: examples dropped because no token is left to predict.
        digest: sha256 over all ids and masks in hexadecimal; equal digests mean equal training data.
    """

    tokenized: tuple[TokenizedExample, ...]
    notes: tuple[str, ...]
    n_truncated: int
    n_truncated_tokens: int
    n_too_long: int
    n_unsupervised: int
    digest: str


@dataclass(frozen=True)
class _Ends:
    """Token ids that open and close a sequence, or None where there are none."""

    bos: int | None
    eos: int | None


def encode(
    tokenizer: Any, example: Example, *, max_length: int, add_eos: bool = True
) -> TokenizedExample | TooLong | NothingSupervised:
    """One example as token ids with their supervised mask, or the reason why it cannot be used.

    A beginning-of-sequence token comes first exactly when the tokenizer itself puts one; an end-of-sequence token comes
    last and is supervised, so that a finetuned model learns to stop. Neither is added to a complete example (a chat
    template has written them), nor a second one where the text already has it.

    Over the limit, context tokens are cut from the left; supervised tokens never are. The token before the first
    supervised one (the beginning-of-sequence token, if there is one) is kept to predict it.

    Args:
        tokenizer: a transformers tokenizer.
        example: its segments are tokenized apart, or together where it is complete.
        max_length: tokens of the result at most.
        add_eos: False leaves the end-of-sequence token out.
    """
    (outcome,) = _encoded(tokenizer, [example], _ends(tokenizer, add_eos), max_length)
    return outcome


def encode_all(
    tokenizer: Any,
    examples: Sequence[Example],
    *,
    max_length: int,
    add_eos: bool = True,
    minimum: int = MIN_EXAMPLES,
    allow_few: bool = False,
    counts: RowCounts | None = None,
    progress: Progress = silent,
) -> EncodedSet:
    """Every usable example as `encode` gives it, with counts of what was cut and dropped.

    Args:
        tokenizer, max_length, add_eos: as for `encode`.
        examples: in the order to keep.
        minimum: usable examples needed; below, intervals over examples say little.
        allow_few: go on with fewer, but never with none.
        counts: the rows that the examples were taken from, where a refusal is to count those.
        progress: receives the examples encoded.

    Raises:
        DataError: fewer usable examples than needed; the message counts the causes.
    """
    ends = _ends(tokenizer, add_eos)
    tokenized: list[TokenizedExample] = []
    dropped: Counter[type] = Counter()
    for start in range(0, len(examples), _EXAMPLES_PER_CALL):
        chunk = examples[start : start + _EXAMPLES_PER_CALL]
        for outcome in _encoded(tokenizer, chunk, ends, max_length):
            if isinstance(outcome, TokenizedExample):
                tokenized.append(outcome)
            else:
                dropped[type(outcome)] += 1
        progress(ProgressEvent("Encoding examples", start + len(chunk), len(examples), "examples"))

    causes = _causes(dropped, max_length)
    needed = 1 if allow_few else minimum
    if len(tokenized) < needed:
        advice = "Add examples" + ", or continue with --allow-few (intervals will be wide)" * (needed > 1)
        total = f"{len(examples)} examples" if counts is None else f"{counts.n_rows} rows"
        clauses = "".join(f"; {cause}" for cause in (*(counts.causes if counts else ()), *causes))
        raise DataError(
            f"{len(tokenized)} of {total} are usable{clauses}. "
            f"At least {needed} {'is' if needed == 1 else 'are'} needed. {advice}."
        )
    cut = [example.truncated for example in tokenized if example.truncated]
    notes = [f"{cause[0].upper()}{cause[1:]}." for cause in causes]
    if cut:
        at_least = "at least " if any(_is_long(example, max_length) for example in examples) else ""
        n_cut = counted(len(cut), "example")
        notes.append(f"{n_cut} lost {at_least}{sum(cut):,} context tokens on the left to fit {max_length} tokens.")
    if len(tokenized) < minimum:
        notes.append(f"Only {counted(len(tokenized), 'example')}, fewer than {minimum}: estimates are uncertain.")
    notes += _tokenizer_notes(tokenizer, examples, add_eos)
    return EncodedSet(
        tokenized=tuple(tokenized),
        notes=tuple(notes),
        n_truncated=len(cut),
        n_truncated_tokens=sum(cut),
        n_too_long=dropped[TooLong],
        n_unsupervised=dropped[NothingSupervised],
        digest=_digest(tokenized),
    )


def _encoded(
    tokenizer: Any, examples: Sequence[Example], ends: _Ends, max_length: int
) -> list[TokenizedExample | TooLong | NothingSupervised]:
    """Each example as `encode` gives it; one tokenizer call for all whose length is usual."""
    short = [example for example in examples if not _is_long(example, max_length)]
    pieces = iter(_tokenized(tokenizer, short))
    short_ids = {id(example) for example in short}
    outcomes: list[TokenizedExample | TooLong | NothingSupervised] = []
    for example in examples:
        if id(example) in short_ids:
            outcomes.append(_assemble(example, next(pieces), ends, max_length))
        else:
            outcomes.append(_long_outcome(tokenizer, example, ends, max_length))
    return outcomes


def _is_long(example: Example, max_length: int) -> bool:
    usual = max_length * _USUAL_CHARACTERS_PER_TOKEN
    return any(len(segment.text) > usual for segment in example.segments)


def _long_outcome(
    tokenizer: Any, example: Example, ends: _Ends, max_length: int
) -> TokenizedExample | TooLong | NothingSupervised:
    """As `encode`, without tokenizing megabytes of which at most `max_length` tokens would stay.

    So many characters as that many of the vocabulary's longest tokens cover are enough; should the tokenizer make fewer
    tokens of them all the same, as one does that drops characters, the whole text is tokenized.
    """
    enough = max_length * max(map(len, tokenizer.get_vocab()))
    for segment in example.segments:
        if segment.supervised and len(segment.text) > enough:
            n_tokens = len(_ids(tokenizer, [segment.text[:enough]])[0])
            if n_tokens + 1 > max_length:
                return TooLong(n_tokens + 1)
    segments = tuple(s if s.supervised else replace(s, text=s.text[-enough:]) for s in example.segments)
    pieces = _tokenized(tokenizer, [replace(example, segments=segments)])[0]
    if segments != example.segments and sum(len(ids) for ids, flag in pieces if not flag) < max_length:
        pieces = _tokenized(tokenizer, [example])[0]
    return _assemble(example, pieces, ends, max_length)


def _tokenized(tokenizer: Any, examples: Sequence[Example]) -> list[_Pieces]:
    """Token ids by example, in pieces that are supervised or not, without special tokens that the text has not."""
    is_fast = getattr(tokenizer, "is_fast", False)  # only such a tokenizer knows where in the text a token stands
    whole = iter(_tokenized_whole(tokenizer, [example for example in examples if example.complete and is_fast]))
    apart = [example for example in examples if not (example.complete and is_fast)]
    ids = iter(_ids(tokenizer, [segment.text for example in apart for segment in example.segments]))
    return [
        next(whole) if example.complete and is_fast else [(next(ids), s.supervised) for s in example.segments]
        for example in examples
    ]


def _tokenized_whole(tokenizer: Any, examples: Sequence[Example]) -> list[_Pieces]:
    """Token ids of each example's whole text, every token supervised that shares a character with supervised text."""
    if not examples:
        return []
    texts = ["".join(segment.text for segment in example.segments) for example in examples]
    encoded = tokenizer(
        texts,
        add_special_tokens=False,
        padding=False,
        truncation=False,
        verbose=False,
        return_offsets_mapping=True,
    )
    pieces = []
    for example, ids, offsets in zip(examples, encoded.input_ids, encoded.offset_mapping, strict=True):
        lengths = [len(segment.text) for segment in example.segments]
        characters = np.repeat([segment.supervised for segment in example.segments], lengths)
        mask = _supervised_tokens(characters, offsets)
        pieces.append([(ids[a:b], flag) for a, b, flag in _stretches(mask)])
    return pieces


def _supervised_tokens(characters: npt.NDArray[np.bool_], offsets: Sequence[tuple[int, int]]) -> list[bool]:
    """Whether each token is supervised.

    Args:
        characters: whether each character of the text is supervised.
        offsets: by token, its first character and the one after its last. Where a tokenizer trims white space from
            offsets, a token of white space has none and stands for what lies between its neighbors.
    """
    counts = np.concatenate([[0], np.cumsum(characters)])
    mask, previous_end = [], 0
    for start, end in offsets:
        first = min(previous_end, end) if start == end else start
        if first == end:  # no character of its own: it opens what follows
            mask.append(bool(end < len(characters) and characters[end]))
        else:
            mask.append(bool(counts[end] > counts[first]))
        previous_end = max(previous_end, end)
    return mask


def _stretches(mask: Sequence[bool]) -> list[tuple[int, int, bool]]:
    """Runs of equal flags as (first, end, flag)."""
    runs, start = [], 0
    for flag, group in groupby(mask):
        end = start + sum(1 for _ in group)
        runs.append((start, end, flag))
        start = end
    return runs


def _ids(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    if not texts:
        return []
    # verbose=False: the tokenizer's warning about its own length limit is of no use before truncation.
    encoded = tokenizer(texts, add_special_tokens=False, padding=False, truncation=False, verbose=False)
    return list(encoded.input_ids)


def _ends(tokenizer: Any, add_eos: bool) -> _Ends:
    ids_of_a = tokenizer("a").input_ids
    bos = tokenizer.bos_token_id
    return _Ends(
        bos if bos is not None and ids_of_a[:1] == [bos] else None, tokenizer.eos_token_id if add_eos else None
    )


def _assemble(
    example: Example, pieces: _Pieces, ends: _Ends, max_length: int
) -> TokenizedExample | TooLong | NothingSupervised:
    bos, eos = (None, None) if example.complete else (ends.bos, ends.eos)
    pieces = list(pieces)
    if eos is not None and pieces[-1][0][-1:] != [eos]:
        pieces.append(([eos], True))
    first = next((ids[0] for ids, _ in pieces if ids), None)
    if bos is not None and first != bos:  # data that was rendered before has it written out
        pieces.insert(0, ([bos], False))
    input_ids = np.array([token for ids, _ in pieces for token in ids], dtype=np.int64)
    supervised = np.array([flag for ids, flag in pieces for _ in ids], dtype=bool)
    supervised[:1] = False  # nothing predicts the first token
    if not supervised.any():
        return NothingSupervised()
    if supervised.sum() + 1 > max_length:
        return TooLong(int(supervised.sum()) + 1)

    excess = max(0, len(input_ids) - max_length)
    cuttable = ~supervised
    cuttable[0 if bos is not None else np.argmax(supervised) - 1] = False  # what predicts the first supervised token
    keep = np.ones(len(input_ids), dtype=bool)
    keep[np.flatnonzero(cuttable)[:excess]] = False
    return TokenizedExample(input_ids[keep], supervised[keep], example.label, example.row, truncated=excess)


def _causes(dropped: Counter[type], max_length: int) -> list[str]:
    causes = []
    if n := dropped[TooLong]:
        causes.append(f"{n} dropped because their supervised tokens exceed {max_length} tokens (see --max-length)")
    if n := dropped[NothingSupervised]:
        causes.append(f"{n} dropped because no token is left to predict (texts of one token)")
    return causes


def _tokenizer_notes(tokenizer: Any, examples: Sequence[Example], add_eos: bool) -> list[str]:
    """What the tokenizer does to these examples that their reader would not expect."""
    notes: list[str] = []
    if all(example.complete for example in examples):
        return notes
    if add_eos and tokenizer.eos_token_id is None:
        notes.append("The tokenizer has no end-of-sequence token: completions end without one.")
    left, right = tokenizer(["a", "b"], add_special_tokens=False).input_ids
    if tokenizer.decode([*left, *right]).strip() == "a b":
        notes.append("The tokenizer puts a space before each separately tokenized text, so before each completion.")
    return notes


def _digest(tokenized: Sequence[TokenizedExample]) -> str:
    """Sha256 of all ids and masks; each example's length goes first, so that no two sets share their bytes."""
    sha = hashlib.sha256()
    for example in tokenized:
        sha.update(len(example.input_ids).to_bytes(8, "little"))
        sha.update(example.input_ids.astype("<i8").tobytes())
        sha.update(example.supervised.tobytes())
    return sha.hexdigest()
