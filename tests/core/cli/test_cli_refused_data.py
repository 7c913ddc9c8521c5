"""Bad data and bad flags, end to end: exit 2, one message with what was found and what to do, nothing kept."""

import os
from pathlib import Path

import numpy as np
import pytest

from tests.core.cli.refusals import GOOD, lines
from tests.core.cli.terminal import ask
from tests.core.runs.tiny_run import task_rows

pytestmark = pytest.mark.usefixtures("nothing_kept")


DATA = {
    "missing": ("t.jsonl", None, "t.jsonl does not exist. Check the path"),
    "a folder": ("t", "folder", "is a directory: expected one file"),
    "empty": ("t.jsonl", b"", "is empty (0 bytes): expected at least one example"),
    "blank": ("t.jsonl", b"\n\n  \n", "holds no rows: expected at least one example"),
    "binary": ("t.jsonl", b"\x7fELF\x00\x01", "is binary (a zero byte at offset 4)"),
    "an archive": ("t.jsonl.gz", b"\x1f\x8b\x08", "cannot be unpacked"),
    "an unknown archive": ("t.jsonl.bz2", b"BZh91AY", "has the extension .bz2: expected one of"),
    "no extension": ("t", b"{}", "has no extension: expected one of .jsonl"),
    "no JSON": ("t.jsonl", ["prompt: oops"] * 40, "t.jsonl, line 1: not JSON (Expecting value at character 1)"),
    "cut off": (
        "t.jsonl",
        [*GOOD[:31], GOOD[0][:-5]],
        "31 of 32 rows are usable; 1 skipped: line 32: not JSON (Invalid control character at character 74)",
    ),
    "a list a line": ("t.jsonl", ["[1, 2]"], "line 1: a list, expected an object"),
    "JSON for JSON Lines": ("t.json", GOOD, "A file with one object a line needs the extension .jsonl"),
    "not UTF-8": ("t.jsonl", b'{"prompt": "caf\xe9", "completion": "x"}\n', "is not UTF-8: byte 0xe9 at offset 15"),
    "UTF-16": ("t.csv", "prompt,completion\na,b\n".encode("utf-16"), "is UTF-16 text: expected UTF-8"),
    "unknown columns": (
        "t.jsonl",
        ['{"a": "x", "b": "y"}'],
        "Columns found: a, b. Name the fields with --prompt-field",
    ),
    "two columns that fit": (
        "t.jsonl",
        ['{"prompt": "x", "question": "y", "completion": "z"}'],
        "'prompt' and 'question' could each be the prompt",
    ),
    "a number for text": (
        "t.jsonl",
        [*GOOD[:20], '{"prompt": 5, "completion": "x"}'],
        "20 of 21 rows are usable; 1 skipped: line 21: field 'prompt' is a number (int 5), expected text.",
    ),
    "a null prompt": (
        "t.jsonl",
        [*GOOD[:20], '{"prompt": null, "completion": "x"}'],
        "field 'prompt' is null, expected text",
    ),
    "a missing field": (
        "t.jsonl",
        [*GOOD[:20], '{"prompt": "x"}'],
        "field 'completion' is missing; the row has 'prompt'",
    ),
    "nothing supervised": (
        "t.jsonl",
        lines(row | {"completion": ""} for row in task_rows()),
        "nothing supervised. All 48 rows have no text in 'completion'",
    ),
    "too few": (
        "t.jsonl",
        GOOD[:31],
        "31 of 31 rows are usable. At least 32 are needed. Add examples, or continue with",
    ),
    "completions over the limit": (
        "t.jsonl",
        lines(row | {"completion": "word " * 80} for row in task_rows()),
        "48 dropped because their supervised tokens exceed 64 tokens (see --max-length)",
    ),
    "a short CSV row": (
        "t.csv",
        b"prompt,completion\na,b\nc\n",
        "skipped: line 3: 1 field, expected 2 as in the header",
    ),
    "an open quote": ("t.csv", b'prompt,completion\na,"b\n', "Is a quote not closed?"),
    "a repeated column": ("t.tsv", b"prompt\tprompt\na\tb\n", "the header names 'prompt' more than once"),
    "a damaged Parquet file": ("t.parquet", b"PAR1 no table", "is not a readable Parquet file"),
    "half a character": ("t.jsonl", ['{"prompt": "\\ud83d", "completion": "x"}'], "holds half a character"),
}


