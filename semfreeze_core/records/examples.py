"""Examples before and after the tokenizer."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Segment:
    """A stretch of text that is either context or supervised."""

    text: str
    supervised: bool


@dataclass(frozen=True)
class Example:
    """One training example: alternating context and supervised text.

    A prompt with a completion is two segments; a chat has one supervised segment an assistant turn; plain text is a
    single supervised segment.

    Attributes:
        segments: in reading order, at least one of them supervised and not empty.
        label: class name, where the task has classes.
        row: 0-based row of the source file.
        complete: whether the text brings its own special tokens (a chat template does), so that no BOS or EOS is added.
    """

    segments: tuple[Segment, ...]
    label: str | None
    row: int
    complete: bool = False

    @property
    def prompt(self) -> str:
        """All text before the last supervised segment."""
        return "".join(s.text for s in self.segments[: self._last_supervised])

    @property
    def completion(self) -> str:
        """The last supervised segment."""
        return self.segments[self._last_supervised].text

    @property
    def _last_supervised(self) -> int:
        return max(i for i, s in enumerate(self.segments) if s.supervised)


@dataclass(frozen=True)
class SkippedRow:
    """A row that cannot be read.

    Attributes:
        row: 0-based row of the source.
        file: name of the file that it stands in.
        line: 1-based line of that file; None where the format has no lines.
        reason: what was found and what was expected.
    """

    row: int
    file: str
    line: int | None
    reason: str

    @property
    def location(self) -> str:
        """Where the row stands: its line, or its number where there are no lines."""
        return f"row {self.row}" if self.line is None else f"line {self.line}"


@dataclass(frozen=True)
class RowCounts:
    """What became of a source's rows before they were tokenized.

    Attributes:
        n_rows: rows that the examples were taken from.
        causes: how many were left out, and why, each as a clause.
    """

    n_rows: int
    causes: tuple[str, ...] = ()


@dataclass(frozen=True)
class TokenizedExample:
    """Token ids and, by position, whether the token is to be predicted.

    Attributes:
        input_ids: int64, shape (T,).
        supervised: bool, shape (T,); token t is predicted from the state at t - 1, so entry 0 is always False.
        label: as in Example.
        row: as in Example.
        truncated: context tokens cut from the left to fit the length limit.
    """

    input_ids: npt.NDArray[np.int64]
    supervised: npt.NDArray[np.bool_]
    label: str | None
    row: int
    truncated: int = 0

    def __post_init__(self) -> None:
        if self.input_ids.ndim != 1 or self.input_ids.shape != self.supervised.shape:
            raise ValueError(
                f"input_ids and supervised must be equal vectors, found {self.input_ids.shape}, {self.supervised.shape}"
            )
        if not self.supervised.any() or self.supervised[0]:
            raise ValueError("at least one token must be supervised, and never the first (nothing predicts it)")
