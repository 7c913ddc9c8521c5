"""A local model packed and unpacked: used in its place where that is the same, else fetched once into the cache."""

import shutil
from pathlib import Path

import pytest

from semfreeze_core.errors import InputError
from semfreeze_core.finetune.runner.parcel import pack_model, unpack_model
from semfreeze_core.storage import cache_folder

WEIGHTS = "0" * 64


@pytest.fixture
def model(tmp_path, monkeypatch):
    monkeypatch.setenv("SEMFREEZE_HOME", str(tmp_path / "home"))
    folder = tmp_path / "model"
    for name, content in {
        "config.json": "{}",
        "model.safetensors": "weights",
        "chat/template.jinja": "{{ messages }}",
        "empty.txt": "",
        ".git/config": "x",
        "original/consolidated.pth": "x",
        "checkpoint-5/model.safetensors": "x",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


def reader(packed):
    asked = []

    def read(name, offset):
        asked.append((name, offset))
        return Path(packed.paths[name]).read_bytes()[offset : offset + 4]

    return read, asked


def test_a_model_in_its_place_is_used_there(model):
    packed = pack_model(str(model), WEIGHTS)
    read, asked = reader(packed)
    assert unpack_model(packed, read) == str(model)
    assert asked == []


def test_elsewhere_a_model_is_fetched_once(model, tmp_path):
    packed = pack_model(str(model), WEIGHTS)
    assert set(packed.sizes) == {"config.json", "model.safetensors", "chat/template.jinja", "empty.txt"}
    moved = tmp_path / "moved"
    shutil.move(model, moved)
    read, asked = reader(pack_model(str(moved), WEIGHTS))
    model_folder = Path(unpack_model(packed, read))
    assert model_folder.parent == cache_folder() / "sent"
    assert {str(p.relative_to(model_folder)): p.read_text() for p in model_folder.rglob("*") if p.is_file()} == {
        "config.json": "{}",
        "model.safetensors": "weights",
        "chat/template.jinja": "{{ messages }}",
        "empty.txt": "",
    }
    fetched = len(asked)
    assert unpack_model(packed, read) == str(model_folder)
    assert len(asked) == fetched


def test_another_content_has_another_key(model):
    packed = pack_model(str(model), WEIGHTS)
    assert pack_model(str(model), "1" * 64).key != packed.key
    (model / "config.json").write_text("[]")
    assert pack_model(str(model), WEIGHTS).key != packed.key


def test_a_file_alone_is_a_model_too(tmp_path, monkeypatch):
    monkeypatch.setenv("SEMFREEZE_HOME", str(tmp_path / "home"))
    file = tmp_path / "model.gguf"
    file.write_text("tensors")
    packed = pack_model(str(file), WEIGHTS)
    file.rename(tmp_path / "other.gguf")
    model_file = Path(unpack_model(packed, lambda name, at: b"tensors"[at:]))
    assert (model_file.name, model_file.read_text()) == ("model.gguf", "tensors")


@pytest.mark.parametrize("source", ["embedded", "owner/name"])
def test_what_each_machine_finds_by_its_name_is_not_packed(source):
    assert pack_model(source, WEIGHTS) is None


def test_an_adapter_is_refused(model):
    (model / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match="Merge it into its base"):
        pack_model(str(model), WEIGHTS)
