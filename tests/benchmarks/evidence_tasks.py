"""The tasks that evidence rests on: those that the tool is for, of many examples and of few, and a contrary case."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sample_data.dice import Dice
from semfreeze_core.sources.data.samples import resolve_data
from semfreeze_core.storage import write_atomically

_WORD = re.compile(r"[A-Za-z']+")


@dataclass(frozen=True)
class Task:
    """A training and an eval file, and how much of them is used.

    Attributes:
        name: of its result.
        about: one sentence.
        files: paths or sample names of both, from the data folder and a folder for files made here.
        batch_size: examples a step.
        n_train, n_eval: examples drawn.
        n_read: examples of the reading.
        contrary: whether the input side matters in it.
    """

    name: str
    about: str
    files: Callable[[Path, Path], tuple[str, str]]
    batch_size: int = 4
    n_train: int = 480
    n_eval: int = 64
    n_read: int = 256
    contrary: bool = False


def _from_folder(name: str) -> Callable[[Path, Path], tuple[str, str]]:
    return lambda data, _: (str(data / f"{name}_train.jsonl"), str(data / f"{name}_test.jsonl"))


def _sample(name: str) -> Callable[[Path, Path], tuple[str, str]]:
    return lambda _, __: (f"sample:{name}_train", f"sample:{name}_eval")


def short_problems(data: Path, made: Path) -> tuple[str, str]:
    """Files of the gsm8k examples of at most 400 characters: two cores train a full arm on them in minutes."""
    made.mkdir(parents=True, exist_ok=True)
    for name in ("gsm8k_train", "gsm8k_test"):
        rows = (data / f"{name}.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        short = [row for row in rows if sum(map(len, json.loads(row).values())) <= 400]
        write_atomically(made / f"short_{name}.jsonl", "".join(short))
    return str(made / "short_gsm8k_train.jsonl"), str(made / "short_gsm8k_test.jsonl")


def remapped_words(_: Path, made: Path) -> tuple[str, str]:
    """Files of support_intents in which every word of a message stands for another one, the same in both files."""
    names = ("support_intents_train", "support_intents_eval")
    files = {n: [json.loads(row) for row in Path(resolve_data(f"sample:{n}")).read_text().splitlines()] for n in names}
    messages = [row["prompt"].removesuffix("\nIntent:").removeprefix("Message: ") for f in files.values() for row in f]
    vocabulary = sorted({word.lower() for message in messages for word in _WORD.findall(message)})
    meaning = dict(zip(vocabulary, Dice(0).shuffled(vocabulary), strict=True))
    made.mkdir(parents=True, exist_ok=True)
    for name, rows in files.items():
        for row in rows:
            message = row["prompt"].removesuffix("\nIntent:").removeprefix("Message: ")
            swapped = _WORD.sub(lambda match: meaning[match[0].lower()], message)
            row["prompt"] = f"Message: {swapped}\nIntent:"
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        write_atomically(made / f"remapped_{name}.jsonl", text)
    train, evaluation = (str(made / f"remapped_{name}.jsonl") for name in names)
    return train, evaluation


def instructions(data: Path, made: Path) -> tuple[str, str]:
    """Files of the self-instruct seeds of at most 500 characters, every third one for evaluation."""
    made.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(row) for row in (data / "self_instruct_seeds.jsonl").read_text(encoding="utf-8").splitlines()]
    asked = [
        {"prompt": f"{row['instruction']}\n{row['input']}\n", "completion": row["output"]}
        for row in rows
        if sum(map(len, row.values())) <= 500
    ]
    paths = made / "instructions_train.jsonl", made / "instructions_test.jsonl"
    parts = [row for i, row in enumerate(asked) if i % 3], asked[::3]
    for path, part in zip(paths, parts, strict=True):
        write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in part))
    return str(paths[0]), str(paths[1])


def few(files: Callable[[Path, Path], tuple[str, str]], n: int) -> Callable[[Path, Path], tuple[str, str]]:
    """The same files, with n training rows of all of them."""

    def made(data: Path, folder: Path) -> tuple[str, str]:
        train, evaluation = files(data, folder)
        source = Path(resolve_data(train))
        rows = source.read_text(encoding="utf-8").splitlines(keepends=True)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{n}_{source.name}"
        write_atomically(path, "".join(Dice(0).shuffled(rows)[:n]))
        return str(path), evaluation

    return made


def shuffled_completions(data: str, path: Path) -> str:
    """A task file with its completions, and labels, moved to other rows: nothing can be learned of the prompt."""
    rows = [json.loads(row) for row in Path(resolve_data(data)).read_text().splitlines()]
    moved = Dice(0).shuffled(rows)
    columns = ("prompt", "question", "text")
    mixed = [{k: row[k] if k in columns else other[k] for k in row} for row, other in zip(rows, moved, strict=True)]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in mixed))
    return str(path)


TASKS = {
    task.name: task
    for task in (
        Task("banking77", "customers' messages to one of 77 intents", _from_folder("banking77")),
        Task("sentence_to_json", "sentences to JSON records, written by us", _sample("sentence_to_json")),
        Task(
            "gsm8k",
            "grade-school maths with worked answers, at most 400 characters, 2 examples a step",
            short_problems,
            batch_size=2,
        ),
        Task(
            "remapped_words",
            "contrary case: intents of messages whose words' meanings are swapped",
            remapped_words,
            contrary=True,
        ),
        Task("instructions", "instructions of many kinds, at most 500 characters, 82 to train on", instructions),
        Task("quantity_problems", "word problems with worked answers, written by us", _sample("quantity_problems")),
        Task(
            "banking77_80",
            "customers' messages to one of 77 intents, 80 to train on",
            few(_from_folder("banking77"), 80),
        ),
        Task(
            "quantity_problems_80",
            "word problems with worked answers, 80 to train on",
            few(_sample("quantity_problems"), 80),
        ),
    )
}
