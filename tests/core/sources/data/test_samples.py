"""What a data source contains, told by its bytes and not by its place."""

import shutil

import pytest

from semfreeze_core.errors import DataError
from semfreeze_core.sources.data.samples import source_digest


def put(folder, **files):
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / f"{name}.jsonl").write_text(text)
    return folder


@pytest.mark.parametrize("source", ["{}/train.jsonl", "{}", "hf:{}#train"])
def test_source_digest_is_of_the_bytes_wherever_they_are(tmp_path, source):
    parts = {"train": '{"a": 1}\n'} if "/train" in source else {"train": '{"a": 1}\n', "train-2": '{"a": 2}\n'}
    here = put(tmp_path / "here", **parts)
    there = shutil.copytree(here, tmp_path / "far" / "there")
    (there / ".cache").mkdir()
    (there / ".cache" / "download.json").write_text("{}")
    digest = source_digest(source.format(here))
    assert source_digest(source.format(there)) == digest
    assert str(here) not in digest
    (there / "train.jsonl").write_text('{"a": 3}\n')
    assert source_digest(source.format(there)) != digest


def test_source_digest_tells_the_splits_of_a_dataset_apart(tmp_path):
    folder = put(tmp_path / "data", train='{"a": 1}\n')
    assert source_digest(f"hf:{folder}#train") != source_digest(f"hf:{folder}#test")
    assert source_digest("hf:owner/name#train") == "hf:owner/name#train"


def test_source_digest_refuses_a_folder_of_no_table_and_an_unknown_sample(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match="is a directory: expected one file"):
        source_digest(str(tmp_path))
    with pytest.raises(DataError, match="no such sample"):
        source_digest("sample:none")
