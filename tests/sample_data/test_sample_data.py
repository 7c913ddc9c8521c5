"""The sample files are what their script makes, and they are what their README says."""

from __future__ import annotations

import hashlib
import importlib
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "sample_data"
TASKS = ("support_intents", "quantity_problems", "sentence_to_json")
SPLITS = ("train", "eval")
FILES = tuple(f"{task}_{split}.jsonl" for task in TASKS for split in SPLITS)

# how a prompt starts and ends
FRAMES = {
    "support_intents": ("Message: ", "\nIntent:"),
    "quantity_problems": ("Question: ", "\nAnswer:"),
    "sentence_to_json": ("Sentence: ", "\nRecord:"),
}
RECORD_KEYS = {
    "booking": ["type", "place", "people", "date", "time"],
    "delivery": ["type", "item", "quantity", "city", "date"],
    "reminder": ["type", "task", "date", "time"],
    "expense": ["type", "amount", "currency", "item", "date"],
    "measurement": ["type", "subject", "value", "unit", "date"],
}
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
CLOCK = re.compile(
    r"\d[:.]\d\d\b(?! euros| pounds| dollars)|\b(?:am|pm|noon|o'clock)\b|in the (?:morning|afternoon|evening)"
)


def read(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FOLDER / name).read_text(encoding="utf-8").splitlines()]


def read_task(task: str) -> list[dict[str, Any]]:
    return [row for split in SPLITS for row in read(f"{task}_{split}.jsonl")]


def sentence_of(row: dict[str, Any]) -> str:
    return str(row["prompt"]).removeprefix("Sentence: ").removesuffix("\nRecord:")


def run_script(script: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-B", str(script), "--check"]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_the_script_makes_these_files() -> None:
    done = run_script(FOLDER / "generate.py")
    assert done.returncode == 0, done.stdout + done.stderr


def test_check_notices_a_changed_file(tmp_path: Path) -> None:
    copy = tmp_path / "sample_data"
    copy.mkdir()
    for path in [*FOLDER.glob("*.py"), *FOLDER.glob("*.jsonl")]:
        (copy / path.name).write_bytes(path.read_bytes())
    with (copy / FILES[0]).open("a", encoding="utf-8") as file:
        file.write("\n")
    (copy / FILES[1]).unlink()
    done = run_script(copy / "generate.py")
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.count("DIFFERENT") == 2


@pytest.mark.parametrize("name", FILES)
def test_readme_digest_rows_and_examples(name: str) -> None:
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    data = (FOLDER / name).read_bytes()
    assert f"{hashlib.sha256(data).hexdigest()}  {name}\n" in readme
    assert f"| `{name}` | {len(read(name))} |" in readme
    examples = readme.split(f"\n`{name}`\n\n```json\n")[1].split("\n```")[0].split("\n")
    assert len(examples) == 2
    assert set(examples) <= set(data.decode("utf-8").splitlines())


@pytest.mark.parametrize("name", FILES)
def test_shape_of_the_rows(name: str) -> None:
    raw = (FOLDER / name).read_bytes()
    assert raw.endswith(b"\n")
    assert b"\r" not in raw
    rows = read(name)
    assert 300 <= len(rows) <= 1000
    first, last = FRAMES[name.rpartition("_")[0]]
    fields = ["prompt", "completion"] if name.startswith("quantity") else ["prompt", "completion", "label"]
    for row in rows:
        assert list(row) == fields
        assert row["prompt"].startswith(first)
        assert row["prompt"].endswith(last)
        assert re.fullmatch(r" \S.*\S", row["completion"])
        text = row["prompt"].removeprefix(first).removesuffix(last)
        assert text == text.strip()
        assert "{" not in text
        assert "  " not in text
        assert "\n" not in text


@pytest.mark.parametrize("task", TASKS)
def test_no_prompt_occurs_twice(task: str) -> None:
    prompts = Counter(row["prompt"].lower() for row in read_task(task))
    assert max(prompts.values()) == 1


@pytest.mark.parametrize(("task", "labels"), [("support_intents", 20), ("sentence_to_json", 5)])
def test_labels_are_balanced(task: str, labels: int) -> None:
    train, evaluation = (Counter(row["label"] for row in read(f"{task}_{split}.jsonl")) for split in SPLITS)
    assert len(train) == labels
    assert set(train) == set(evaluation)
    for counted in (train, evaluation):
        assert max(counted.values()) <= 1.25 * min(counted.values())


def test_train_and_eval_share_no_phrasing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FOLDER.parent)
    make_intents = importlib.import_module("sample_data.make_intents")
    make_records = importlib.import_module("sample_data.make_records")
    structures = importlib.import_module("sample_data.quantity_structures")
    train: list[str] = []
    evaluation: list[str] = []
    for tables in make_intents.INTENTS.values():
        ours, theirs = (make_intents.phrasings(table) for table in tables)
        assert len(ours) >= 16
        assert len(theirs) >= 6
        train += ours
        evaluation += theirs
    for label, table in make_records.tables("train").items():
        ours, theirs = ([text for text, _ in patterns] for patterns in (table, make_records.tables("eval")[label]))
        assert len(ours) + len(theirs) >= 12
        train += ours
        evaluation += theirs
    assert len({text.lower() for text in train + evaluation}) == len(train) + len(evaluation)
    assert len(structures.SHARED) + len(structures.EVAL_ONLY) >= 24
    assert len(structures.EVAL_ONLY) == 5
    assert not set(structures.SHARED) & set(structures.EVAL_ONLY)


