"""Sentences about the data that a run was analyzed on."""

from collections.abc import Sequence
from html import escape

import pandas as pd

from semfreeze_core.records.manifest import DataEntry, RunManifest
from semfreeze_core.sources.data.schemas import SCHEMAS
from semfreeze_core.sources.data.shared_prompts import SharedPrompts
from semfreeze_core.wording.numbers import counted, percent

from .visitor_text import error_text

STRIP = "predicted early"
STRIPS_ON_THEIR_WAY = (
    "From which layer on the model predicts each target token is being computed. It appears here when it is ready."
)
STRIP_HELP = (
    "A bar for each of the first target tokens: the taller, the earlier the head predicts it in every hidden state "
    "that follows. No bar: not in the last one. Empty where the tokens were not read out."
)
_MIDDLE, _LONG = 0.5, 0.95
_PROMPT_LINES = 3
_CHIP = "padding:1px 9px;border:1px solid currentColor;border-radius:10px"
_LIT = "filter:invert(1)"  # the page's ink turned over, on a ground of that ink


def data_sentence(data: DataEntry, name: str) -> str:
    """How much of which data the model was analyzed on."""
    return (
        f"{data.n_examples:,} of {data.n_usable:,} usable rows of {name} were analyzed, with "
        f"{data.n_supervised_tokens:,} target tokens."
    )


def data_figures(data: DataEntry, examples: pd.DataFrame) -> list[tuple[str, str, str, str]]:
    """Title, value, what belongs to it, and tooltip's name of each figure: usable rows, lengths, and what was cut."""
    skipped = data.n_rows - data.n_usable
    return [
        ("Usable rows", f"{data.n_usable:,}", f"{skipped:,} of {data.n_rows:,} skipped", "usable rows"),
        ("Tokens per example", *_lengths(examples["n_tokens"]), "tokens per example"),
        ("Target tokens", *_lengths(examples["n_supervised"]), "target tokens per example"),
        ("Prompts cut", f"{data.n_truncated:,}", f"{data.n_too_long:,} left out as too long", "cut"),
    ]


def shared_figure(shared: SharedPrompts | None, evaluation: str | None) -> tuple[str, str, str, str]:
    """The figure of prompts that eval examples share, as one of `data_figures`.

    Args:
        shared: how many; None where they are not known.
        evaluation: eval examples of the newest finetune; None without any of their own.
    """
    title, term = "Prompts in eval too", "shared prompts"
    if evaluation is None:
        return title, "0", "eval rows are held out", term
    if shared is None:
        return title, "not known", "cannot be read again", term
    return title, f"{shared.n_shared:,}", f"of {shared.n_eval:,} eval rows", term


def eval_note(evaluation: str | None) -> list[str]:
    """Which eval examples that is about; nothing where there are none."""
    return [] if evaluation is None else [f"Eval rows: {error_text(evaluation)}, of the newest validation."]


def data_notes(manifest: RunManifest) -> list[str]:
    """Free checks, and what was noted when the data were read."""
    data, lines = manifest.data, []
    if data.checks is not None:
        if data.checks.bigram_coverage is not None:
            lines.append(f"{percent(data.checks.bigram_coverage)} of the token pairs in completions occur in others.")
        if data.checks.answer_tag_share is not None:
            lines.append(f"{percent(data.checks.answer_tag_share)} of prompts end in the same two tokens.")
    return [*lines, *(error_text(note) for note in manifest.notes)]


def example_rows(examples: pd.DataFrame, strips: Sequence[list[int] | None] | None) -> list[dict[str, object]]:
    """A line an example: where it stands in the data, the end of its prompt, its completion, and its target tokens.

    Args:
        examples: of the run.
        strips: of each, as many hidden states as predict each of its first target tokens; None where none was kept,
            and in place of all where they are to come.
    """
    labeled = examples["label"].notna().any()
    return [
        {"data row": row.row}
        | ({"label": row.label} if labeled else {})
        | ({} if strips is None else {STRIP: strip})
        | {
            "prompt ends": " ⏎ ".join(str(row.prompt).strip().splitlines()[-_PROMPT_LINES:]),
            "completion": str(row.completion),
            "tokens": row.n_tokens,
            "target tokens": row.n_supervised,
        }
        for row, strip in zip(examples.itertuples(), strips or [None] * len(examples), strict=True)
    ]


def format_chips_html(detected: str | None) -> str:
    """Every data format that is recognized by its columns, the one of the file lit.

    Args:
        detected: name of its schema, or None where none fits or the columns are chosen by hand.
    """
    chips = []
    for schema in SCHEMAS:
        lit = schema.name == detected
        look = "background:currentColor" if lit else "opacity:0.75"
        name = f'<span style="{_LIT if lit else ""}">{escape(schema.name)}</span>'
        mark = ' aria-current="true"' if lit else ""
        chips.append(f'<span{mark} style="{_CHIP};{look}">{name}</span>')
    return f'<div style="display:flex;flex-wrap:wrap;gap:6px;font-size:13px">{"".join(chips)}</div>'


def strip_caption(n_shown: int, n_layers: int) -> str:
    """What the colors of target tokens mean."""
    return (
        f"The first {counted(n_shown, 'target token')}. The stronger its color, the earlier the head predicts the "
        "token in every hidden state that follows. Dashed: not in the last one. Point at a token for its state, of "
        f"{n_layers + 1}."
    )


def _lengths(lengths: "pd.Series[int]") -> tuple[str, str]:
    middle, long = lengths.quantile([_MIDDLE, _LONG])
    return f"{middle:,.0f}", f"{percent(_LONG)} have {long:,.0f} or fewer"
