"""Run folders: everything comes back as it was written, and what is damaged is refused in clear words."""

import dataclasses
import hashlib
import io
import json
import os

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load, save

from semfreeze_core.errors import RunError
from semfreeze_core.plan.make import make_plan
from semfreeze_core.records.manifest import SCHEMA_VERSION
from semfreeze_core.records.scores import unmeasured
from semfreeze_core.runs.folder import MANIFEST, add_display, add_score, lacks_parts, read_manifest, read_run, write_run
from semfreeze_core.runs.umaps import umap_file
from tests.core.killed_writes import kill_everywhere

FILES = ("arrays.safetensors", "examples.parquet", "display.safetensors", "display.json")


@pytest.fixture
def folder(run, tmp_path):
    write_run(run, tmp_path / "one")
    return tmp_path / "one"


def edit_manifest(folder, **changes):
    path = folder / MANIFEST
    document = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps(document), encoding="utf-8")


def replace_file(folder, name, content):
    """Another content with its right digest, as no accident would leave it."""
    (folder / name).write_bytes(content)
    files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
    edit_manifest(folder, files=files | {name: hashlib.sha256(content).hexdigest()})


def test_write_run_leaves_the_files_its_manifest_names(folder):
    assert sorted(p.name for p in folder.iterdir()) == sorted([*FILES, MANIFEST])
    assert sorted(read_manifest(folder).files) == sorted(FILES)
    assert [p.name for p in folder.parent.iterdir() if p.name.startswith(".")] == []


def test_read_run_gives_every_array_back(run, folder):
    back = read_run(folder)
    assert list(back.traces) == list(back.pairs) == ["semantic", "logit_z", "lens_loss"]
    assert list(back.scores) == ["block_influence", "variability", "spectrum", "gradient_norm", "depth_prior"]
    assert {name for name, score in back.scores.items() if score.replicates is not None} == {
        "block_influence",
        "variability",
    }
    for records in ("traces", "pairs", "scores"):
        for metric, record in getattr(run, records).items():
            assert_same_fields(record, getattr(back, records)[metric])
    assert_same_fields(run.display, back.display)
    pd.testing.assert_frame_equal(run.examples, back.examples)


def test_read_run_gives_a_score_back_that_was_not_measured(run, tmp_path):
    missing = unmeasured("spectrum", 4, "the weights", "left out")
    write_run(dataclasses.replace(run, scores={"spectrum": missing}), tmp_path / "one")
    back = read_run(tmp_path / "one").scores
    assert list(back) == ["spectrum"]
    assert_same_fields(missing, back["spectrum"])


def unfinished(run, *names):
    """The run as it is before slow scores are measured."""
    scores = {name: score for name, score in run.scores.items() if name not in names}
    return dataclasses.replace(run, manifest=run.manifest.model_copy(update={"scores_to_come": names}), scores=scores)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_score_added_later_gives_the_run_that_had_it_from_the_start(run, folder, tmp_path):
    written = write_run(unfinished(run, "spectrum", "gradient_norm"), tmp_path / "begun")
    before = read_run(tmp_path / "begun")
    assert not {"spectrum", "gradient_norm"} & before.scores.keys()
    for name in ("gradient_norm", "spectrum"):
        add_score(tmp_path / "begun", run.scores[name], written.files)
        assert name not in read_run(tmp_path / "begun").manifest.scores_to_come
    assert contents(tmp_path / "begun") == contents(folder)


def unprojected(run):
    """The run as it is before its display sample is projected."""
    return dataclasses.replace(run, display=None)


def test_a_projection_added_later_gives_the_run_that_had_it_from_the_start(run, folder, tmp_path):
    written = write_run(unprojected(run), tmp_path / "begun")
    before = read_run(tmp_path / "begun")
    assert before.display is None
    assert before.manifest.parts_to_come == ("projection",)
    add_display(tmp_path / "begun", run.display, written.files)
    assert contents(tmp_path / "begun") == contents(folder)
    assert make_plan(before).model_dump(exclude={"provenance"}) == make_plan(run).model_dump(exclude={"provenance"})


