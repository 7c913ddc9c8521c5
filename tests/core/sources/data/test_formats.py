"""The list of file formats, and that whoever reads or offers files follows it."""

import gzip
import json
import runpy

import pytest

from semfreeze_core.cli.options import common
from semfreeze_core.errors import DataError
from semfreeze_core.export import axolotl, mlx_lm, unsloth
from semfreeze_core.export import data as export_data
from semfreeze_core.records.fields import FieldMapping
from semfreeze_core.sources.data import formats
from semfreeze_core.sources.data.rows import open_rows

ROWS = [{"prompt": "a", "completion": "b"}, {"prompt": "c", "completion": "d"}]


def read_packed_lines(path):
    with gzip.open(path, "rt") as file:
        for number, line in enumerate(file, start=1):
            yield number, json.loads(line)


@pytest.fixture
def packed(monkeypatch, tmp_path):
    """A format added to the list for the length of a test, and a file in it."""
    added = formats.FileFormat("packed json lines", "JSONL.GZ", (".jsonl.gz",), read_packed_lines, is_text=False)
    monkeypatch.setattr(formats, "FORMATS", (*formats.FORMATS, added))
    path = tmp_path / "Train.JSONL.gz"
    with gzip.open(path, "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in ROWS)
    return path


def data_help():
    """The help of --data as a process that starts now would show it."""
    option = runpy.run_path(common.__file__)["DataOption"]
    return option.__metadata__[0].help


def test_no_two_formats_share_an_ending_or_a_name():
    endings, labels = formats.suffixes(), [f.label for f in formats.FORMATS]
    assert len(set(endings)) == len(endings) >= 7
    assert len(set(labels)) == len(labels) == len({f.kind for f in formats.FORMATS})
    assert all(ending == ending.lower() and ending.startswith(".") for ending in endings)


def test_rows_follow_the_list(packed):
    assert [row for _, row in open_rows(str(packed))] == ROWS
    other = packed.with_name("x.docx")
    other.write_text("x")
    with pytest.raises(DataError, match=r"expected one of \.jsonl, .*\.parquet, \.jsonl\.gz\. Convert or rename"):
        open_rows(str(other))


def test_rows_refuse_the_added_format_once_it_is_gone(packed, monkeypatch):
    monkeypatch.setattr(formats, "FORMATS", formats.FORMATS[:-1])
    with pytest.raises(DataError, match=r"has the extension \.gz: expected one of"):
        open_rows(str(packed))


def test_exports_follow_the_list(packed):
    data = export_data.task_file(str(packed), FieldMapping())
    assert data.kind == "packed json lines"
    with pytest.raises(DataError, match=r"does not read packed json lines files"):
        export_data.require_readable(data, "A trainer", ["json lines"])


@pytest.mark.parametrize("trainer", [axolotl, mlx_lm, unsloth])
def test_exports_ask_for_kinds_of_the_list(trainer):
    assert set(trainer._FILES) <= {file_format.kind for file_format in formats.FORMATS}


def test_help_follows_the_list(packed):
    assert data_help().startswith("JSONL, JSON, CSV, TSV, Parquet, or JSONL.GZ file, ")


def test_help_lists_the_formats_there_are():
    assert data_help() == "JSONL, JSON, CSV, TSV, or Parquet file, hf:owner/name, or sample:NAME."


@pytest.mark.parametrize(
    ("name", "kind", "stem"),
    [
        ("a.jsonl", "json lines", "a"),
        ("dir/a.b.NDJSON", "json lines", "a.b"),
        ("a.json-lines", "json lines", "a"),
        ("a.json", "json", "a"),
        ("a.tsv", "tsv", "a"),
        ("a.parquet", "parquet", "a"),
        ("a.jsonl.gz", None, "a.jsonl"),
        ("jsonl", None, "jsonl"),
    ],
)
def test_format_of_goes_by_the_ending(name, kind, stem):
    found = formats.format_of(name)
    assert (found and found.kind, formats.stem_of(name)) == (kind, stem)


def test_the_longest_ending_that_fits_decides(monkeypatch):
    longer = formats.FileFormat("tar", "TAR", (".x.csv",), read_packed_lines)
    monkeypatch.setattr(formats, "FORMATS", (*formats.FORMATS, longer))
    assert formats.format_of("a.x.csv") is longer
    assert formats.format_of("a.csv").kind == "csv"
