"""The list of file formats, and that whoever reads or offers files follows it."""

import gzip
import json
import runpy

import pandas as pd
import pyarrow
import pytest

from semfreeze_core.cli.options import common
from semfreeze_core.errors import DataError
from semfreeze_core.export import axolotl, mlx_lm, unsloth
from semfreeze_core.export import data as export_data
from semfreeze_core.records.fields import FieldMapping
from semfreeze_core.sources.data import formats
from semfreeze_core.sources.data.compression import COMPRESSIONS
from semfreeze_core.sources.data.rows import open_rows
from semfreeze_dashboard.data.analysis_request import upload_types

ROWS = [{"prompt": "a", "completion": "b"}, {"prompt": "c", "completion": "d"}]
PACKED = {".gz": gzip.compress, ".zst": lambda content: pyarrow.compress(content, "zstd", asbytes=True)}


def read_packed_lines(path):
    with gzip.open(path, "rt") as file:
        for number, line in enumerate(file, start=1):
            yield number, json.loads(line)


@pytest.fixture
def packed(monkeypatch, tmp_path):
    """A format added to the list for the length of a test, and a file in it."""
    added = formats.FileFormat(
        "packed json lines", "JSONL.PACKED", (".jsonl.packed",), read_packed_lines, is_text=False
    )
    monkeypatch.setattr(formats, "FORMATS", (*formats.FORMATS, added))
    path = tmp_path / "Train.JSONL.packed"
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
    with pytest.raises(DataError, match=r"expected one of \.jsonl, .*\.parquet, \.jsonl\.packed\. Convert or rename"):
        open_rows(str(other))


def test_rows_refuse_the_added_format_once_it_is_gone(packed, monkeypatch):
    monkeypatch.setattr(formats, "FORMATS", formats.FORMATS[:-1])
    with pytest.raises(DataError, match=r"has the extension \.packed: expected one of"):
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
    assert data_help().startswith("JSONL, JSON, CSV, TSV, Parquet, or JSONL.PACKED (also as .gz or .zst) file, ")


def test_help_lists_the_formats_there_are():
    assert data_help() == (
        "JSONL, JSON, CSV, TSV, or Parquet (also as .gz or .zst) file, a folder of them, hf:owner/name, or sample:NAME."
    )


@pytest.mark.parametrize(
    ("name", "kind", "stem"),
    [
        ("a.jsonl", "json lines", "a"),
        ("dir/a.b.NDJSON", "json lines", "a.b"),
        ("a.json-lines", "json lines", "a"),
        ("a.json", "json", "a"),
        ("a.tsv", "tsv", "a"),
        ("a.parquet", "parquet", "a"),
        ("a.jsonl.gz", "json lines", "a"),
        ("a.b.CSV.ZST", "csv", "a.b"),
        ("a.gz", None, "a"),
        ("a.jsonl.bz2", None, "a.jsonl"),
        ("jsonl", None, "jsonl"),
    ],
)
def test_format_of_goes_by_the_ending(name, kind, stem):
    file_format = formats.format_of(name)
    assert (file_format and file_format.kind, formats.stem_of(name)) == (kind, stem)


def test_the_longest_ending_that_fits_decides(monkeypatch):
    longer = formats.FileFormat("tar", "TAR", (".x.csv",), read_packed_lines)
    monkeypatch.setattr(formats, "FORMATS", (*formats.FORMATS, longer))
    assert formats.format_of("a.x.csv") is longer
    assert formats.format_of("a.csv").kind == "csv"


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "tsv", "parquet"])
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_every_format_is_read_compressed(tmp_path, ending, compression):
    plain = tmp_path / f"t.{ending}"
    frame = pd.DataFrame(ROWS)
    if ending == "parquet":
        frame.to_parquet(plain)
    elif "json" in ending:
        frame.to_json(plain, orient="records", lines=ending == "jsonl")
    else:
        frame.to_csv(plain, index=False, sep="," if ending == "csv" else "\t")
    packed = pack(plain, compression)
    assert [row for _, row in open_rows(str(packed))] == [row for _, row in open_rows(str(plain))] == ROWS
    broken = tmp_path / f"cut.{ending}{compression}"
    broken.write_bytes(packed.read_bytes()[:-9])
    with pytest.raises(DataError, match="cannot be unpacked"):
        list(open_rows(str(broken)))
    broken.write_bytes(plain.read_bytes())
    with pytest.raises(DataError, match=f"cannot be unpacked .* is it what {compression} says"):
        list(open_rows(str(broken)))


def pack(path, compression):
    packed = path.with_name(path.name + compression)
    packed.write_bytes(PACKED[compression](path.read_bytes()))
    return packed


def test_uploads_and_exports_know_compressed_files(tmp_path):
    assert {"jsonl", "jsonl.gz", "parquet.zst"} <= set(upload_types())
    plain = tmp_path / "t.jsonl"
    plain.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    data = export_data.task_file(str(pack(plain, ".gz")), FieldMapping())
    with pytest.raises(DataError, match=r"compressed json lines files\. Save .*t\.jsonl\.gz as .*t\.jsonl"):
        export_data.require_readable(data, "A trainer", ["json lines"])
    plain.with_name("t.jsonl.gz").unlink()
    with pytest.raises(DataError, match=r"is a folder, but an export needs one file"):
        export_data.task_file(str(tmp_path), FieldMapping())