def test_scores_and_projection_are_added_in_any_order(run, folder, tmp_path):
    written = write_run(unprojected(unfinished(run, "spectrum")), tmp_path / "begun")
    assert read_manifest(tmp_path / "begun").parts_to_come == ("projection", "spectrum")
    add_display(tmp_path / "begun", run.display, written.files)
    add_score(tmp_path / "begun", run.scores["spectrum"], written.files)
    assert contents(tmp_path / "begun") == contents(folder)


def test_a_run_is_whole_wherever_adding_the_projection_is_killed(run, folder, tmp_path):
    def prepare(n):
        write_run(unprojected(run), tmp_path / str(n) / "one")
        return tmp_path / str(n)

    files = write_run(unprojected(run), tmp_path / "another").files
    added = []
    for runs, _ in kill_everywhere(prepare, lambda runs: add_display(runs / "one", run.display, files)):
        added.append(read_run(runs / "one").display is not None)
        add_display(runs / "one", run.display, files)
        assert read_manifest(runs / "one") == read_manifest(folder)
    assert added == sorted(added), "from some operation on it is there"
    assert {*added} == {False, True}


def test_no_projection_is_added_to_another_run_that_took_the_folder(run, tmp_path):
    written = write_run(unprojected(run), tmp_path / "one")
    other = dataclasses.replace(run, examples=run.examples.assign(prompt="another"))
    write_run(other, tmp_path / "one", overwrite=True)
    before = contents(tmp_path / "one")
    with pytest.raises(RunError, match=r"one was replaced by another analysis while the projection was computed"):
        add_display(tmp_path / "one", run.display, written.files)
    assert contents(tmp_path / "one") == before


def test_read_run_refuses_a_projection_that_is_there_and_to_come(folder):
    edit_manifest(folder, projection_to_come=True)
    with pytest.raises(RunError, match=r"display\.safetensors is there, and the projection is to come in the manifest"):
        read_run(folder)


def test_a_score_added_later_changes_no_digest_that_others_keep(run, tmp_path):
    written = write_run(unfinished(run, "spectrum"), tmp_path / "one")
    before, plan = read_manifest(tmp_path / "one"), make_plan(read_run(tmp_path / "one"))
    add_score(tmp_path / "one", run.scores["spectrum"], written.files)
    after, again = read_manifest(tmp_path / "one"), make_plan(read_run(tmp_path / "one"))
    assert (after.files, after.provenance) == (before.files, before.provenance)
    assert umap_file(after, seed=0, n_neighbors=15) == umap_file(before, seed=0, n_neighbors=15)
    assert again.model_dump(exclude={"provenance"}) == plan.model_dump(exclude={"provenance"})


def test_a_run_is_whole_wherever_adding_a_score_is_killed(run, tmp_path):
    def prepare(n):
        write_run(unfinished(run, "spectrum"), tmp_path / str(n) / "one")
        return tmp_path / str(n)

    files = write_run(run, tmp_path / "whole").files
    added = [
        "spectrum" in read_run(runs / "one").scores
        for runs, _ in kill_everywhere(prepare, lambda runs: add_score(runs / "one", run.scores["spectrum"], files))
    ]
    assert added == sorted(added), "from some operation on it is there"
    assert {*added} == {False, True}


def test_no_score_is_added_to_another_run_that_took_the_folder(run, tmp_path):
    written = write_run(unfinished(run, "spectrum"), tmp_path / "one")
    other = dataclasses.replace(run, examples=run.examples.assign(prompt="another"))
    write_run(unfinished(other, "spectrum"), tmp_path / "one", overwrite=True)
    with pytest.raises(RunError, match=r"one was replaced by another analysis while spectrum was computed"):
        add_score(tmp_path / "one", run.scores["spectrum"], written.files)
    assert "spectrum" not in read_run(tmp_path / "one").scores


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0] * 8, r"score spectrum is \(8,\), expected \(4,\)"),
        ([1.0, None, 1.0, 1.0], "spectrum is not finite"),
        ([-1.0] * 4, "without negative entries"),
    ],
)
def test_read_run_refuses_a_slow_score_that_is_none(folder, values, message):
    entries = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["scores"]
    edit_manifest(folder, scores=[e | {"values": values} if e["name"] == "spectrum" else e for e in entries])
    with pytest.raises(RunError, match=f"is damaged .*{message}"):
        read_run(folder)


