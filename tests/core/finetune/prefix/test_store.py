"""Caches on disk: found again, never mistaken, never read damaged, and whole after any kill."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from semfreeze_core.finetune.prefix.cache import build_prefix_cache
from semfreeze_core.finetune.prefix.proof import verify_cache
from semfreeze_core.finetune.prefix.suffix import Suffix
from semfreeze_core.storage import folder_bytes
from tests.core.finetune.boundary import (
    EXAMPLES,
    STATES_BYTES,
    assert_same_states,
    filed,
    frozen_decoder,
    shards,
    tiny_cache,
)
from tests.core.finetune.killed_fill import MOMENTS
from tests.core.semantics.tiny_examples import random_examples

ROOT = Path(__file__).parents[4]


# Found again


def test_states_above_the_memory_limit_are_filed_and_found_again(decoder, tmp_path):
    expected = tiny_cache(decoder, 2)
    first = filed(decoder, tmp_path, memory_limit_bytes=STATES_BYTES - 1)
    assert (first.where, first.hits, first.bytes) == ("file", 0, STATES_BYTES)
    assert_same_states(first, expected)
    decoder.layers[0].register_forward_pre_hook(lambda *_: pytest.fail("the prefix ran again"))
    again = filed(decoder, tmp_path)
    assert (again.where, again.hits, again.key) == ("file", 12, first.key)
    assert_same_states(again, expected)
    assert first.batch([3])[0].data_ptr() != again.batch([3])[0].data_ptr()  # a batch is a copy, not the file


def test_states_within_the_memory_limit_leave_no_file(decoder, tmp_path):
    cache = filed(decoder, tmp_path / "none", memory_limit_bytes=STATES_BYTES)
    assert cache.where == "memory"
    assert not (tmp_path / "none").exists()


def test_states_in_memory_are_left_for_others_when_asked(decoder, tmp_path):
    stored = tiny_cache(decoder, 2, folder=tmp_path, keep=True)
    assert stored.where == "memory"
    assert shards(tmp_path)
    reopened = tiny_cache(decoder, 2, folder=tmp_path, keep=True)
    assert (reopened.where, reopened.hits) == ("memory", 12)
    assert_same_states(reopened, tiny_cache(decoder, 2))


def test_states_that_cannot_be_left_for_others_stay_in_memory(decoder, tmp_path):
    (tmp_path / "file").touch()
    events = []
    cache = tiny_cache(decoder, 2, folder=tmp_path / "file" / "caches", keep=True, progress=events.append)
    assert cache.where == "memory"
    assert any("Not a directory" in event.message and "held in memory" in event.message for event in events)
    assert_same_states(cache, tiny_cache(decoder, 2))


def test_states_in_memory_are_taken_from_files_where_there_are_some(decoder, tmp_path):
    build_prefix_cache(decoder, 2, EXAMPLES[:7], key_base="tiny", memory_limit_bytes=0, folder=tmp_path)
    cache = filed(decoder, tmp_path, memory_limit_bytes=2**30)
    assert (cache.where, cache.hits) == ("memory", 7)
    before = folder_bytes(tmp_path)
    shutil.rmtree(tmp_path)
    assert before < STATES_BYTES + 4000
    assert_same_states(cache, tiny_cache(decoder, 2))


def test_more_examples_need_only_their_own_states(decoder, tmp_path):
    build_prefix_cache(decoder, 2, EXAMPLES[:5], key_base="tiny", memory_limit_bytes=0, folder=tmp_path)
    events = []
    cache = filed(decoder, tmp_path, progress=events.append)
    assert cache.hits == 5
    assert events[-1].total == sum(len(e.input_ids) for e in EXAMPLES[5:])
    assert_same_states(cache, tiny_cache(decoder, 2))


def test_a_filed_cache_is_proved_and_gone_on_from(decoder, tmp_path):
    cache = filed(decoder, tmp_path)
    verify_cache(decoder, Suffix(decoder, 2), cache, EXAMPLES)
    deeper = filed(decoder, tmp_path, k=3, start=cache)
    assert deeper.where == "file"
    assert_same_states(deeper, tiny_cache(decoder, 3))


def test_a_slow_model_is_filed_before_a_file_is_full(decoder, tmp_path, monkeypatch):
    monkeypatch.setattr("semfreeze_core.finetune.prefix.fill.SHARD_SECONDS", 0.0)
    filed(decoder, tmp_path)
    assert len(shards(tmp_path)) == 12


# Never mistaken


def one_bit_of_one_weight():
    decoder = frozen_decoder()
    decoder.layers[1].mlp.down_proj.weight.data.view(torch.int32)[3, 4] ^= 1
    return decoder


def another_config():
    decoder = frozen_decoder()
    decoder.model.config.rms_norm_eps = 1e-5
    return decoder


@pytest.mark.parametrize(
    ("build", "how"),
    [
        pytest.param(lambda: frozen_decoder(seed=1), {}, id="other weights"),
        pytest.param(frozen_decoder, {"k": 3}, id="another depth"),
        pytest.param(frozen_decoder, {"key_base": {"revision": "b"}}, id="another revision"),
        pytest.param(frozen_decoder, {"compute_dtype": torch.bfloat16}, id="another precision"),
        pytest.param(lambda: frozen_decoder(dtype=torch.bfloat16), {}, id="another dtype"),
        pytest.param(one_bit_of_one_weight, {}, id="one bit of one weight"),
        pytest.param(another_config, {}, id="another config"),
    ],
)
def test_a_cache_of_something_else_is_not_used(build, how, tmp_path):
    filed(frozen_decoder(), tmp_path)
    assert filed(build(), tmp_path, **how).hits == 0


def test_another_tokenization_is_not_used(decoder, tmp_path):
    filed(decoder, tmp_path)
    cache = build_prefix_cache(
        decoder, 2, random_examples(12, 1), key_base="tiny", memory_limit_bytes=0, folder=tmp_path
    )
    assert cache.hits == 0


def test_training_above_the_boundary_keeps_a_cache_valid(decoder, tmp_path):
    filed(decoder, tmp_path)
    with torch.no_grad():
        decoder.layers[2].mlp.down_proj.weight.mul_(2)
        decoder.head.weight.mul_(2)
    assert filed(decoder, tmp_path).hits == 12


def test_a_shard_under_another_key_is_damaged(decoder, tmp_path):
    filed(decoder, tmp_path)
    other = frozen_decoder(seed=1)
    key = filed(other, tmp_path).key
    mine = next(path for path in shards(tmp_path) if path.parent.name != key)
    shutil.copy(mine, tmp_path / key / mine.name)
    events = []
    cache = filed(other, tmp_path, progress=events.append)
    assert any("damaged" in event.message for event in events)
    assert_same_states(cache, tiny_cache(other, 2))


# Damage


def flip(path, offset):
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)


def other_length(path):
    """Move the border between two samples, so that the file still is a good safetensors file."""
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    (first, n), (second, m), *rest = json.loads(header["__metadata__"]["samples"])
    header["__metadata__"]["samples"] = json.dumps([[first, n + 1], [second, m - 1], *rest])
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[end:])


DAMAGES = {
    "cut": lambda path: os.truncate(path, path.stat().st_size - 100),
    "empty": lambda path: os.truncate(path, 0),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "one bit of the states": lambda path: flip(path, -50),
    "one bit of the header": lambda path: flip(path, 3),
    "one bit of a sample's digest": lambda path: flip(path, path.read_bytes().index(b"samples") + 16),
    "a sample's length": other_length,
    "no safetensors": lambda path: path.write_text("states, once"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_shard_is_told_and_made_again(damage, decoder, tmp_path):
    build_prefix_cache(decoder, 2, EXAMPLES[:5], key_base="tiny", memory_limit_bytes=0, folder=tmp_path)
    (damaged,) = shards(tmp_path)
    filed(decoder, tmp_path)
    damage(damaged)
    events = []
    cache = filed(decoder, tmp_path, progress=events.append)
    assert cache.hits == 7
    assert "A part of the prefix cache is damaged and is computed again" in events[0].message
    assert_same_states(cache, tiny_cache(decoder, 2))
    assert filed(decoder, tmp_path).hits == 12


# Kills


@pytest.mark.slow
def test_a_fill_killed_at_any_moment_is_gone_on_with(decoder, tmp_path):
    command = [sys.executable, "-m", "tests.core.finetune.killed_fill", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=300)
    kills = [json.loads(line) for line in done.stdout.splitlines()]
    assert [kill[0] for kill in kills] == [*MOMENTS, "some time"]
    assert all(kill[1] == signal.SIGKILL for kill in kills)
    # whole shards and half-written ones that each child left, who goes on where the one before it was killed
    assert [kill[2:] for kill in kills[:-1]] == [[0, 1], [2, 1], [3, 1], [5, 0]]
    whole = kills[-1][2]
    assert 5 <= whole < 12
    cache = filed(decoder, tmp_path)
    assert cache.hits == whole
    assert_same_states(cache, tiny_cache(decoder, 2))
    assert not list(tmp_path.glob("*/.*"))
    assert filed(decoder, tmp_path).hits == 12
