"""Spectra in the cache: computed once for the same weights, and again wherever the file cannot be trusted."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from semfreeze_core.records.model import ModelIdentity
from semfreeze_core.records.scores import LayerScore
from semfreeze_core.semantics import scores, spectrum, spectrum_cache
from semfreeze_core.semantics.scores import read_spectrum_score
from semfreeze_core.semantics.spectrum_cache import read_spectrum, write_spectrum
from semfreeze_core.sources.models.decoder import Decoder

MODEL = ModelIdentity("mine", None, "llama", "LlamaForCausalLM", "5" * 64, "7" * 64)
SCORE = LayerScore("spectrum", np.array([0.1, 1 / 3, 2.5]), None, "the weights")


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache, which also keeps what is computed quickly."""
    monkeypatch.setenv("SEMFREEZE_HOME", str(tmp_path))
    monkeypatch.setattr(spectrum, "_LEAST_WORK", 0)
    return tmp_path / "cache" / "spectrum"


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by an entry with each spectrum that is computed."""
    calls: list[int] = []
    real = scores.spectrum_score

    def count(*args: object, **named: object) -> LayerScore:
        calls.append(1)
        return real(*args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(scores, "spectrum_score", count)
    return calls


def file_of(cache: Path) -> Path:
    (file,) = cache.glob("*/*")
    return file


def test_the_same_weights_are_computed_once(decoder: Decoder, computed: list[int]) -> None:
    first = read_spectrum_score(decoder, MODEL, requested=False)
    again = read_spectrum_score(decoder, replace(MODEL, source="elsewhere"), requested=False)
    assert computed == [1]
    np.testing.assert_array_equal(again.values, first.values)
    assert (again.sample, again.reason) == (first.sample, "")
    read_spectrum_score(decoder, replace(MODEL, weights_digest="8" * 64), requested=False)
    assert computed == [1, 1]


def test_a_cached_spectrum_is_shown_where_computing_it_would_take_long(
    decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spectrum, "_MOST_WORK", 0)
    left_out = read_spectrum_score(decoder, MODEL, requested=False)
    assert left_out.reason.startswith("left out, as it takes long")
    read_spectrum_score(decoder, MODEL, requested=True)
    assert read_spectrum_score(decoder, MODEL, requested=False).reason == ""


def test_what_is_computed_quickly_is_not_kept(decoder: Decoder, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spectrum, "_LEAST_WORK", 10**9)
    read_spectrum_score(decoder, MODEL, requested=False)
    assert not cache.exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"\xff", b'{"values": [1]}', None],
    ids=["empty", "no fields", "no text", "cut", "a folder"],
)
def test_a_damaged_file_is_computed_again(
    decoder: Decoder, cache: Path, computed: list[int], content: bytes | None
) -> None:
    read_spectrum_score(decoder, MODEL, requested=False)
    file = file_of(cache)
    if content is None:
        file.unlink()
        file.mkdir()
    else:
        file.write_bytes(content)
    assert read_spectrum_score(decoder, MODEL, requested=False).reason == ""
    assert computed == [1, 1]


@pytest.mark.parametrize(
    ("was", "now"), [("0.1", "-0.1"), ("0.1", "NaN"), ("[0.1,", "["), ("7" * 64, "8" * 64), ("float32", "bfloat16")]
)
def test_a_file_that_holds_something_else_counts_as_absent(cache: Path, was: str, now: str) -> None:
    write_spectrum(SCORE, MODEL, "float32")
    file = file_of(cache)
    text = file.read_text()
    assert was in text
    file.write_text(text.replace(was, now))
    assert read_spectrum(MODEL, "float32", 3) is None


def test_a_spectrum_comes_back_as_it_was_for_its_weights_and_dtype_alone() -> None:
    write_spectrum(SCORE, MODEL, "float32")
    back = read_spectrum(MODEL, "float32", 3)
    assert back is not None
    np.testing.assert_array_equal(back.values, SCORE.values)
    assert (back.name, back.sample, back.reason) == (SCORE.name, SCORE.sample, "")
    assert read_spectrum(MODEL, "bfloat16", 3) is None
    assert read_spectrum(MODEL, "float32", 4) is None
    assert read_spectrum(replace(MODEL, weights_digest="8" * 64), "float32", 3) is None


def _models() -> Iterator[ModelIdentity]:
    for i in range(4):
        yield replace(MODEL, weights_digest=f"{i}" * 64)


def test_the_cache_holds_the_models_used_last(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spectrum_cache, "_MOST", 2)
    clock = iter(range(1_000, 2_000))
    monkeypatch.setattr(spectrum_cache.os, "utime", lambda path: _used(path, next(clock)))
    first, second, third, _ = _models()
    for model in (first, second):
        write_spectrum(SCORE, model, "float32")
        assert read_spectrum(model, "float32", 3) is not None
    assert read_spectrum(first, "float32", 3) is not None
    write_spectrum(SCORE, third, "float32")
    assert [read_spectrum(model, "float32", 3) is not None for model in (first, second, third)] == [True, False, True]
    assert len(list(cache.iterdir())) == 2


_utime = spectrum_cache.os.utime


def _used(path: Path, when: int) -> None:
    _utime(path, (when, when))


def test_a_cache_that_cannot_be_written_keeps_nothing_and_stops_nothing(
    decoder: Decoder, cache: Path, computed: list[int]
) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_text("in the way")
    for _ in range(2):
        assert read_spectrum_score(decoder, MODEL, requested=False).reason == ""
    assert computed == [1, 1]
