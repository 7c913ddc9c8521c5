"""What to analyze, and how."""

from dataclasses import dataclass, field

from semfreeze_core.errors import InputError
from semfreeze_core.records.defaults import (
    DISPLAY_POSITIONS,
    EXAMPLES,
    LARGEST_SEED,
    MAX_DISPLAY_POSITIONS,
    POSITIONS,
)
from semfreeze_core.records.fields import FieldMapping
from semfreeze_core.records.scores import SCORE_NAMES, ScoreName
from semfreeze_core.records.training import DtypeName


@dataclass(frozen=True)
class AnalysisRequest:
    """What to analyze, and how.

    Attributes:
        model: "embedded", a local folder, a hub id, or a GGUF file.
        data: a task file, "hf:owner/name", or "sample:NAME".
        mapping: which fields hold what; unset ones are guessed when unambiguous.
        split: of a hub dataset.
        examples: how many to draw; 0 takes all.
        positions: target tokens analyzed per example at most.
        max_length: longest example in tokens; None takes the model's limit, at most MAX_LENGTH.
        add_eos: end completions with the tokenizer's EOS, as a target token.
        allow_few: accept fewer than MIN_EXAMPLES.
        lens_loss: also measure the whole head's cross-entropy at every hidden state (slower).
        scores: layer scores to measure besides the cheap ones.
        seed: of every draw.
        display_positions: positions saved for drawing, at most MAX_DISPLAY_POSITIONS.
        revision: of a hub model.
        dtype: auto, float32 or bfloat16.
        device: auto, cpu, cuda, cuda:N or mps.
        trust_remote_code: run Python code that comes with the checkpoint.
        allow_pickle: accept weights stored as pickle, which can run code while loading.
        batch_tokens: tokens per forward pass, padding included; None takes the device's default.
    """

    model: str
    data: str
    mapping: FieldMapping = field(default_factory=FieldMapping)
    split: str | None = None
    examples: int = EXAMPLES
    positions: int = POSITIONS
    max_length: int | None = None
    add_eos: bool = True
    allow_few: bool = False
    lens_loss: bool = False
    scores: tuple[ScoreName, ...] = ()
    seed: int = 0
    display_positions: int = DISPLAY_POSITIONS
    revision: str | None = None
    dtype: DtypeName = "auto"
    device: str = "auto"
    trust_remote_code: bool = False
    allow_pickle: bool = False
    batch_tokens: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.display_positions <= MAX_DISPLAY_POSITIONS:
            raise InputError(
                f"display_positions must be in 1..{MAX_DISPLAY_POSITIONS}, found {self.display_positions}."
            )
        if not 0 <= self.seed <= LARGEST_SEED:
            raise InputError(f"seed must be in 0..{LARGEST_SEED}, found {self.seed}.")
        if unknown := [name for name in self.scores if name not in SCORE_NAMES]:
            raise InputError(f"scores: expected {', '.join(SCORE_NAMES)}, found {', '.join(unknown)}.")
