"""A finished reading, in memory."""

from dataclasses import dataclass, replace
from functools import cached_property

import pandas as pd

from semfreeze_core.errors import RunError
from semfreeze_core.records.display import DisplaySample
from semfreeze_core.records.manifest import RunManifest, ScoreEntry
from semfreeze_core.records.model import ModelShape
from semfreeze_core.records.scores import SCORE_NAMES, LayerScore
from semfreeze_core.records.trace import SwappedPairs, TransitionTrace

GROUP_PREFIX = "group: "


@dataclass(frozen=True)
class Run:
    """What `analyze` produces and everything else starts from.

    Attributes:
        manifest: what was read, on what, how.
        traces: one for each metric.
        pairs: the task null's pairs, one for each metric.
        examples: a row for each example, in the order of the traces' rows: row, label, prompt, completion, tokens,
            supervised, read, truncated; and columns of the task file that group examples, GROUP_PREFIX before
            their names.
        display: the display sample; None while it is to come, which the manifest says.
        scores: other layer scores by name; one that could not be measured is there with its reason, and one that is to
            come only in the manifest.
    """

    manifest: RunManifest
    traces: dict[str, TransitionTrace]
    pairs: dict[str, SwappedPairs]
    examples: pd.DataFrame
    display: DisplaySample | None
    scores: dict[str, LayerScore]

    @cached_property
    def shape(self) -> ModelShape:
        return self.manifest.model.shape

    @property
    def n_examples(self) -> int:
        return len(self.examples)

    def require_display(self) -> DisplaySample:
        """The display sample.

        Raises:
            RunError: it is to come.
        """
        if self.display is None:
            raise RunError("The hidden states of this run are not projected yet.")
        return self.display

    def with_display(self, display: DisplaySample) -> "Run":
        """The same run with its display sample."""
        return replace(self, manifest=self.manifest.with_projection({}), display=display)

    def with_score(self, score: LayerScore) -> "Run":
        """The same run with one score more, or with another result of that score."""
        scores = {**self.scores, score.name: score}
        ordered: dict[str, LayerScore] = {name: scores[name] for name in SCORE_NAMES if name in scores}
        return replace(self, manifest=self.manifest.with_score(ScoreEntry.of(score)), scores=ordered)
