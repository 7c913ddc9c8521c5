"""What stands in a model's folder: pipes, devices, folders and damaged documents are refused before anything waits."""

import os

import pytest

from semfreeze_core.errors import ModelError
from semfreeze_core.sources.models.files import read_object
from semfreeze_core.sources.models.opening import open_checkpoint
from tests.core.saved_models import save_tiny


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_tiny(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    """Links to a tiny model's files, as the hub's cache has them."""
    for file in saved.iterdir():
        (tmp_path / file.name).symlink_to(file)
    return tmp_path


def put(path, kind):
    path.unlink(missing_ok=True)
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "folder":
            path.mkdir()
        case "dangling link":
            path.symlink_to(path.with_name("gone"))


FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "generation_config.json")


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
@pytest.mark.parametrize("name", [*FILES, "chat_template.jinja", "adapter_config.json"])
def test_open_checkpoint_refuses_what_is_no_file(folder, name, kind):
    open_checkpoint(str(folder))
    put(folder / name, kind)
    with pytest.raises(ModelError) as caught:
        open_checkpoint(str(folder))
    other = "a folder" if kind == "folder" else "a pipe or a device"
    assert str(caught.value) == f"{folder / name}: expected a file, found {other}."


def test_open_checkpoint_refuses_a_link_to_nothing(folder):
    put(folder / "tokenizer.json", "dangling link")
    with pytest.raises(ModelError, match=r"tokenizer\.json: expected a file, found nothing\."):
        open_checkpoint(str(folder))


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_open_checkpoint_refuses_a_source_that_is_no_file(tmp_path, kind):
    put(tmp_path / "model.gguf", kind)
    with pytest.raises(ModelError, match="is a pipe or a device: expected a model's folder or a GGUF file"):
        open_checkpoint(str(tmp_path / "model.gguf"))


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "generation_config.json"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a":' * 100_000, "is nested too deeply"),
        ("[1]", "expected a JSON object, found a list"),
        ("3", "expected a JSON object, found a number"),
        ('{"a"', "is not valid JSON"),
        ("\udcff", "is not valid JSON"),
    ],
    ids=["deep", "list", "number", "cut", "bytes"],
)
def test_open_checkpoint_refuses_a_document_that_is_no_object(folder, name, content, message):
    (folder / name).unlink()
    (folder / name).write_text(content, errors="surrogateescape")
    with pytest.raises(ModelError) as caught:
        open_checkpoint(str(folder))
    assert str(caught.value).startswith(str(folder / name))
    assert message in str(caught.value)


def test_read_object_refuses_a_large_file_unread(tmp_path):
    path = tmp_path / "config.json"
    with path.open("wb") as file:
        file.truncate(2**40)  # takes no disk
    with pytest.raises(ModelError, match=r"has 1048576 MiB: expected a JSON object of at most 64 MiB\."):
        read_object(path)
