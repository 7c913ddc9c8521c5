"""The steps in order: model and examples in, a finished reading out. What the command line and others call."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
import pandas as pd

from semfreeze_core.device import PeakMemory, dtype_name
from semfreeze_core.errors import InputError
from semfreeze_core.progress import Progress, ProgressEvent, silent
from semfreeze_core.records.examples import TokenizedExample
from semfreeze_core.records.fields import FieldMapping
from semfreeze_core.records.manifest import AnalysisSettings, DataEntry, ModelEntry, RunManifest, ScoreEntry
from semfreeze_core.records.provenance import provenance_now
from semfreeze_core.records.run import GROUP_PREFIX, Run
from semfreeze_core.records.scores import SCORE_NAMES, ScoreName
from semfreeze_core.semantics.analysis import prepare_labels, read_traces
from semfreeze_core.semantics.display import choose_display, project_display
from semfreeze_core.semantics.extraction import extraction_entry
from semfreeze_core.semantics.positions import Positions, choose_positions
from semfreeze_core.semantics.scores import read_scores, states_to_keep
from semfreeze_core.semantics.task_null import read_task_null
from semfreeze_core.sources.data.encode import EncodedSet, encode_all
from semfreeze_core.sources.data.examples import ExampleSet, read_examples
from semfreeze_core.sources.data.fields import resolve_fields
from semfreeze_core.sources.data.rows import open_rows
from semfreeze_core.sources.data.samples import resolve_data
from semfreeze_core.sources.models.causal_lm import DtypeName, LoadedModel, load_causal_lm

DEFAULT_EXAMPLES, DEFAULT_POSITIONS, DEFAULT_DISPLAY = 256, 64, 1000
MAX_DISPLAY = 2000
_LONGEST_BY_DEFAULT = 2048


@dataclass(frozen=True)
class AnalysisRequest:
    """What to read, and how.

    Attributes:
        model: "embedded", a local folder, a hub id, or a GGUF file.
        data: a task file, "hf:owner/name", or "sample:NAME".
        mapping: which fields hold what; unset ones are guessed when unambiguous.
        split: of a hub dataset.
        examples: how many to draw; 0 reads all.
        positions: supervised positions read of each example at most.
        max_length: longest example in tokens; None takes the model's limit, at most 2,048.
        add_eos: end completions with the tokenizer's EOS, and supervise it.
        allow_few: go on with fewer than 32 examples.
        lens_loss: also read the whole head's cross-entropy at every space (slower).
        scores: layer scores to measure beyond those that are cheap.
        seed: of every draw.
        display_positions: positions kept for drawing, at most 2,000.
        revision: of a hub model.
        dtype: auto, float32 or bfloat16.
        device: auto, cpu, cuda, cuda:N or mps.
        trust_remote_code: run Python code that comes with the checkpoint.
        allow_pickle: accept weights stored as pickle, which can run code while loading.
        batch_tokens: tokens a forward pass, padding included; None takes the device's default.
    """

    model: str
    data: str
    mapping: FieldMapping = field(default_factory=FieldMapping)
    split: str | None = None
    examples: int = DEFAULT_EXAMPLES
    positions: int = DEFAULT_POSITIONS
    max_length: int | None = None
    add_eos: bool = True
    allow_few: bool = False
    lens_loss: bool = False
    scores: tuple[ScoreName, ...] = ()
    seed: int = 0
    display_positions: int = DEFAULT_DISPLAY
    revision: str | None = None
    dtype: DtypeName = "auto"
    device: str = "auto"
    trust_remote_code: bool = False
    allow_pickle: bool = False
    batch_tokens: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.display_positions <= MAX_DISPLAY:
            raise InputError(f"display_positions must be in 1..{MAX_DISPLAY}, found {self.display_positions}.")
        if not 0 <= self.seed < 2**32:
            raise InputError(f"seed must be in 0..2^32 - 1, found {self.seed}.")
        if unknown := [name for name in self.scores if name not in SCORE_NAMES]:
            raise InputError(f"scores: expected {', '.join(SCORE_NAMES)}, found {', '.join(unknown)}.")


def analyze(request: AnalysisRequest, progress: Progress = silent) -> Run:
    """Read a model on examples, layer by layer.

    Args:
        request: what to read, and how.
        progress: told what is being done.

    Returns:
        The finished reading, in memory; `semfreeze_core.runs` writes it down.

    Raises:
        InputError: the model, the data or the memory does not allow it; nothing was kept.
    """
    _check_data(request)
    loaded = load_causal_lm(
        request.model,
        revision=request.revision,
        dtype=request.dtype,
        device=request.device,
        trust_remote_code=request.trust_remote_code,
        allow_pickle=request.allow_pickle,
        progress=progress,
    )
    return analyze_loaded(loaded, request, progress)


def analyze_loaded(loaded: LoadedModel, request: AnalysisRequest, progress: Progress = silent) -> Run:
    """As `analyze`, with a model that is already in memory."""
    examples = read_examples(
        resolve_data(request.data),
        mapping=request.mapping,
        split=request.split,
        n=request.examples or None,
        seed=request.seed,
        tokenizer=loaded.tokenizer,
        progress=progress,
    )
    max_length = length_limit(loaded.shape.max_positions, request.max_length)
    encoded = encode_all(
        loaded.tokenizer,
        examples.examples,
        max_length=max_length,
        add_eos=request.add_eos,
        allow_few=request.allow_few,
        progress=progress,
    )
    tokenized, decoder = encoded.tokenized, loaded.decoder
    positions = choose_positions(tokenized, request.positions, request.seed)
    progress(ProgressEvent("Solving for the semantic bases"))
    labels = prepare_labels(
        decoder, tokenized, positions, real_rows=loaded.vocabulary.real_rows, lens_loss=request.lens_loss
    )
    kept = choose_display(decoder, positions, request.display_positions, request.seed)
    states = states_to_keep(decoder, tokenized, request.seed)
    peak = PeakMemory(decoder.device)
    traces, tally = read_traces(
        decoder,
        tokenized,
        positions,
        labels,
        max_tokens=request.batch_tokens,
        kept=kept,
        scores=states,
        progress=progress,
    )
    pairs, null_tally = read_task_null(
        decoder,
        tokenized,
        labels,
        position_limit=request.positions,
        seed=request.seed,
        max_tokens=request.batch_tokens,
        progress=progress,
    )
    extraction = extraction_entry(tally, null_tally, peak)
    scores = read_scores(
        decoder,
        tokenized,
        positions,
        states,
        wanted=request.scores,
        seed=request.seed,
        max_tokens=request.batch_tokens,
        progress=progress,
    )
    progress(ProgressEvent("Projecting the display sample"))
    display = project_display(decoder, loaded.tokenizer, tokenized, positions, labels, kept, request.seed)
    new_tokens = _new_tokens_used(loaded, tokenized)
    manifest = RunManifest(
        model=_model_entry(loaded, new_tokens),
        data=_data_entry(request, examples, encoded, positions, max_length),
        settings=_settings(request, labels.metrics),
        extraction=extraction,
        task_null_reason=next(iter(pairs.values())).reason,
        scores=[ScoreEntry.of(score) for score in scores.values()],
        notes=[*loaded.notes, *examples.notes, *encoded.notes],
        warnings=_warnings(request, new_tokens),
        display_note=f"{display.coordinates.shape[1]} of {display.n_positions_total} positions, seed {request.seed}",
        provenance=provenance_now(request.seed),
        files={},
    )
    return Run(manifest, traces, pairs, _example_table(examples, tokenized, positions), display, scores)


def _check_data(request: AnalysisRequest) -> None:
    """Refuse a task file that is not there or whose fields are not clear, before minutes go into loading a model."""
    source = resolve_data(request.data)
    if not source.startswith("hf:"):
        resolve_fields(request.mapping, open_rows(source, request.split).columns())


def length_limit(max_positions: int | None, asked: int | None) -> int:
    """Longest example in tokens: the model's limit and the one asked for, 2,048 where one is not told."""
    return min(max_positions or _LONGEST_BY_DEFAULT, asked or _LONGEST_BY_DEFAULT)