def test_read_run_refuses_a_score_that_is_measured_and_to_come(folder):
    edit_manifest(folder, scores_to_come=["spectrum"])
    with pytest.raises(RunError, match="score spectrum is measured, and is to come in the manifest"):
        read_run(folder)


def test_a_run_lacks_parts_that_are_to_come_and_scores_that_are_asked_for(run, folder, tmp_path):
    assert not lacks_parts(folder, ("spectrum", "gradient_norm", "depth_prior"))
    write_run(unfinished(run, "gradient_norm"), tmp_path / "begun")
    assert lacks_parts(tmp_path / "begun")
    write_run(unprojected(run), tmp_path / "unprojected")
    assert lacks_parts(tmp_path / "unprojected")
    left_out = unmeasured("spectrum", 4, "the weights", "left out")
    write_run(run.with_score(left_out), tmp_path / "large")
    assert not lacks_parts(tmp_path / "large")
    assert lacks_parts(tmp_path / "large", ("spectrum",))
    assert not lacks_parts(tmp_path / "absent", ("spectrum",))


def test_read_run_opens_a_run_whose_slow_scores_are_in_its_arrays(folder, run):
    """As runs were written before slow scores were added later."""
    entries = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    old = [{k: v for k, v in entry.items() if k != "values"} for entry in entries["scores"]]
    document = {k: v for k, v in entries.items() if k != "scores_to_come"} | {"scores": old}
    (folder / MANIFEST).write_text(json.dumps(document), encoding="utf-8")
    slow = {f"score.{name}.values": run.scores[name].values for name in ("spectrum", "gradient_norm")}
    edited_arrays(folder, "arrays.safetensors", **slow)
    for name, score in read_run(folder).scores.items():
        assert_same_fields(run.scores[name], score)


def test_read_manifest_refuses_a_run_without_scores(folder):
    document = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    del document["scores"]
    (folder / MANIFEST).write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(RunError, match=r"is damaged \(scores: Field required\)\. Run semfreeze analyze again"):
        read_manifest(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"score.depth_prior.values": None},
        {"score.variability.replicates": None},
        {"score.block_influence.values": np.array([1.0, np.nan, 1.0, 1.0])},
        {"score.block_influence.values": -np.ones(4)},
        {"score.block_influence.replicates": np.ones((5, 3))},
    ],
    ids=["no values", "no replicates", "no reason", "negative", "shape"],
)
def test_read_run_refuses_damaged_scores(folder, changes):
    arrays = load((folder / "arrays.safetensors").read_bytes()) | changes
    present = {name: array for name, array in arrays.items() if array is not None}
    replace_file(folder, "arrays.safetensors", save(present))
    with pytest.raises(RunError, match="is damaged"):
        read_run(folder)


def assert_same_fields(record, back):
    for field in dataclasses.fields(record):
        mine, theirs = getattr(record, field.name), getattr(back, field.name)
        if isinstance(mine, np.ndarray):
            assert mine.dtype == theirs.dtype, field.name
            np.testing.assert_array_equal(mine, theirs, err_msg=field.name)
        else:
            assert mine == theirs, field.name


def test_read_run_gives_the_manifest_back(run, folder):
    manifest = read_run(folder).manifest
    assert manifest.model_copy(update={"files": {}}) == run.manifest
    for name, digest in manifest.files.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest


def test_write_run_keeps_text_of_every_kind(run, tmp_path):
    texts = ["", "日本 🎉", "[/b] \\ \" '", "line\nbreak\ttab\r", "\x00\x1f\x7f", "nan", "None"]
    prompts = [*texts, *run.examples["prompt"].iloc[len(texts) :]]
    examples = run.examples.assign(prompt=pd.Series(prompts, dtype="string"))
    names = run.display.token_text | dict(zip(range(len(texts)), texts, strict=True))
    notes = [*texts]
    odd = dataclasses.replace(
        run,
        examples=examples,
        display=dataclasses.replace(run.display, token_text=names),
        manifest=run.manifest.model_copy(update={"notes": notes}),
    )
    write_run(odd, tmp_path / "odd")
    back = read_run(tmp_path / "odd")
    assert back.examples["prompt"].tolist() == prompts
    assert back.display.token_text == names
    assert back.manifest.notes == notes


