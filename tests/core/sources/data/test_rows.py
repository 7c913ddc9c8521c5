"""Reading rows: every format gives the same rows, and every broken file says what is wrong with it."""

import csv
import json
import os
import sys
import tracemalloc
from types import SimpleNamespace

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semfreeze_core.errors import DataError
from semfreeze_core.sources.data import readers
from semfreeze_core.sources.data.readers import UnreadableRow
from semfreeze_core.sources.data.rows import open_rows

ROWS = [
    {"prompt": "a, b", "completion": "NA", "label": ""},
    {"prompt": 'says "hi"\nthere', "completion": " é", "label": "001"},
    {"prompt": "", "completion": "null", "label": "x"},
]


def write(path, rows):
    """Write rows in the format the extension names."""
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    elif path.suffix in (".csv", ".tsv"):
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0], delimiter="," if path.suffix == ".csv" else "\t")
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def refusal(source, split=None):
    """The message with which a source is refused, at opening or while reading."""
    with pytest.raises(DataError) as caught:
        list(open_rows(str(source), split))
    return str(caught.value)


def file(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("extension", ["jsonl", "ndjson", "json-lines", "json", "csv", "tsv", "parquet", "JSONL"])
def test_open_rows_gives_the_same_rows_in_every_format(tmp_path, extension):
    rows = open_rows(write(tmp_path / f"tasks.{extension}", ROWS))
    assert list(rows) == list(enumerate(ROWS))
    assert list(rows) == list(enumerate(ROWS)), "a second pass gives the same rows"
    assert rows.columns() == ["prompt", "completion", "label"]


@settings(deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries({k: st.text(st.characters(exclude_categories=["Cs"])) for k in ("a", "b")}), min_size=1
    )
)
def test_open_rows_reads_back_any_text_in_json_lines(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("any") / "t.jsonl"
    assert [row for _, row in open_rows(write(path, rows))] == rows


def test_open_rows_skips_blank_lines_and_a_byte_order_mark(tmp_path):
    path = file(tmp_path, "t.jsonl", b'\xef\xbb\xbf\n{"a": 1}\n\n  \n{"a": 2}')
    rows = open_rows(str(path))
    assert list(rows) == [(0, {"a": 1}), (1, {"a": 2})]
    assert [line for _, line, _ in rows.placed()] == [2, 5]
    assert list(open_rows(str(file(tmp_path, "t.csv", b"\xef\xbb\xbfa,b\r\n\r\n1,2\r\n")))) == [
        (0, {"a": "1", "b": "2"})
    ]


def test_placed_counts_the_lines_of_quoted_fields(tmp_path):
    path = file(tmp_path, "t.csv", b'a,b\n"1\n1",2\n3,4\n')
    rows = open_rows(str(path))
    assert [row[:2] for row in rows.placed()] == [(str(path), 2), (str(path), 4)]


def test_placed_has_no_line_where_a_format_has_none(tmp_path):
    source = write(tmp_path / "t.parquet", ROWS)
    assert [row[:2] for row in open_rows(source).placed()] == [(source, None)] * 3


def test_columns_joins_the_keys_of_uneven_rows(tmp_path):
    assert open_rows(write(tmp_path / "t.jsonl", [{"a": 1}, {"b": 2, "a": 1}])).columns() == ["a", "b"]


def test_open_rows_reads_a_field_longer_than_the_csv_default(tmp_path):
    rows = open_rows(write(tmp_path / "t.csv", [{"a": "x" * 200_000, "b": "y"}]))
    assert next(iter(rows))[1]["a"] == "x" * 200_000


@pytest.mark.slow
def test_open_rows_keeps_memory_flat_on_a_large_csv(tmp_path):
    path = tmp_path / "large.csv"
    path.write_text("prompt,completion\n" + f"{'question ' * 8},answer\n" * 200_000)
    rows = open_rows(str(path))
    tracemalloc.start()
    try:
        assert sum(1 for _ in rows) == 200_000
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 2**20 < path.stat().st_size / 10


def test_open_rows_says_what_is_wrong_with_a_path(tmp_path):
    assert "does not exist" in refusal(tmp_path / "none.jsonl")
    assert "hf:owner/name" in refusal(tmp_path / "none.jsonl")
    assert f"is a directory: expected one file. For a folder of the datasets library: hf:{tmp_path}" in refusal(
        tmp_path
    )
    assert "is empty (0 bytes)" in refusal(file(tmp_path, "empty.jsonl", b""))
    assert "the extension .txt: expected one of .jsonl, .ndjson" in refusal(file(tmp_path, "t.txt", b"x"))
    assert "has no extension" in refusal(file(tmp_path, "t", b"x"))
    assert "--split train is for hub datasets" in refusal(file(tmp_path, "t.jsonl", b'{"a": 1}'), "train")


def test_open_rows_says_when_a_file_cannot_be_read(tmp_path, monkeypatch):
    path = file(tmp_path, "t.jsonl", b'{"a": 1}')

    def refuse(self, *arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "open", refuse)
    assert refusal(path).endswith("cannot be read: Permission denied.")


@pytest.mark.parametrize("name", ["t.jsonl", "t.json", "t.csv", "t.tsv"])
def test_open_rows_refuses_bytes_that_are_not_utf8_text(tmp_path, name):
    assert "is binary (a zero byte at offset 2)" in refusal(file(tmp_path, name, b"PK\0\1"))
    assert "is UTF-32 text: expected UTF-8" in refusal(file(tmp_path, name, '{"a": 1}\n'.encode("utf-32")))
    assert "is UTF-16 text: expected UTF-8" in refusal(file(tmp_path, name, '{"a": 1}\n'.encode("utf-16")))
    assert "holds no rows" in refusal(file(tmp_path, name, b" \n\n" if "json" in name else b"\n\n"))
    assert "is not UTF-8: byte 0xe9 at offset 0 (line 1)" in refusal(file(tmp_path, name, b"\xe9"))


def test_open_rows_gives_the_address_of_a_bad_byte_after_a_byte_order_mark(tmp_path):
    content = b'\xef\xbb\xbf{"a": 1}\n{"a": "\xe9"}\n'
    path = file(tmp_path, "t.jsonl", content)
    assert f"byte 0xe9 at offset {content.index(0xE9)} (line 2). Save the file as UTF-8" in refusal(path)


def skipped(path):
    """The rows of a file that can be read, and by line or number why the others cannot."""
    good, bad = [], {}
    for number, (_, line, row) in enumerate(open_rows(str(path)).placed()):
        if isinstance(row, UnreadableRow):
            bad[number if line is None else line] = row.reason
        else:
            good.append(row)
    return good, bad


@pytest.mark.parametrize(
    ("content", "line", "reason"),
    [
        (b'{"a": 1}\n{"a": \n', 2, "not JSON (Expecting value at character "),
        (b'{"a": 1}\n{"a": "cut', 2, "not JSON (Unterminated string starting at character 7)"),
        ('{"a": 1}\n{"a": "日'.encode()[:-1], 2, "not JSON (the file ends in the middle of a character)"),
        (b'# a comment\n{"a": 1}\n', 1, "not JSON (Expecting value at character 1), expected one JSON object per line"),
        (b'{"a": 1}\n\n[1, 2]\n', 3, "a list, expected an object such as"),
        (b'{"a": 1}\n"x"\n', 2, "text, expected an object"),
        (b'null\n{"a": 1}\n', 1, "null, expected an object"),
        (b'{"a": 1}\n{"a": 1, "b": 2, "a": 3}\n', 2, "names 'a' more than once"),
        (b'{"a": 1}\n' + b"[" * 100_000, 2, "not JSON (maximum recursion depth"),
    ],
)
def test_a_bad_line_of_json_lines_is_skipped_with_its_reason(tmp_path, content, line, reason):
    good, bad = skipped(file(tmp_path, "t.jsonl", content))
    assert good == [{"a": 1}]
    assert list(bad) == [line]
    assert bad[line].startswith(reason)


def test_rows_that_cannot_be_read_keep_their_numbers(tmp_path):
    rows = open_rows(str(file(tmp_path, "t.jsonl", b'oops\n{"a": 1}\noops\n{"a": 2, "b": 3}\n')))
    assert list(rows) == [(1, {"a": 1}), (3, {"a": 2, "b": 3})]
    assert rows.columns() == ["a", "b"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'[\n{"a": 1}\n]\n', "one list of objects needs the extension .json"),
        (b"[" * 100_000, "line 1: not JSON (maximum recursion depth"),
        (b'{\n"a": 1\n}\n', "line 1: not JSON (Expecting property name enclosed in double quotes"),
        (b"[1, 2]\n" * 3, "line 1: a list, expected an object such as"),
        (b"a,b\n1,2\n", "None of the 2 rows can be read. A file that holds one list"),
        (b"a b c\n" * 10 + b'{"a": 1}\n', "None of the first 10 rows can be read."),
        (b'{"a": {"b": 1, "b": 2}}\n', "line 1: names 'b' more than once. Rename one."),
    ],
)
def test_open_rows_refuses_a_file_that_is_no_json_lines(tmp_path, content, expected):
    assert expected in refusal(file(tmp_path, "t.jsonl", content))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"data": [{"a": 1}]}', "holds an object: expected a list of objects. Take the list out of it"),
        (b'{"a": 1, "a": 2}', "holds an object: expected a list of objects"),
        (b'{"a": 1}\n{"a": 2}\n', "is not JSON (Extra data on line 2): expected a list of objects"),
        (b'[{"a": 1, "a": 3}]', "row 0: names 'a' more than once. Rename one."),
        (b"[1, 3]", "row 0: a number, expected an object such as"),
        (b"[]", "holds no rows"),
        (b"[" * 100_000, "is not JSON that can be read (maximum recursion depth"),
    ],
)
def test_open_rows_says_what_is_wrong_with_a_json_list(tmp_path, content, expected):
    assert expected in refusal(file(tmp_path, "t.json", content))


