"""One file, five commands: what one of them takes or refuses, all of them do, for the same reason."""

import json

import pytest

from semfreeze_core.finetune.runner import this_machine
from semfreeze_core.finetune.train import phases
from semfreeze_core.workflow import analysis
from tests.core.cli.terminal import ask
from tests.core.finetune.tiny_plan import make_tiny_plan
from tests.core.tiny_tokenizer import CHATML, build_tiny_tokenizer

N = 40
COMMANDS = {
    "preview": "preview --model {0}/model --data {1}",
    "analyze": "analyze --model {0}/model --data {1} --out {2}/run --device cpu -q",
    "validate": "validate {0}/plan.json --train {1} --eval {1} --out {2}/validation -q",
    "train": "train {0}/plan.json --data {1} --out {2}/trained -q",
    "export": "export {0}/plan.json --to hf-trainer --data {1}",
}


class Accepted(BaseException):
    """A command took the file and began with what it is for."""


def accept(*_, **__):
    raise Accepted


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A folder with a chat model and a plan for it."""
    folder = tmp_path_factory.mktemp("place")
    plan, _ = make_tiny_plan(folder / "model", tokenizer=build_tiny_tokenizer(chat_template=CHATML))
    (folder / "plan.json").write_text(plan.model_dump_json())
    return folder


def pair(i, **more):
    return {"prompt": f"say {i}", "completion": " one", **more}


def talk(i, user="user", assistant="assistant", role="role", text="content", **more):
    return [{role: user, text: f"say {i}"}, {role: assistant, text: "one", **more}]


def lines(row, *, odd=None, at=N - 1):
    """A row for each number, the one at `at` replaced by a text."""
    rows = [json.dumps(row(i)) for i in range(N)]
    if odd is not None:
        rows[at] = odd
    return "".join(f"{row}\n" for row in rows)


TAKEN = {
    "pairs": lines(pair),
    "a wrong row": lines(pair, odd='{"prompt": null, "completion": 3}'),
    "a line that is no JSON": lines(pair, odd='{"prompt": '),
    "a comment before the first row": f"# from the archive\n{lines(pair)}",
    "a key given twice": lines(pair, odd='{"prompt": "a", "completion": "b", "prompt": "c"}'),
    "a row that is a list": lines(pair, odd="[1, 2]"),
    "a guessed label that is none": lines(lambda i: pair(i, label=0.5)),
    "Alpaca": lines(lambda i: {"instruction": "say", "input": str(i), "output": "one"}),
    "ShareGPT": lines(lambda i: {"conversations": talk(i, "human", "gpt", "from", "value")}),
    "messages of weight 0 and 1": lines(lambda i: {"messages": [*talk(i, weight=0), *talk(i, weight=1)]}),
    "plain text": lines(lambda i: {"text": f"say {i}"}),
}
REFUSED = {
    "a table": ("prompt,completion\n" + "say,one\n" * N, "line 1: not JSON (Expecting value at character 1)"),
    "keys given twice": ('{"a": 1, "a": 2}\n' * N, "line 1: names 'a' more than once"),
    "rows that are lists": ("[1, 2]\n" * N, "line 1: a list, expected an object"),
    "fields that are not clear": (lines(lambda i: {"a": "b", "c": "d"}), "The fields are not clear"),
    "preferences": (lines(lambda i: {"prompt": "a", "chosen": "b", "rejected": "c"}), "are preference data"),
    "no text anywhere": (lines(lambda i: pair(i) | {"completion": " "}), "All 40 rows have no text in 'completion'"),
    "numbers for texts": (lines(lambda i: pair(i) | {"completion": i}), "none of 40 rows can be used"),
    "half weights": (lines(lambda i: {"messages": talk(i, weight=0.5)}), "the weight of message 1 of field"),
    "unknown roles": (lines(lambda i: {"messages": talk(i, "nobody")}), "message 0 of field 'messages' has the role"),
    "reasoning that the model's template does not show": (
        lines(lambda i: {"messages": talk(i, reasoning_content="So.")}),
        "which the model's chat template does not show",
    ),
    "pairs of messages with tool calls": (
        lines(
            lambda i: {"prompt": talk(i)[:1], "completion": [*talk(i, tool_calls=[{"function": {"name": "f"}}])[1:]]}
        ),
        "which the model's chat template does not show",
    ),
    "no answer": (lines(lambda i: {"messages": talk(i)[:1]}), "no answer of an assistant in 'messages'"),
    "nothing": ("", "is empty (0 bytes)"),
}


def judgments(workspace, tmp_path, monkeypatch, text):
    """By command, why it refuses the file; None where it takes it."""
    monkeypatch.setattr(analysis, "prepare_labels", accept)
    monkeypatch.setattr(this_machine, "run_arm_process", accept)
    monkeypatch.setattr(phases.PhasedTraining, "fit_phases", accept)
    (tmp_path / "task.jsonl").write_text(text)
    reasons = {}
    for name, command in COMMANDS.items():
        try:
            answer = ask(*(word.format(workspace, tmp_path / "task.jsonl", tmp_path) for word in command.split()))
        except Accepted:
            reasons[name] = None
        else:
            reasons[name] = None if answer.code == 0 else answer.refusal
    return reasons


@pytest.mark.parametrize("name", TAKEN)
def test_a_file_that_one_command_takes_all_take(workspace, tmp_path, monkeypatch, name):
    assert judgments(workspace, tmp_path, monkeypatch, TAKEN[name]) == dict.fromkeys(COMMANDS)


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_one_command_refuses_all_refuse_for_the_same_reason(workspace, tmp_path, monkeypatch, name):
    text, reason = REFUSED[name]
    reasons = judgments(workspace, tmp_path, monkeypatch, text)
    assert {command: reason in (refusal or "") for command, refusal in reasons.items()} == dict.fromkeys(COMMANDS, True)
