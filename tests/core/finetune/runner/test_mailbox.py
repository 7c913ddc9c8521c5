"""The mailbox between an arm and its command: messages in order, files by attempt, nothing of a stale one."""

import pytest

from semfreeze_core.finetune.runner import mailbox as mailbox_module
from semfreeze_core.finetune.runner.mailbox import Mailbox


@pytest.fixture
def mailbox(tmp_path):
    (tmp_path / "weights").write_bytes(b"abcdefgh")
    return Mailbox(str(tmp_path / "kept"), {"model.safetensors": str(tmp_path / "weights")})


def test_messages_are_taken_once_and_in_order(mailbox):
    attempt = mailbox.begin("0")
    assert mailbox.post("0", attempt, [{"n": 1}, {"n": 2}])
    assert mailbox.post("0", attempt, [{"n": 3}])
    assert mailbox.take("1") == []
    assert mailbox.take("0") == [{"n": 1}, {"n": 2}, {"n": 3}]
    assert mailbox.take("0") == []


def test_what_an_earlier_attempt_leaves_is_refused(mailbox):
    first = mailbox.begin("0")
    mailbox.write("0", first, "a", 0, b"one")
    mailbox.commit("0", first, {"runs/a": "a"})
    assert mailbox.begin("0") == first + 1
    assert not mailbox.post("0", first, [{"n": 1}])
    assert not mailbox.write("0", first, "a", 0, b"two")
    assert not mailbox.commit("0", first, {})
    assert mailbox.take("0") == []
    assert mailbox.manifest("0") == {"runs/a": "a"}
    assert mailbox.read("0", "a", 0) == b"one"


def test_files_are_kept_in_parts_and_those_no_longer_named_are_deleted(mailbox, tmp_path):
    attempt = mailbox.begin("0")
    for offset, part in ((0, b"abc"), (3, b"de")):
        mailbox.write("0", attempt, "a", offset, part)
    mailbox.write("0", attempt, "b", 0, b"")
    mailbox.commit("0", attempt, {"x": "a", "y": "b"})
    assert mailbox.read("0", "a", 0) == b"abcde"
    assert mailbox.read("0", "a", 5) == b""
    mailbox.write("0", attempt, "a", 0, b"z")  # again from its start
    assert mailbox.read("0", "a", 0) == b"z"
    mailbox.commit("0", attempt, {"y": "b"})
    assert [path.name for path in (tmp_path / "kept" / "0").iterdir()] == ["b"]
    mailbox.forget("0")
    assert not (tmp_path / "kept" / "0").exists()
    assert mailbox.manifest("0") == {}


def test_a_file_s_name_leads_out_of_no_folder(mailbox, tmp_path):
    mailbox.write("0", mailbox.begin("0"), "../../outside", 0, b"x")
    assert not (tmp_path / "outside").exists()
    with pytest.raises(KeyError):
        mailbox.read_source("../kept/0/outside", 0)


def test_sources_are_read_in_parts(mailbox, monkeypatch):
    monkeypatch.setattr(mailbox_module, "CHUNK_BYTES", 5)
    assert [mailbox.read_source("model.safetensors", at) for at in (0, 5, 8)] == [b"abcde", b"fgh", b""]
