"""An arm on a machine of a cluster, without Ray: it goes on from what is kept, sends what it leaves, and ends alone."""

import json
import os
import subprocess
import sys

import pytest

from semfreeze_core.finetune.arm import launch
from semfreeze_core.finetune.arm.files import to_go_on_from
from semfreeze_core.finetune.arm.process import NO_ROOM, OUT_OF_MEMORY
from semfreeze_core.finetune.runner import mailbox as mailbox_module
from semfreeze_core.finetune.runner import outbox, ray_node
from semfreeze_core.finetune.runner.mailbox import Mailbox
from semfreeze_core.finetune.runner.ray_node import LOST, STALE, UNSENT, carry_out

# Writes a checkpoint after those that it finds, and then does as it is told.
ARM = """
import json, os, sys, time
from pathlib import Path
def say(**event): print(json.dumps(event), flush=True)
job = json.loads(Path(sys.argv[1]).read_text())
result = Path(job["result"])
saves = result.with_suffix(".saves")
found = sorted(int(p.name.split("-")[1]) for p in saves.glob("checkpoint-*"))
step = max(found, default=0) + 1
say(stage=f"found {found}, {os.environ.get('ADDED')}", done=step)
place = saves / f"checkpoint-{step}"
place.mkdir(parents=True)
(place / "trained.safetensors").write_bytes(bytes([step]) * 20)
(place / "recorded.json").write_text("{}")
result.with_suffix(".live").write_text(f"live {step}")
print("noise", file=sys.stderr)
"""


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(outbox, "_SECONDS_BETWEEN_MESSAGES", 0.02)
    monkeypatch.setattr(outbox, "_SECONDS_BETWEEN_LOOKS", 0.02)
    monkeypatch.setattr(outbox, "CHUNK_BYTES", 8)
    monkeypatch.setattr(mailbox_module, "CHUNK_BYTES", 8)


@pytest.fixture
def begin(tmp_path, monkeypatch):
    """Begins an arm whose process does something; returns its outcome."""
    mailbox = Mailbox(str(tmp_path / "kept"), {})

    def run(script, call=None):
        (tmp_path / "arm.py").write_text(ARM + script)
        monkeypatch.setattr(
            launch,
            "_start",
            lambda command, **how: subprocess.Popen([sys.executable, str(tmp_path / "arm.py"), command[-1]], **how),
        )
        sent = tmp_path / "sent"
        sent.write_text("")

        def plain(name, *arguments):
            answer = getattr(mailbox, name)(*arguments)
            if name == "commit":
                sent.write_text(" ".join(mailbox.manifest("0")))
            return answer

        parcel = {
            "job": {"model": {"source": "embedded"}, "arm": None},
            "model": None,
            "attempts": 4,
            "environment": {"ADDED": "1", "SENT": str(sent)},
            "examples": b"examples",
        }
        return carry_out("0", "full-seed0", parcel, call or plain, "node7")

    run.mailbox = mailbox
    return run


WAIT_UNTIL_SENT = "while f'checkpoint-{step}/' not in Path(os.environ['SENT']).read_text(): time.sleep(0.01)\n"
DONE = "result.write_text('the result')\n"


def test_an_arm_is_carried_out_and_what_it_says_arrives(begin):
    outcome = begin(WAIT_UNTIL_SENT + DONE)
    assert (outcome["code"], outcome["result"]) == (0, "the result")
    assert b"noise" in outcome["log"]
    messages = begin.mailbox.take("0")
    assert [m["event"]["stage"] for m in messages if "event" in m] == ["found [], 1"]
    assert [m["live"] for m in messages if "live" in m] == ["live 1"]


def test_an_arm_begun_again_goes_on_from_what_was_kept(begin):
    begin(WAIT_UNTIL_SENT + "os._exit(1)\n")
    begin(WAIT_UNTIL_SENT + "os._exit(1)\n")
    begin.mailbox.take("0")
    assert begin(DONE)["code"] == 0
    events = [m["event"] for m in begin.mailbox.take("0") if "event" in m]
    # the newest checkpoint alone is kept
    assert [event["stage"] for event in events if not event["message"]] == ["found [2], 1"]
    assert [event["message"] for event in events if event["message"]] == [
        "full-seed0: its machine was lost. It resumes on node7, from its last checkpoint."
    ]


def test_exit_codes_and_reasons_are_handed_back(begin):
    outcome = begin(f"say(reason='none left')\nsys.exit({OUT_OF_MEMORY})\n")
    assert (outcome["code"], outcome["reason"], outcome["result"]) == (OUT_OF_MEMORY, "none left", None)


def test_an_arm_that_was_begun_too_often_is_not_begun(begin):
    for _ in range(4):
        begin.mailbox.begin("0")
    assert begin("raise SystemExit('it began')")["code"] == LOST


def test_an_arm_ends_when_another_attempt_begins(begin):
    def call(name, *arguments):
        if name == "commit":
            begin.mailbox.begin("0")  # its machine is believed lost now
        return getattr(begin.mailbox, name)(*arguments)

    assert begin("time.sleep(60)\n", call)["code"] == STALE


@pytest.mark.parametrize("refusing", ["post", "write"])
def test_an_arm_that_cannot_send_ends_with_the_reason(begin, capsys, refusing):
    def call(name, *arguments):
        if name == refusing:
            raise ConnectionError("the command is gone")
        return getattr(begin.mailbox, name)(*arguments)

    outcome = begin("time.sleep(60)\n", call)
    assert outcome["code"] == UNSENT
    assert outcome["reason"].endswith("could not send its progress and files: ConnectionError: the command is gone")
    logged = capsys.readouterr().err
    assert "full-seed0 ends: its progress and files could not be sent" in logged
    assert logged.endswith("ConnectionError: the command is gone\n")


def test_a_full_disk_of_a_machine_names_it(begin, monkeypatch):
    def full(*_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(ray_node, "unpack_job", full)
    outcome = begin("")
    assert outcome["code"] == NO_ROOM
    assert outcome["reason"].startswith("node7: The disk is full")


def test_of_a_search_the_trials_and_the_best_checkpoint_are_kept(tmp_path):
    rates = tmp_path / "arm.rates"
    for name in ("0.001/checkpoint-4/a", "0.003/checkpoint-4/a"):
        (rates / name).parent.mkdir(parents=True)
        (rates / name).touch()
    assert to_go_on_from(tmp_path / "arm.json") == []
    (rates / "trials.json").write_text(json.dumps({"best": None}))
    assert to_go_on_from(tmp_path / "arm.json") == [rates / "trials.json"]
    (rates / "trials.json").write_text(json.dumps({"best": {"rate": 0.003}}))
    assert to_go_on_from(tmp_path / "arm.json") == [rates / "trials.json", rates / "0.003/checkpoint-4/a"]
