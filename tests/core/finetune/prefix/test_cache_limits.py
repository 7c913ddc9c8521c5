"""Caches on disk within their limits: older ones make room, and a full disk is said."""

import errno
import os
import resource
import shutil
from collections import namedtuple

import pytest
from filelock import FileLock

from semfreeze_core.finetune.prefix.cache import build_prefix_cache
from semfreeze_core.finetune.prefix.store import CacheUnavailable
from semfreeze_core.storage import folder_bytes
from tests.core.finetune.boundary import (
    EXAMPLES,
    STATES_BYTES,
    assert_same_states,
    filed,
    shards,
    tiny_cache,
)
from tests.core.semantics.tiny_examples import random_examples


@pytest.fixture
def shard_a_sample(monkeypatch):
    monkeypatch.setattr("semfreeze_core.finetune.prefix.fill.SHARD_BYTES", 1)


# Limits


def cache_names(folder):
    return {path.name for path in folder.iterdir() if path.is_dir()}


def three_caches(decoder, folder):
    """Three caches, the first used longest ago; their keys."""
    keys = [filed(decoder, folder, key_base=name).key for name in "abc"]
    for age, key in enumerate(reversed(keys)):
        os.utime(folder / key, (1e9 - age, 1e9 - age))
    return keys


def test_the_caches_used_longest_ago_make_room(decoder, tmp_path):
    one, two, three = three_caches(decoder, tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "weights").write_bytes(bytes(10**6))
    assert filed(decoder, tmp_path, key_base="a").hits == 12  # now the one used last
    events = []
    limit = 3 * folder_bytes(tmp_path / one)
    new = filed(decoder, tmp_path, key_base="d", disk_limit_bytes=limit, progress=events.append)
    assert cache_names(tmp_path) == {"models", one, three, new.key}
    assert (tmp_path / "models" / "weights").exists()
    assert "An older prefix cache was deleted to make room" in events[0].message
    assert two not in cache_names(tmp_path)


def test_a_cache_that_makes_room_can_still_be_read_where_it_is_open(decoder, tmp_path):
    old = filed(decoder, tmp_path, key_base="a")
    filed(decoder, tmp_path, key_base="b", disk_limit_bytes=STATES_BYTES + 100)
    assert cache_names(tmp_path) != {old.key}
    assert old.key not in cache_names(tmp_path)
    assert_same_states(old, tiny_cache(decoder, 2))


def test_a_cache_that_another_process_fills_does_not_make_room(decoder, tmp_path):
    one, _, three = three_caches(decoder, tmp_path)
    limit = 3 * folder_bytes(tmp_path / one)
    with FileLock(tmp_path / f".{one}.lock"):
        new = filed(decoder, tmp_path, key_base="d", disk_limit_bytes=limit)
        assert cache_names(tmp_path) == {one, three, new.key}
        with FileLock(tmp_path / f".{three}.lock"), pytest.raises(CacheUnavailable, match="held by caches that others"):
            filed(decoder, tmp_path, key_base="e", disk_limit_bytes=STATES_BYTES)


def test_a_caches_own_unused_states_make_room_first(decoder, tmp_path):
    filed(decoder, tmp_path, key_base="other")
    before = filed(decoder, tmp_path)
    size = folder_bytes(tmp_path)
    fresh = random_examples(12, 1)
    build_prefix_cache(
        decoder, 2, fresh, key_base="tiny", memory_limit_bytes=0, folder=tmp_path, disk_limit_bytes=int(size * 1.2)
    )
    assert len(cache_names(tmp_path)) == 2
    assert filed(decoder, tmp_path, key_base="other").hits == 12
    assert filed(decoder, tmp_path).hits == 0
    assert before.where == "file"


def test_a_cache_above_the_disk_limit_is_refused_and_nothing_deleted(decoder, tmp_path):
    keys = three_caches(decoder, tmp_path)
    with pytest.raises(CacheUnavailable, match=r"needs 0.0 MiB, and caches may take 0.0 MiB"):
        filed(decoder, tmp_path, key_base="d", disk_limit_bytes=STATES_BYTES - 1)
    assert cache_names(tmp_path) >= set(keys)


def test_two_processes_fill_a_cache_one_after_the_other(decoder, tmp_path):
    key = filed(decoder, tmp_path).key
    lock = FileLock(tmp_path / f".{key}.lock", thread_local=False)
    lock.acquire()
    events = []

    def listen(event):
        events.append(event.message)
        lock.release()

    assert filed(decoder, tmp_path, progress=listen).hits == 12
    assert events == ["Waiting for another process that is filling the same prefix cache."]


# Full disks


def test_too_little_free_disk_is_said_before_anything_is_computed(decoder, tmp_path, monkeypatch):
    keys = three_caches(decoder, tmp_path)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(2**30, 2**30, 100))
    new = filed(decoder, tmp_path, key_base="d")  # the oldest makes room
    assert cache_names(tmp_path) == {*keys[1:], new.key}
    for name in cache_names(tmp_path):
        shutil.rmtree(tmp_path / name)
    decoder.layers[0].register_forward_pre_hook(lambda *_: pytest.fail("computed in vain"))
    with pytest.raises(CacheUnavailable, match=r"needs 0.0 MiB on disk, and 0.0 MiB are free"):
        filed(decoder, tmp_path, key_base="e")


def test_a_disk_that_fills_up_is_said_and_left_as_it_was(decoder, tmp_path, shard_a_sample, monkeypatch):
    build_prefix_cache(decoder, 2, EXAMPLES[:2], key_base="tiny", memory_limit_bytes=0, folder=tmp_path)
    before = shards(tmp_path)
    original, calls = os.fsync, []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) > 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CacheUnavailable, match=f"The disk is full: the prefix cache cannot be stored in {tmp_path}"):
        filed(decoder, tmp_path)
    monkeypatch.undo()
    assert len(calls) == 5
    assert shards(tmp_path) == before
    assert not list(tmp_path.glob("*/.*"))
    assert filed(decoder, tmp_path).hits == 2


def test_a_file_above_the_systems_limit_is_said(decoder, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (STATES_BYTES // 2, limits[1]))
    try:
        with pytest.raises(CacheUnavailable, match=r"limits the size of a file: the prefix cache cannot be stored in "):
            filed(decoder, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not shards(tmp_path)


def test_a_folder_that_is_none_is_said(decoder, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CacheUnavailable, match="Not a directory"):
        filed(decoder, tmp_path / "file" / "caches")


def test_a_fill_that_fails_gives_the_model_its_calls_back(decoder, tmp_path, shard_a_sample, monkeypatch):
    start, layer_class = tiny_cache(decoder, 1), type(decoder.layers[0])

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CacheUnavailable, match="The disk is full") as caught:
        filed(decoder, tmp_path, k=3, start=start, batch_tokens=1)
    assert caught.tb is not None  # whose frames are alive
    assert type(decoder.layers[0]) is layer_class


def test_an_old_cache_that_cannot_be_deleted_is_said(decoder, tmp_path, monkeypatch):
    three_caches(decoder, tmp_path)

    def fail(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(shutil, "rmtree", fail)
    with pytest.raises(CacheUnavailable, match="Permission denied"):
        filed(decoder, tmp_path, key_base="d", disk_limit_bytes=STATES_BYTES)