def test_a_bad_entry_of_a_json_list_is_skipped_with_its_reason(tmp_path):
    content = b'[{"a": 1}, 3, {"a": [{"b": 1, "b": 2}]}, {"a": 2, "a": 2}, {"a": 4}]'
    good, bad = skipped(file(tmp_path, "t.json", content))
    assert good == [{"a": 1}, {"a": 4}]
    assert bad == {
        1: 'a number, expected an object such as {"prompt": ..., "completion": ...}',
        2: "names 'b' more than once",
        3: "names 'a' more than once",
    }


@pytest.mark.parametrize(
    ("content", "line", "reason"),
    [
        (b"a,b\n1,2\n3\n", 3, "1 field, expected 2 as in the header (a, b)"),
        (b"a,b\n1,2\n\n3,4,5\n", 4, "3 fields, expected 2 as in the header (a, b)"),
        (b'a,b\n1,2\n3,"4', 3, "a row that cannot be read (unexpected end of data)"),
        (b'a,b\n"x" y,2\n1,2\n', 2, "a row that cannot be read ("),
        ("a,b\n1,2\n3,日".encode()[:-1], 3, "the file ends in the middle of this row"),
    ],
)
def test_a_bad_row_of_a_table_is_skipped_with_its_reason(tmp_path, content, line, reason):
    for name, text in (
        ("t.csv", content),
        ("t.tsv", content.replace(b",", b"\t")),
        ("s.csv", content.replace(b",", b";")),
    ):
        good, bad = skipped(file(tmp_path, name, text))
        assert good == [{"a": "1", "b": "2"}]
        assert list(bad) == [line]
        assert bad[line].startswith(reason)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            b"a,b\n1,2,3\n4,5,6\n",
            "line 2: 3 fields, expected 2 as in the header (a, b). None of the 2 rows can be read.",
        ),
        (b'a,b\n1,2\n"3,4\n5,6\n', "line 3: the row that begins here cannot be read (unexpected end of data)"),
        (b'a,b\n1,2\n"3" x\ny,4\n', "line 3: the row that begins here cannot be read ("),
        (b'"a,b\n1,2\n', "line 1: the row that begins here cannot be read (unexpected end of data)"),
        (b"a,b,a\n1,2,3\n", "the header names 'a' more than once"),
        (b"a,b\n", "holds no rows"),
    ],
)
def test_open_rows_refuses_a_table_whose_rows_are_not_known(tmp_path, content, expected):
    assert expected in refusal(file(tmp_path, "t.csv", content))
    assert expected in refusal(file(tmp_path, "t.tsv", content.replace(b",", b"\t"))).replace("\t", ",")