def test_write_run_refuses_a_place_that_is_taken(run, folder):
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    with pytest.raises(RunError, match="already exists"):
        write_run(run, folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_write_run_replaces_a_run_when_told(run, folder):
    (folder / "examples.parquet").write_bytes(b"damaged")
    write_run(run, folder, overwrite=True)
    assert read_run(folder).n_examples == run.n_examples


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "missing", "folder"])
def test_read_run_refuses_a_damaged_file(folder, name, damage):
    path = folder / name
    content = path.read_bytes()
    path.unlink()
    match damage:
        case "flipped":
            middle = len(content) // 2
            path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
        case "cut":
            path.write_bytes(content[:-1])
        case "empty":
            path.touch()
        case "folder":
            path.mkdir()
    with pytest.raises(RunError, match=f"is damaged: {name}"):
        read_run(folder)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_read_manifest_refuses_a_cut_manifest(folder, share):
    content = (folder / MANIFEST).read_bytes()
    (folder / MANIFEST).write_bytes(content[: int(share * len(content))])
    with pytest.raises(RunError, match=r"manifest\.json is damaged .*--overwrite"):
        read_manifest(folder)


def test_read_manifest_refuses_a_newer_schema(folder):
    edit_manifest(folder, schema_version=SCHEMA_VERSION + 1, something="new")
    with pytest.raises(RunError, match=r"newer semfreeze \(run schema 3, this one reads 2\)\. Update semfreeze"):
        read_manifest(folder)


def test_read_manifest_refuses_an_older_schema(folder):
    edit_manifest(folder, schema_version=SCHEMA_VERSION - 1)
    with pytest.raises(RunError, match=r"older .* \(run schema 1, this one reads 2\)\. Run semfreeze analyze again"):
        read_manifest(folder)


@pytest.mark.parametrize("version", ["1", 0, -3, 1.5, None, [1]])
def test_read_manifest_refuses_an_impossible_schema(folder, version):
    edit_manifest(folder, schema_version=version)
    with pytest.raises(RunError, match=r"is damaged .*schema_version"):
        read_manifest(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[]", "does not describe a semfreeze run"),
        (b"null", "does not describe a semfreeze run"),
        (b'{"name": "an app", "start_url": "/"}', "does not describe a semfreeze run"),
        (b"\xff\xfe\x00", "is damaged"),
        (b"[" * 100_000, "is damaged"),
    ],
    ids=["list", "null", "a web app's", "binary", "nested"],
)
def test_read_manifest_refuses_another_manifest(folder, content, message):
    (folder / MANIFEST).write_bytes(content)
    with pytest.raises(RunError, match=message):
        read_manifest(folder)


@pytest.mark.parametrize(
    ("key", "value"), [("surprise", 1), ("model", None), ("data", {}), ("files", [1]), ("notes", "text")]
)
def test_read_manifest_names_what_is_wrong(folder, key, value):
    edit_manifest(folder, **{key: value})
    with pytest.raises(RunError, match=rf"is damaged \({key}"):
        read_manifest(folder)


def test_read_manifest_refuses_a_manifest_that_is_a_folder(folder):
    (folder / MANIFEST).unlink()
    (folder / MANIFEST).mkdir()
    with pytest.raises(RunError, match="cannot be read: Is a directory"):
        read_manifest(folder)


def test_read_manifest_refuses_what_is_no_run(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    for name in ("empty", "file"):
        with pytest.raises(RunError, match=r"is not a run folder: it has no manifest\.json"):
            read_manifest(tmp_path / name)
    with pytest.raises(RunError, match="no such run"):
        read_manifest(tmp_path / "absent")
    with pytest.raises(RunError, match="cannot be read: File name too long"):
        read_manifest(tmp_path / ("x" * 300))


@pytest.mark.parametrize("files", [{}, {"display.json": None}])
def test_read_run_refuses_a_manifest_that_leaves_files_out(folder, files):
    known = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
    edit_manifest(folder, files={name: known[name] for name in files})
    with pytest.raises(RunError, match=r"is damaged \('arrays.safetensors'\)"):
        read_run(folder)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("arrays.safetensors", b"no tensors"),
        ("display.safetensors", b"no tensors"),
        ("display.json", b"[]"),
        ("display.json", b"{}"),
        ("display.json", b"\xff"),
        ("examples.parquet", b"no table"),
        ("examples.parquet", b"PAR1" + bytes(100) + b"PAR1"),
    ],
)
def test_read_run_refuses_files_that_hold_something_else(folder, name, content):
    replace_file(folder, name, content)
    with pytest.raises(RunError, match="is damaged"):
        read_run(folder)