def test_an_intent_is_its_label_in_words() -> None:
    for row in read_task("support_intents"):
        assert row["completion"] == " " + row["label"].replace("_", " ")
        assert re.fullmatch(r"[a-z]+( [a-z]+){0,3}", row["completion"].strip())


def test_no_word_gives_an_intent_away() -> None:
    rows = read_task("support_intents")
    labels = Counter(row["label"] for row in rows)
    intents_by_word: Counter[str] = Counter()
    together: Counter[tuple[str, str]] = Counter()
    for row in rows:
        vocabulary = set(re.findall(r"[a-z']+", row["prompt"].lower()))
        intents_by_word.update(vocabulary)
        together.update((row["label"], word) for word in vocabulary)
    best = max(2 * both / (intents_by_word[word] + labels[label]) for (label, word), both in together.items())
    assert best < 0.75  # F1 of the best rule of the form "this word means that intent"


def test_the_arithmetic_is_right() -> None:
    for row in read_task("quantity_problems"):
        completion = row["completion"]
        steps = re.findall(r"(\S+) ([-+*/]) (\S+) = (\d+)(?![\d.]*\d)", completion)
        assert 1 <= len(steps) <= 3, completion
        assert completion.count("=") == len(steps), completion
        for left, operator, right, result in steps:
            a, b = int(left), int(right)
            assert operator != "/" or a % b == 0, completion
            value = {"+": a + b, "-": a - b, "*": a * b, "/": a // b}[operator]
            assert value == int(result) >= 0, completion
        assert completion.endswith(f" The answer is {steps[-1][3]}."), completion


def test_plurals_and_articles() -> None:
    for task in TASKS:
        for row in read_task(task):
            text = row["prompt"] + row["completion"]
            assert not re.search(r"\b[Aa] (?=[aeio])(?!one)[a-z]{3,}", text), text
            assert not re.search(r"\b[Aa]n (?!hour|[aeiouAEIOU])", text), text
            if task != "support_intents":  # which has app versions, as in "5.3.1 is"
                assert not re.search(r"(?<![.\d])1 [a-z]+s\b", text), text


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("sentence")])
def test_records_parse_and_have_their_keys(name: str) -> None:
    for row in read(name):
        record = json.loads(row["completion"])
        assert record["type"] == row["label"]
        assert list(record) == RECORD_KEYS[row["label"]]
        assert all(record[key] is not None for key in record if key not in ("date", "time"))
        for key in ("people", "quantity"):
            assert isinstance(record.get(key, 1), int)
        for key in ("amount", "value"):
            assert re.fullmatch(r"\d+(\.\d{1,2})?", str(record.get(key, 1)))
        assert record.get("currency", "EUR") in ("EUR", "GBP", "USD")
        assert record.get("unit", "kg") in ("kg", "g", "C", "cm", "m", "l")


def test_the_day_and_the_time_of_a_record_are_those_of_its_sentence() -> None:
    nulls = 0
    for row in read_task("sentence_to_json"):
        sentence, record = sentence_of(row), json.loads(row["completion"])
        tokens = re.findall(r"[a-z]+|\d+", sentence.lower())
        named = [word for word in tokens if word in WEEKDAYS or word in MONTHS]
        if record["date"] is None:
            nulls += 1
            assert not named, sentence
        elif record["date"] in WEEKDAYS:
            assert named == [record["date"]], sentence
        else:
            month, day = record["date"].split("-")
            assert named == [MONTHS[int(month) - 1]], sentence
            assert str(int(day)) in tokens, sentence
        if "time" in record:
            said = CLOCK.search(sentence) is not None
            assert said == (record["time"] is not None), sentence
            assert re.fullmatch(r"\d\d:\d\d", record["time"] or "00:00")
    assert nulls > 50


def test_names_and_numbers_of_a_record_are_those_of_its_sentence() -> None:
    for row in read_task("sentence_to_json"):
        sentence, record = sentence_of(row).lower(), json.loads(row["completion"])
        for key in ("place", "city", "task", "subject"):
            assert str(record.get(key, "")).lower() in sentence
        for key in ("people", "quantity", "amount", "value"):
            value = record.get(key)
            if value is not None and not re.search(r"(?<![\d.])" + re.escape(str(value)), sentence):
                # not in digits, so in words (or as "a" for one)
                assert value == 1 or re.search(
                    r"teen|ty|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve", sentence
                )