def put(path, content):
    if content == "folder":
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        path.write_text("".join(f"{line}\n" for line in content), encoding="utf-8")
    return path


@pytest.mark.parametrize("what", DATA)
def test_analyze_refuses_bad_data(analyze, tmp_path, what):
    name, content, message = DATA[what]
    assert message in analyze("--json", data=put(tmp_path / name, content)).refusal


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--prompt-field", "absent"], "--prompt-field: no column 'absent'. Columns found: prompt, completion, label."),
        (["--label-field", ""], "--label-field: no column ''"),
        (["--template", "{absent}"], "--template: no column 'absent'"),
        (["--template", "{prompt"], "--template: "),
        (["--template", "nothing"], "--template names no column"),
        (["--template", "{prompt}", "--prompt-field", "prompt"], "--template excludes --prompt-field"),
        (["--text-field", "prompt", "--completion-field", "completion"], "--text-field excludes --completion-field"),
        (["--messages-field", "prompt"], "The model has no chat template"),
        (["--split", "train"], "--split train is for hub datasets"),
        (["--examples", "-1"], "--examples must be at least 0, found -1"),
        (["--positions", "0"], "--positions must be at least 1, found 0"),
        (["--max-length", "1"], "--max-length must be at least 2, found 1"),
        (["--max-length", "2"], "At least 32 are needed"),
        (["--batch-tokens", "0"], "--batch-tokens must be at least 1, found 0"),
        (["--seed", "-1"], "--seed must be at least 0, found -1"),
        (["--seed", "4294967296"], "--seed must be at most 4294967295, found 4294967296"),
        (["--metrics", "semantic,loss"], "--metrics loss: expected semantic, logit_z or lens_loss"),
        (["--scores", "spectrum,depth,x"], "--scores depth, x: expected block_influence, variability, spectrum, "),
        (["--examples", "-1", "--seed", "-1"], "--examples must be at least 0, found -1; --seed must be at least 0"),
        (["--device", "cuda:99"], "--device cuda:99: torch sees"),
        (["--device", "meta"], "expected auto, cpu, cuda, cuda:N or mps"),
        (["--examples", "10"], "At least 32 are needed"),
    ],
)
def test_analyze_refuses_bad_flags(analyze, flags, message):
    assert message in analyze(*flags).refusal


@pytest.mark.parametrize("flags", [["--examples", "many"], ["--seed", "1.5"], ["--nonsense"], ["--examples"]])
def test_analyze_refuses_flags_it_cannot_read(analyze, flags):
    assert flags[0] in analyze(*flags).usage_error


def test_arguments_that_are_not_utf8_are_refused(analyze, tmp_path):
    name = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jsonl")
    Path(name).write_text("\n".join(GOOD))
    assert "is not UTF-8. Rename the file" in analyze(data=name).usage_error


def test_sample_that_is_unknown_lists_the_samples(analyze):
    message = analyze(data="sample:nope").refusal
    assert message.startswith("sample:nope: no such sample. There are: sample:")
    assert "sample:sentence_to_json_train" in message


def test_analyze_takes_numbers_of_any_size(analyze, begun):
    document = analyze("--examples", 10**30, "--positions", 10**20, "--max-length", 10**20, "--batch-tokens", 10**20)
    assert document.code == 0
    assert ask("show", "untied-task", "--json").json["settings"]["examples"] == 10**30
    assert np.isfinite(ask("show", "untied-task", "--json").json["deviation"]["semantic"]["mean"]).all()