def _new_tokens_used(loaded: LoadedModel, tokenized: Sequence[TokenizedExample]) -> int:
    used = set(np.unique(np.concatenate([e.input_ids for e in tokenized])).tolist())
    return len(used & (loaded.vocabulary.untrained | loaded.vocabulary.added))


def _model_entry(loaded: LoadedModel, new_tokens: int) -> ModelEntry:
    decoder = loaded.decoder
    return ModelEntry(
        identity=loaded.identity,
        shape=loaded.shape,
        names=decoder.names,
        dtype=dtype_name(decoder.dtype),
        device=str(decoder.device),
        logits_error=decoder.logits_error,
        real_vocab_rows=loaded.vocabulary.real_rows,
        padded_vocab_rows=loaded.vocabulary.padded_rows,
        new_tokens_used=new_tokens,
    )


def _data_entry(
    request: AnalysisRequest,
    examples: ExampleSet,
    encoded: EncodedSet,
    positions: Sequence[Positions],
    max_length: int,
) -> DataEntry:
    tokenized = encoded.tokenized
    labels = {e.label for e in tokenized if e.label is not None}
    return DataEntry(
        source=request.data,
        file_digest=examples.file_digest,
        split=request.split,
        mapping=asdict(examples.mapping),
        n_rows=examples.n_rows,
        n_usable=examples.n_usable,
        n_examples=len(tokenized),
        n_labels=len(labels) or None,
        n_tokens=sum(len(e.input_ids) for e in tokenized),
        n_supervised_tokens=sum(int(e.supervised.sum()) for e in tokenized),
        n_positions_read=sum(len(p) for p in positions),
        n_truncated=encoded.n_truncated,
        n_too_long=encoded.n_too_long,
        max_length=max_length,
        tokens_digest=encoded.digest,
    )