def test_open_rows_says_when_parquet_is_broken(tmp_path):
    whole = tmp_path / "t.parquet"
    write(whole, ROWS)
    assert "is not a readable Parquet file" in refusal(file(tmp_path, "cut.parquet", whole.read_bytes()[:-20]))
    pyarrow.parquet.write_table(pyarrow.Table.from_arrays([pyarrow.array([1])] * 2, names=["a", "a"]), whole)
    assert "several columns called 'a'" in refusal(whole)
    pyarrow.parquet.write_table(pyarrow.table({"a": pyarrow.array([], pyarrow.string())}), whole)
    assert "holds no rows" in refusal(whole)


def test_open_rows_names_the_extra_a_hub_dataset_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    message = refusal("hf:owner/name")
    assert message == "hf:owner/name needs the package datasets: pip install 'semfreeze[hub]'"


class TestHub:
    """Local dataset folders take the same way as the hub, without a network."""

    @pytest.fixture(autouse=True)
    def local_cache(self, tmp_path, monkeypatch):
        self.datasets = pytest.importorskip("datasets")
        monkeypatch.setattr(self.datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")

    def test_open_rows_reads_a_saved_dataset(self, tmp_path):
        self.datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "saved")
        rows = open_rows(f"hf:{tmp_path / 'saved'}")
        assert list(rows) == list(rows) == list(enumerate(ROWS))
        assert rows.path is None

    def test_open_rows_reads_the_split_that_is_asked_for(self, tmp_path):
        splits = {"train": self.datasets.Dataset.from_list(ROWS), "test": self.datasets.Dataset.from_list(ROWS[:1])}
        self.datasets.DatasetDict(splits).save_to_disk(tmp_path / "saved")
        source = f"hf:{tmp_path / 'saved'}"
        assert list(open_rows(source, "test")) == [(0, ROWS[0])]
        choose = f"Choose one with --split, or as {source}#SPLIT: train, test"
        assert f"--split is missing. {choose}" in refusal(source)
        assert f"there is no split 'dev'. {choose}" in refusal(source, "dev")
        assert list(open_rows(f"{source}#test")) == list(open_rows(f"{source}#test", "test")) == [(0, ROWS[0])]
        assert f"there is no split 'dev'. {choose}" in refusal(f"{source}#dev")
        assert "#test and --split train name two splits" in refusal(f"{source}#test", "train")

    def test_open_rows_reads_a_folder_of_data_files(self, tmp_path):
        (tmp_path / "folder").mkdir()
        write(tmp_path / "folder" / "train.jsonl", ROWS)
        assert list(open_rows(f"hf:{tmp_path / 'folder'}")) == list(enumerate(ROWS))

    def test_open_rows_streams_the_first_rows_and_reads_no_more(self, tmp_path):
        (tmp_path / "folder").mkdir()
        write(tmp_path / "folder" / "train.jsonl", ROWS)
        source = f"hf:{tmp_path / 'folder'}"
        rows = open_rows(f"{source}#train:2")
        assert list(rows) == list(rows) == [(0, ROWS[0]), (1, ROWS[1])]
        assert list(open_rows(f"{source}#:1", "train")) == [(0, ROWS[0])]
        assert len(list(open_rows(f"{source}#train:99"))) == len(ROWS)
        for wrong in ("0", "-1", "many"):
            assert f"a whole number N of rows to stream, found '{wrong}'" in refusal(f"{source}#train:{wrong}")

    def builders(self, monkeypatch, files):
        """Stand in for the hub: what is asked of it is noted, and its rows are ROWS in the split train."""
        asked = []
        rows = self.datasets.Dataset.from_list(ROWS)

        class Builder:
            config = SimpleNamespace(data_files=files)

            def download_and_prepare(self):
                asked.append("download")

            def as_dataset(self):
                return self_.datasets.DatasetDict({"train": rows})

            def as_streaming_dataset(self):
                asked.append("stream")
                return {"train": rows.to_iterable_dataset()}

        def load_dataset_builder(*arguments):
            asked.append(arguments)
            return Builder()

        self_ = self
        monkeypatch.setattr(self.datasets, "load_dataset_builder", load_dataset_builder)
        return asked

    def test_open_rows_streams_from_the_hub_without_downloading_all(self, monkeypatch):
        asked = self.builders(monkeypatch, {"train": ["hf://datasets/owner/name@abc/train.jsonl"]})
        assert list(open_rows("hf:owner/name:main#train:2")) == list(enumerate(ROWS[:2]))
        assert asked == [("owner/name", "main"), "stream"]

    @pytest.mark.parametrize(
        "file",
        ["/srv/secret.jsonl", "../secret.jsonl", "~/x", "file:///srv/x", "http://10.0.0.1/x", "a.jsonl::/srv/a.zip"],
    )
    @pytest.mark.parametrize("rows", ["", ":2"])
    def test_open_rows_opens_no_file_of_this_machine_that_a_dataset_of_the_hub_names(self, monkeypatch, file, rows):
        asked = self.builders(monkeypatch, {"train": ["hf://datasets/owner/name@abc/train.jsonl", file]})
        message = refusal(f"hf:owner/name#train{rows}")
        assert f"its split 'train' names a file outside the hub ({file!a}), which is not opened" in message
        assert asked == [("owner/name", None)]

    def test_open_rows_takes_files_in_archives_and_those_in_the_cache(self, monkeypatch):
        for files in ({"train": ["zip://a.jsonl::hf://datasets/owner/name@abc/a.zip"]}, None):
            self.builders(monkeypatch, files)
            assert len(list(open_rows("hf:owner/name"))) == len(ROWS)

    def test_open_rows_says_when_a_dataset_cannot_be_opened(self, tmp_path):
        (tmp_path / "folder").mkdir()
        assert "cannot be opened" in refusal(f"hf:{tmp_path / 'folder'}")

    def test_open_rows_passes_repository_and_configuration_on(self, monkeypatch):
        asked = self.builders(monkeypatch, None)
        assert len(list(open_rows("hf:owner/name"))) == len(list(open_rows("hf:owner/name:main"))) == 3
        assert asked == [("owner/name", None), "download", ("owner/name", "main"), "download"]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("name", ["t.csv", "t.tsv"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_open_rows_finds_the_separator_of_a_table(tmp_path, separator, name, quoting):
    rows = [{"prompt": f"one, two; three {i}\nfour | five", "completion": "a;b" if i else 'say "c"'} for i in range(5)]
    with (tmp_path / name).open("w", newline="", encoding="utf-8") as opened:
        writer = csv.DictWriter(opened, rows[0], delimiter=separator, quoting=quoting)
        writer.writeheader()
        writer.writerows(rows)
    assert [row for _, row in open_rows(str(tmp_path / name))] == rows


def test_open_rows_names_the_bad_line_of_a_table_with_another_separator(tmp_path):
    message = refusal(file(tmp_path, "t.csv", b"a;b\n1\n3\n"))
    assert "line 2: 1 field, expected 2 as in the header (a, b)" in message
    rows = "".join(f"one{',' * (i % 2)} two {i};{'x;' * (i == 3)}{i}\n" for i in range(9))
    good, bad = skipped(file(tmp_path, "t.csv", f"a;c\n{rows}".encode()))
    assert (len(good), list(bad)) == (8, [5])
    assert good[0] == {"a": "one two 0", "c": "0"}
    assert list(open_rows(str(file(tmp_path, "t.csv", b"text\none; two\nthree\n")))) == [
        (0, {"text": "one; two"}),
        (1, {"text": "three"}),
    ]


def test_open_rows_reads_a_table_of_very_many_columns(tmp_path):
    names = [f"c{i}" for i in range(50_000)]
    path = file(tmp_path, "t.csv", (",".join(names) + "\n" + ",".join("x" * len(names)) + "\n").encode())
    assert open_rows(str(path)).columns() == names
    wide = file(tmp_path, "w.csv", (",".join([*names, "c7"]) + "\n").encode())
    assert "the header names 'c7' more than once" in refusal(wide)


def test_open_rows_refuses_a_line_without_an_end(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "_LONGEST_LINE_BYTES", 2**20)
    path = file(tmp_path, "t.jsonl", b'{"a": 1}\n{"a": "' + b"x" * 2**20 + b'"}\n')
    assert "line 2 is longer than 1 MiB: expected one example a line. Split the file." in refusal(path)


def test_open_rows_refuses_what_cannot_be_read_twice(tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    assert "is not a regular file (a pipe, socket or device)" in refusal(tmp_path / "pipe.jsonl")
    assert "is not a regular file" in refusal("/dev/zero")


def test_open_rows_refuses_a_folder_that_is_not_one_table(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    assert "is a directory: expected one file" in refusal(tmp_path)
    write(tmp_path / "train.jsonl", ROWS)
    write(tmp_path / "test.jsonl", ROWS)
    assert f"several splits (test, train): name one file, or hf:{tmp_path}#test." in refusal(tmp_path)
    write(tmp_path / "more.csv", ROWS)
    assert "files of several formats (CSV, JSONL): name one of them" in refusal(tmp_path)
    (tmp_path / "state.json").write_text("{}")
    assert "For a folder of the datasets library: hf:" in refusal(tmp_path)


def test_a_parquet_text_that_is_not_utf8_is_skipped_with_its_reason(tmp_path):
    texts = pyarrow.array([b"good", b"b\xe9d", b"more"], pyarrow.binary()).view(pyarrow.string())
    pyarrow.parquet.write_table(pyarrow.table({"text": texts}), tmp_path / "t.parquet")
    assert skipped(tmp_path / "t.parquet") == (
        [{"text": "good"}, {"text": "more"}],
        {1: "a text is not UTF-8 (byte 0xe9)"},
    )
    pyarrow.parquet.write_table(pyarrow.table({"text": texts.slice(1, 1)}), tmp_path / "t.parquet")
    assert "t.parquet, row 0: a text is not UTF-8 (byte 0xe9). Write the file anew" in refusal(tmp_path / "t.parquet")


def test_open_rows_reads_large_parquet_cells_a_few_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "_PARQUET_BATCH_BYTES", 2**20)
    source = write(tmp_path / "t.parquet", [{"a": str(i) + "x" * 2**20} for i in range(8)])
    sizes = []
    batches = pyarrow.parquet.ParquetFile.iter_batches
    monkeypatch.setattr(
        pyarrow.parquet.ParquetFile,
        "iter_batches",
        lambda f, batch_size: sizes.append(batch_size) or batches(f, batch_size),
    )
    assert [row["a"][0] for _, row in open_rows(source)] == list("01234567")
    assert set(sizes) == {1}
