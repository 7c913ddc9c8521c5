"""UMAPs in the cache: given back as written, apart from each other, and refused when damaged."""

import numpy as np
import pytest
from safetensors.numpy import load, save

from semfreeze_core.errors import RunError
from semfreeze_core.records.umap_projection import UmapProjection
from semfreeze_core.runs.folder import read_manifest
from semfreeze_core.runs.store import example_run
from semfreeze_core.runs.umaps import read_umap, umap_file, write_umap
from semfreeze_core.storage import cache_entries, cache_folder


@pytest.fixture(scope="module")
def manifest():
    return read_manifest(example_run())


@pytest.fixture
def projection():
    rng = np.random.default_rng(0)
    return UmapProjection(
        coordinates=rng.normal(size=(3, 5, 2)).astype(np.float32),
        positions=np.array([0, 2, 3, 7, 9]),
        basis_coordinates=rng.normal(size=(2, 2)).astype(np.float32),
        seed=4,
        n_neighbors=7,
        n_components=50,
        seconds=1.25,
    )


@pytest.fixture
def file(manifest):
    return umap_file(manifest, seed=4, n_neighbors=7)


def test_read_umap_gives_back_what_was_written(projection, file):
    assert read_umap(file) is None
    write_umap(projection, file)
    stored = read_umap(file)
    for name, value in vars(projection).items():
        np.testing.assert_array_equal(getattr(stored, name), value, err_msg=name)
    assert stored.positions.dtype == np.int64


def test_umap_file_is_apart_for_every_seed_number_of_neighbors_and_reading(manifest, file):
    other = manifest.model_copy(update={"files": manifest.files | {"display.safetensors": "0" * 64}})
    places = {
        file,
        umap_file(manifest, seed=5, n_neighbors=7),
        umap_file(manifest, seed=4, n_neighbors=8),
        umap_file(other, seed=4, n_neighbors=7),
    }
    assert len(places) == 4
    assert umap_file(manifest, seed=4, n_neighbors=7) == file


def test_umap_file_is_another_once_layouts_are_made_otherwise(manifest, file, monkeypatch):
    monkeypatch.setattr("semfreeze_core.runs.umaps._ALGORITHM_VERSION", 1000)
    assert umap_file(manifest, seed=4, n_neighbors=7) != file


def test_umap_file_is_of_the_display_sample_alone(manifest, file):
    other = manifest.model_copy(update={"files": manifest.files | {"examples.parquet": "0" * 64}, "notes": ["moved"]})
    assert umap_file(other, seed=4, n_neighbors=7) == file


def test_umaps_are_entries_of_the_cache(projection, file):
    write_umap(projection, file)
    assert cache_entries() == [file.parent]
    assert file.is_relative_to(cache_folder() / "umap")
    assert [path.name for path in file.parent.iterdir()] == ["projection.safetensors"]


def cut(data):
    return data[: len(data) // 2]


def flipped(data):
    return data[:-3] + bytes([data[-3] ^ 1]) + data[-2:]


def without_words(data):
    return save(load(data))


@pytest.mark.parametrize("damage", [cut, flipped, without_words, lambda data: b"", lambda data: b"no safetensors"])
def test_read_umap_refuses_a_damaged_file(projection, file, damage):
    write_umap(projection, file)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(RunError, match=r"The cached UMAP .* is damaged \(.*\)\. Compute it again\."):
        read_umap(file)


def test_write_umap_replaces_a_damaged_file(projection, file):
    file.parent.mkdir(parents=True)
    file.write_bytes(b"damage")
    write_umap(projection, file)
    assert read_umap(file) is not None