def _settings(request: AnalysisRequest, metrics: Sequence[str]) -> AnalysisSettings:
    return AnalysisSettings(
        examples=request.examples,
        positions=request.positions,
        add_eos=request.add_eos,
        metrics=list(metrics),
        seed=request.seed,
        max_length=request.max_length,
        display_positions=request.display_positions,
    )


def _warnings(request: AnalysisRequest, new_tokens: int) -> list[str]:
    """What a reading of layers cannot see, where this request gives reason to say so."""
    warnings = []
    if new_tokens:
        warnings.append(
            f"The data uses {new_tokens} tokens whose embeddings look new or untrained. Freezing layers freezes the "
            "embeddings too, so these would stay as they are."
        )
    if request.mapping.text_field:
        warnings.append(
            "Plain text has no prompt to swap, so there is no task null. New knowledge and new languages enter at the "
            "input side, which freezing would close."
        )
    return warnings


def _example_table(
    examples: ExampleSet, tokenized: Sequence[TokenizedExample], positions: Sequence[Positions]
) -> pd.DataFrame:
    places = {e.row: i for i, e in enumerate(examples.examples)}
    kept = [places[t.row] for t in tokenized]
    words = {
        "label": [t.label for t in tokenized],
        "prompt": [examples.examples[i].prompt for i in kept],
        "completion": [examples.examples[i].completion for i in kept],
    } | {GROUP_PREFIX + name: [values[i] for i in kept] for name, values in examples.groups.items()}
    return pd.DataFrame(
        {"row": [t.row for t in tokenized]}
        | {name: pd.Series(values, dtype="string") for name, values in words.items()}
        | {
            "n_tokens": [len(t.input_ids) for t in tokenized],
            "n_supervised": [int(t.supervised.sum()) for t in tokenized],
            "n_read": [len(p) for p in positions],
            "n_truncated": [t.truncated for t in tokenized],
        }
    )