def test_read_run_refuses_arrays_of_another_shape(folder, run):
    arrays = load((folder / "arrays.safetensors").read_bytes())
    replace_file(folder, "arrays.safetensors", save(arrays | {"semantic.null": arrays["semantic.null"][:, 1:].copy()}))
    with pytest.raises(RunError, match="is damaged"):
        read_run(folder)


def edited_arrays(folder, name, **changes):
    replace_file(folder, name, save(load((folder / name).read_bytes()) | changes))


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        (
            "arrays.safetensors",
            {"score.depth_prior.values": np.ones(8)},
            r"score depth_prior is \(8,\), expected \(4,\)",
        ),
        ("arrays.safetensors", {"score.variability.replicates": np.ones((7, 4))}, "has 7 replicates"),
        ("arrays.safetensors", {"semantic.null": np.full((48, 5), np.nan, np.float32)}, "semantic is not finite"),
        ("arrays.safetensors", {"semantic.deviation": np.zeros((48, 6), np.float32)}, "is damaged"),
        (
            "arrays.safetensors",
            {f"logit_z.pairs_{kind}": np.ones((3, 9), np.float32) for kind in ("own", "swapped")},
            r"logit_z's pairs are \(3, 9\)",
        ),
        (
            "arrays.safetensors",
            {f"logit_z.pairs_{kind}": np.full((3, 5), np.inf, np.float32) for kind in ("own", "swapped")},
            "logit_z's pairs are not finite",
        ),
        ("display.safetensors", {"example": np.full(100, 48)}, "names an example that there is not"),
        ("display.safetensors", {"label_ids": np.full(100, 10**9)}, "lacks tokens"),
        ("display.safetensors", {"label_ids": np.full(100, 0.5)}, "not integers"),
        ("display.safetensors", {"variance_fraction": np.ones(3, np.float32)}, "display.variance_fraction is"),
        ("display.safetensors", {"coordinates": np.ones(3, np.float16)}, "is damaged"),
    ],
)
def test_read_run_refuses_files_that_do_not_fit_each_other(folder, run, name, changes, message):
    assert (run.n_examples, run.shape.n_layers, run.display.coordinates.shape[1]) == (48, 4, 100)
    edited_arrays(folder, name, **changes)
    with pytest.raises(RunError, match=message):
        read_run(folder)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda table: table.iloc[:0], "0 rows in examples.parquet, 48 examples"),
        (lambda table: table.iloc[:-1], "47 rows in examples.parquet, 48 examples"),
        (lambda table: table.drop(columns="prompt"), "has no column prompt"),
        (lambda table: table.assign(n_tokens="many"), "column n_tokens does not hold integers"),
    ],
)
def test_read_run_refuses_a_table_of_other_examples(folder, run, edit, message):
    buffer = io.BytesIO()
    edit(run.examples).to_parquet(buffer, index=False)
    replace_file(folder, "examples.parquet", buffer.getvalue())
    with pytest.raises(RunError, match=message):
        read_run(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"token_text": {}}, "lacks tokens"),
        ({"seed": "0"}, "does not hold integers"),
        ({"metrics": ["semantic", "mine"]}, r"display.metrics are \('semantic', 'mine'\)"),
        ({"metrics": 3}, "is damaged"),
    ],
)
def test_read_run_refuses_a_display_that_does_not_fit(folder, changes, message):
    document = json.loads((folder / "display.json").read_text(encoding="utf-8"))
    replace_file(folder, "display.json", json.dumps(document | changes).encode())
    with pytest.raises(RunError, match=message):
        read_run(folder)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/b", "a\\b", "..", ".", "", "x\0y"])
def test_a_manifest_names_no_file_outside_its_folder(folder, name):
    edit_manifest(folder, files={name: "0" * 64})
    with pytest.raises(RunError, match=r"is damaged \(files"):
        read_run(folder)


@pytest.mark.parametrize("name", [MANIFEST, "display.json"])
def test_read_run_does_not_wait_for_a_pipe(folder, name):
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(RunError, match="not a regular file"):
        read_run(folder)
