"""Every command on damaged files: an answer or one clear refusal, never a traceback, a hang or raw control codes."""

import re
import shutil
import signal
from collections import Counter

import pytest

from semfreeze_core.finetune.runner import this_machine
from semfreeze_core.finetune.train import phases
from semfreeze_core.runs.store import example_run
from tests.core.cli.damaged import damage
from tests.core.cli.terminal import Answer, ask
from tests.core.finetune.tiny_plan import make_tiny_plan, write_task

SECONDS = 60  # far beyond what anything here takes
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
# The named ones hung, recursed or panicked inside a library.
QUICK, MANY = (*range(60), 301, 427, 507), range(60, 560)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A model, a plan for it, a task as JSON Lines and as CSV, and a run."""
    folder = tmp_path_factory.mktemp("good")
    plan, _ = make_tiny_plan(folder / "model")
    (folder / "plan.json").write_text(plan.model_dump_json())
    rows = write_task(folder / "task.jsonl", 24)
    lines = [line.split('"')[3::4] for line in rows.read_text().splitlines()]
    (folder / "task.csv").write_text("prompt,completion\n" + "".join(f'"{a}","{b}"\n' for a, b in lines))
    shutil.copytree(example_run(), folder / "run")
    return folder


# The file that is damaged, and what is asked of it; {} stands for the folder.
ASKED = {
    "task.jsonl": (
        ("preview", "--model", "{}/model", "--data", "{}/task.jsonl"),
        ("analyze", "--model", "{}/model", "--data", "{}/task.jsonl", "--allow-few", "--device", "cpu", "-q"),
        ("train", "{}/plan.json", "--data", "{}/task.jsonl", "--out", "{}/out", "-q"),
    ),
    "task.csv": (("preview", "--model", "{}/model", "--data", "{}/task.csv"),),
    "plan.json": (
        ("export", "{}/plan.json", "--to", "hf-trainer"),
        ("train", "{}/plan.json", "--data", "{}/task.jsonl", "--out", "{}/out", "-q"),
        ("validate", "{}/plan.json", "--train", "{}/task.jsonl", "--eval", "{}/task.jsonl", "--out", "{}/out", "-q"),
    ),
    "model/config.json": (("models", "check", "{}/model"), ("cost", "--model", "{}/model")),
    "model/tokenizer_config.json": (("preview", "--model", "{}/model", "--data", "{}/task.jsonl"),),
    "model/tokenizer.json": (("preview", "--model", "{}/model", "--data", "{}/task.jsonl"),),
    "model/model.safetensors": (("models", "check", "{}/model"),),
    "run/manifest.json": (("show", "{}/run"), ("plan", "{}/run"), ("cost", "{}/run")),
}
FILES = tuple(ASKED)


class TooLong(BaseException):
    """A command did not come to its end."""


class Accepted(BaseException):
    """A command took its files and began to train."""


def accept(*_, **__):
    raise Accepted


def answer_in_time(arguments):
    def stop(*_):
        raise TooLong(f"longer than {SECONDS} seconds: {arguments}")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        return ask(*arguments)
    except Accepted:
        return Answer(0, "", "")
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def require_an_answer(answer, arguments):
    said = answer.out + answer.err
    assert answer.code in (0, 2), (arguments, answer.code, said)
    assert "Traceback" not in said, (arguments, said)
    assert not CONTROL.search(said), (arguments, CONTROL.search(said), said)
    assert len(answer.err) < 3000, (arguments, answer.err[:500])
    if answer.code == 2:
        assert answer.out == "", (arguments, answer.out)
        assert answer.err.count("semfreeze: ") == 1, (arguments, answer.err)


def judge(good, tmp_path, monkeypatch, seed):
    """Damage one file by its seed and ask what is asked of it; returns the exit codes."""
    monkeypatch.setattr(this_machine, "run_arm_process", accept)
    monkeypatch.setattr(phases.PhasedTraining, "fit_phases", accept)
    name = FILES[seed % len(FILES)]
    folder = tmp_path / "damaged"
    shutil.copytree(good, folder)
    path = folder / name
    path.write_bytes(damage(path.read_bytes(), seed))
    codes = []
    for arguments in ASKED[name]:
        arguments = [word.format(folder) for word in arguments]
        answer = answer_in_time(arguments)
        require_an_answer(answer, arguments)
        codes.append(answer.code)
    return codes


@pytest.mark.quick_cases(3)
@pytest.mark.parametrize("seed", QUICK)
def test_a_damaged_file_is_read_or_refused_in_one_sentence(good, tmp_path, monkeypatch, seed):
    judge(good, tmp_path, monkeypatch, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", MANY)
def test_five_hundred_damaged_files_are_read_or_refused_in_one_sentence(good, tmp_path, monkeypatch, seed):
    judge(good, tmp_path, monkeypatch, seed)


def test_damages_are_of_many_kinds(good):
    """Most damages change the file, and no two files are damaged alike: else the tests above see little."""
    changed = Counter()
    for name in FILES:
        before = (good / name).read_bytes()
        after = {damage(before, seed) for seed in range(40)} - {before}
        changed[name] = len(after)
    assert min(changed.values()) >= 15, changed
