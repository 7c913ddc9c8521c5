"""Bad input, end to end: exit 2, one message with what was found and what to do, nothing on stdout, nothing kept."""

import errno
import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, BertConfig, BertLMHeadModel, T5Config

from semfreeze_core import workflow
from semfreeze_core.runs.folder import MANIFEST
from semfreeze_core.runs.store import run_names
from semfreeze_core.storage import runs_folder
from tests.core.cli.terminal import ask
from tests.core.runs.tiny_run import task_rows
from tests.core.saved_models import save_tiny, save_tiny_gguf
from tests.core.tiny_tokenizer import build_tiny_tokenizer


def passes_permissions():
    """Whether this process may write where nobody may, as root may unless that power was taken from it."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o500)
        return os.access(folder, os.W_OK)


PASSES_PERMISSIONS = passes_permissions()


@pytest.fixture(autouse=True)
def nothing_kept(home):
    """Whatever was refused left nothing in the store, not even hidden; tests that begin with runs have this off."""
    yield
    if not (home / "begun").exists():
        assert [p for p in home.rglob("*") if p.is_file()] == []


@pytest.fixture
def begun(home):
    """For tests with runs in the store, which look themselves."""
    home.mkdir(exist_ok=True)
    (home / "begun").touch()


def lines(rows):
    return [json.dumps(row) for row in rows]


GOOD = lines(task_rows())

DATA = {
    "missing": ("t.jsonl", None, "t.jsonl does not exist. Check the path"),
    "a folder": ("t", "folder", "is a directory: expected one file"),
    "empty": ("t.jsonl", b"", "is empty (0 bytes): expected at least one example"),
    "blank": ("t.jsonl", b"\n\n  \n", "holds no rows: expected at least one example"),
    "binary": ("t.jsonl", b"\x7fELF\x00\x01", "is binary (a zero byte at offset 4)"),
    "an archive": ("t.jsonl.gz", b"\x1f\x8b\x08", "cannot be unpacked"),
    "an unknown archive": ("t.jsonl.bz2", b"BZh91AY", "has the extension .bz2: expected one of"),
    "no extension": ("t", b"{}", "has no extension: expected one of .jsonl"),
    "no JSON": ("t.jsonl", ["prompt: oops"] * 40, "t.jsonl, line 1: not JSON (Expecting value at character 1)"),
    "cut off": (
        "t.jsonl",
        [*GOOD[:31], GOOD[0][:-5]],
        "31 of 32 rows are usable; 1 skipped: line 32: not JSON (Invalid control character at character 74)",
    ),
    "a list a line": ("t.jsonl", ["[1, 2]"], "line 1: a list, expected an object"),
    "JSON for JSON Lines": ("t.json", GOOD, "A file with one object a line needs the extension .jsonl"),
    "not UTF-8": ("t.jsonl", b'{"prompt": "caf\xe9", "completion": "x"}\n', "is not UTF-8: byte 0xe9 at offset 15"),
    "UTF-16": ("t.csv", "prompt,completion\na,b\n".encode("utf-16"), "is UTF-16 text: expected UTF-8"),
    "unknown columns": (
        "t.jsonl",
        ['{"a": "x", "b": "y"}'],
        "Columns found: a, b. Name the fields with --prompt-field",
    ),
    "two columns that fit": (
        "t.jsonl",
        ['{"prompt": "x", "question": "y", "completion": "z"}'],
        "'prompt' and 'question' could each be the prompt",
    ),
    "a number for text": (
        "t.jsonl",
        [*GOOD[:20], '{"prompt": 5, "completion": "x"}'],
        "20 of 21 rows are usable; 1 skipped: line 21: field 'prompt' is a number (int 5), expected text.",
    ),
    "a null prompt": (
        "t.jsonl",
        [*GOOD[:20], '{"prompt": null, "completion": "x"}'],
        "field 'prompt' is null, expected text",
    ),
    "a missing field": (
        "t.jsonl",
        [*GOOD[:20], '{"prompt": "x"}'],
        "field 'completion' is missing; the row has 'prompt'",
    ),
    "nothing supervised": (
        "t.jsonl",
        lines(row | {"completion": ""} for row in task_rows()),
        "nothing supervised. All 48 rows have no text in 'completion'",
    ),
    "too few": (
        "t.jsonl",
        GOOD[:31],
        "31 of 31 rows are usable. At least 32 are needed. Add examples, or continue with",
    ),
    "completions over the limit": (
        "t.jsonl",
        lines(row | {"completion": "word " * 80} for row in task_rows()),
        "48 dropped because their supervised tokens exceed 64 tokens (see --max-length)",
    ),
    "a short CSV row": (
        "t.csv",
        b"prompt,completion\na,b\nc\n",
        "skipped: line 3: 1 field, expected 2 as in the header",
    ),
    "an open quote": ("t.csv", b'prompt,completion\na,"b\n', "Is a quote not closed?"),
    "a repeated column": ("t.tsv", b"prompt\tprompt\na\tb\n", "the header names 'prompt' more than once"),
    "a damaged Parquet file": ("t.parquet", b"PAR1 no table", "is not a readable Parquet file"),
    "half a character": ("t.jsonl", ['{"prompt": "\\ud83d", "completion": "x"}'], "holds half a character"),
}


def put(path, content):
    if content == "folder":
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        path.write_text("".join(f"{line}\n" for line in content), encoding="utf-8")
    return path


@pytest.mark.parametrize("what", DATA)
def test_analyze_refuses_bad_data(analyze, tmp_path, what):
    name, content, words = DATA[what]
    assert words in analyze("--json", data=put(tmp_path / name, content)).refusal


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--prompt-field", "absent"], "--prompt-field: no column 'absent'. Columns found: prompt, completion, label."),
        (["--label-field", ""], "--label-field: no column ''"),
        (["--template", "{absent}"], "--template: no column 'absent'"),
        (["--template", "{prompt"], "--template: "),
        (["--template", "nothing"], "--template names no column"),
        (["--template", "{prompt}", "--prompt-field", "prompt"], "--template excludes --prompt-field"),
        (["--text-field", "prompt", "--completion-field", "completion"], "--text-field excludes --completion-field"),
        (["--messages-field", "prompt"], "The model has no chat template"),
        (["--split", "train"], "--split train is for hub datasets"),
        (["--examples", "-1"], "--examples must be at least 0, found -1"),
        (["--positions", "0"], "--positions must be at least 1, found 0"),
        (["--max-length", "1"], "--max-length must be at least 2, found 1"),
        (["--max-length", "2"], "At least 32 are needed"),
        (["--batch-tokens", "0"], "--batch-tokens must be at least 1, found 0"),
        (["--seed", "-1"], "--seed must be at least 0, found -1"),
        (["--seed", "4294967296"], "--seed must be at most 4294967295, found 4294967296"),
        (["--metrics", "semantic,loss"], "--metrics loss: expected semantic, logit_z or lens_loss"),
        (["--scores", "spectrum,depth,x"], "--scores depth, x: expected block_influence, variability, spectrum, "),
        (["--examples", "-1", "--seed", "-1"], "--examples must be at least 0, found -1; --seed must be at least 0"),
        (["--device", "cuda:99"], "--device cuda:99: torch sees"),
        (["--device", "meta"], "expected auto, cpu, cuda, cuda:N or mps"),
        (["--examples", "10"], "At least 32 are needed"),
    ],
)
def test_analyze_refuses_bad_flags(analyze, flags, words):
    assert words in analyze(*flags).refusal


@pytest.mark.parametrize("flags", [["--examples", "many"], ["--seed", "1.5"], ["--nonsense"], ["--examples"]])
def test_analyze_refuses_flags_it_cannot_read(analyze, flags):
    assert flags[0] in analyze(*flags).usage_error


def test_arguments_that_are_not_utf8_are_refused(analyze, tmp_path):
    name = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jsonl")
    Path(name).write_text("\n".join(GOOD))
    assert "is not UTF-8. Rename the file" in analyze(data=name).usage_error


def test_sample_that_is_unknown_lists_the_samples(analyze):
    message = analyze(data="sample:nope").refusal
    assert message.startswith("sample:nope: no such sample. There are: sample:")
    assert "sample:sentence_to_json_train" in message


def bare_folder(folder, models):
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(models / "untied" / name, folder)


def without_weights(folder, models):
    bare_folder(folder, models)


def pickled(folder, models):
    bare_folder(folder, models)
    torch.save(AutoModelForCausalLM.from_pretrained(models / "untied").state_dict(), folder / "pytorch_model.bin")


def without_config(folder, models):
    shutil.copytree(models / "untied", folder)
    (folder / "config.json").unlink()


def without_tokenizer(folder, models):
    shutil.copytree(models / "untied", folder)
    (folder / "tokenizer.json").unlink()


def cut_weights(folder, models):
    shutil.copytree(models / "untied", folder)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def encoder(folder, models):
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    BertLMHeadModel(BertConfig(vocab_size=320, is_decoder=False, **sizes)).save_pretrained(folder)
    build_tiny_tokenizer().save_pretrained(folder)


def encoder_decoder(folder, models):
    T5Config(d_model=32, num_layers=2).save_pretrained(folder)
    shutil.copy(models / "untied" / "model.safetensors", folder)


def one_layer(folder, models):
    save_tiny(folder, "llama", n_layers=1)


def spoiled(folder, models):
    model = save_tiny(folder, "llama", tied=False)
    with torch.no_grad():
        model.model.layers[2].mlp.up_proj.weight[0, 0] = float("nan")
    model.save_pretrained(folder)


def small_vocabulary(folder, models):
    save_tiny(folder, "llama", tokenizer=build_tiny_tokenizer(vocab_size=300))
    build_tiny_tokenizer(vocab_size=320).save_pretrained(folder)


MODELS = {
    "no weights": (without_weights, "has a config.json but no weights: expected model.safetensors or its index"),
    "pickle only": (pickled, "holds its weights only as pickle (.bin), which can run code while loading"),
    "no config": (without_config, "expected a config.json, found"),
    "no tokenizer": (without_tokenizer, "its tokenizer could not be loaded"),
    "cut weights": (cut_weights, "model.safetensors is damaged or cut short"),
    "an encoder": (encoder, "as encoders have them, are not supported: semfreeze supports decoder-only models"),
    "an encoder-decoder": (encoder_decoder, "is an encoder-decoder (t5): semfreeze supports decoder-only models"),
    "one layer": (one_layer, "has 1 layer; choosing a freeze depth needs at least 2"),
    "NaN": (spoiled, "the output of layer 2 holds NaN or infinity"),
    "another tokenizer": (small_vocabulary, "The tokenizer and the model disagree"),
}


@pytest.mark.quick_cases(3)
@pytest.mark.parametrize(
    ("command", "what"),
    [
        *(("analyze", what) for what in MODELS),
        *(("models check", what) for what in ("no weights", "NaN", "no tokenizer")),
    ],
)
def test_analyze_and_models_check_refuse_bad_models(analyze, models, tmp_path, capfd, command, what):
    make, words = MODELS[what]
    make(tmp_path / "model", models)
    capfd.readouterr()  # what making it printed
    if command == "analyze":
        answer = analyze("--json", model=tmp_path / "model")
    else:
        answer = ask("models", "check", tmp_path / "model", "--quiet", "--dtype", "float32")
    assert words in answer.refusal
    assert "".join(capfd.readouterr()) == ""


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("/no/such/folder", "/no/such/folder: no such folder or file"),
        ("./absent", "./absent: no such folder or file"),
        ("absent.gguf", "absent.gguf: no such folder or file"),
        ("", "expected a config.json"),
        ("x" * 300, "File name too long"),
    ],
)
def test_analyze_refuses_a_model_that_is_not_there(analyze, model, words):
    assert words in analyze(model=model).refusal


def test_analyze_refuses_a_file_that_is_no_model(analyze, task):
    assert "a model file must be .gguf" in analyze(model=task).refusal


def test_analyze_refuses_a_gguf_file_of_an_unknown_architecture(analyze, tmp_path):
    save_tiny_gguf(tmp_path / "odd.gguf", architecture="nosuch")
    assert "nosuch" in analyze(model=tmp_path / "odd.gguf").refusal


def test_analyze_names_the_layer_when_states_spoil_while_reading(analyze, tmp_path):
    tokenizer = build_tiny_tokenizer()
    model = save_tiny(tmp_path / "model", "llama", tied=False, tokenizer=tokenizer)
    unseen = tokenizer("M", add_special_tokens=False).input_ids[0]  # the prompts' first letter, not in the probe
    with torch.no_grad():
        model.model.embed_tokens.weight[unseen] = float("inf")
    model.save_pretrained(tmp_path / "model")
    message = analyze(model=tmp_path / "model").refusal
    assert message.startswith("The output of layer 0 holds NaN, infinity or a zero state at a target token.")


def test_analyze_refuses_what_cannot_fit_with_the_numbers(analyze, monkeypatch):
    from semfreeze_core.sources.models import causal_lm

    monkeypatch.setattr(causal_lm, "free_bytes", lambda device: 1000)
    assert "GiB are free on cpu" in analyze().refusal


@pytest.mark.parametrize("number", [errno.EACCES, errno.ELOOP])
def test_analyze_says_when_the_system_refuses_a_path(analyze, monkeypatch, number):
    monkeypatch.setattr(workflow, "open_rows", fail(OSError(number, os.strerror(number), "locked/t.jsonl")))
    assert analyze().refusal == f"locked/t.jsonl cannot be used: {os.strerror(number)}."


def test_analyze_refuses_a_data_path_the_system_cannot_hold(analyze):
    assert "cannot be used: File name too long" in analyze(data=f"{'x' * 300}.jsonl").refusal


@pytest.mark.parametrize("name", ["example", "two words", "ü", "", "x" * 101])
def test_analyze_refuses_an_impossible_name_before_any_work(analyze, never_loaded, name):
    assert "is not a valid run name" in analyze("--out", name).refusal


@pytest.fixture
def never_loaded(monkeypatch):
    def load(*_, **__):
        raise AssertionError("work was begun")

    monkeypatch.setattr(workflow, "load_causal_lm", load)


def test_analyze_refuses_a_taken_place_before_any_work(analyze, never_loaded, tmp_path, stored, begun):
    stored("tied")
    before = {p: p.read_bytes() for p in (runs_folder() / "tied").iterdir()}
    (tmp_path / "file").touch()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.jpg").touch()
    (tmp_path / "mine" / MANIFEST).write_text('{"name": "an app"}')
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    assert "Choose another --out, or replace it with --overwrite" in analyze("--out", "tied").refusal
    assert "is not a folder, but a run is one" in analyze("--out", tmp_path / "file", "--overwrite").refusal
    assert "Something else is at this path" in analyze("--out", tmp_path / "file" / "run").refusal
    assert "already exists" in analyze("--out", ".").refusal
    assert "is not a run folder, so --overwrite will not" in analyze("--out", tmp_path / "mine", "--overwrite").refusal
    assert "is not a folder, but a run is one" in analyze("--out", tmp_path / "dangling", "--overwrite").refusal
    assert "File name too long" in analyze("--out", f"./{'x' * 300}").refusal
    assert {p: p.read_bytes() for p in (runs_folder() / "tied").iterdir()} == before
    assert sorted(p.name for p in (tmp_path / "mine").iterdir()) == [MANIFEST, "photo.jpg"]


def test_analyze_refuses_a_read_only_place_before_any_work(analyze, never_loaded, monkeypatch, tmp_path):
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path and real(path, mode))
    message = analyze("--out", tmp_path / "deep" / "run").refusal
    assert f"cannot be written: {tmp_path} is read-only. Choose another location with --out" in message


@pytest.mark.skipif(PASSES_PERMISSIONS, reason="this process passes every permission check, as root does")
def test_analyze_refuses_a_folder_without_write_permission(analyze, never_loaded, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    assert "is read-only" in analyze("--out", tmp_path / "locked" / "run").refusal


def test_analyze_refuses_a_home_that_is_a_file(analyze, never_loaded, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SEMFREEZE_HOME", str(tmp_path / "file"))
    assert "Something else is at this path" in analyze().refusal


def fail(error):
    def stop(*_, **__):
        raise error

    return stop


def fail_after(n, error, real):
    """Let `real` do its work n times, then raise."""
    calls = []

    def stop(*args, **kwargs):
        calls.append(args)
        if len(calls) > n:
            raise error
        return real(*args, **kwargs)

    return stop


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
INTERRUPTED = "semfreeze: interrupted; unfinished results are not saved.\n"


@pytest.mark.parametrize("written", range(5))
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.usefixtures("read_already")
def test_analyze_keeps_nothing_when_the_disk_fills_up(analyze, monkeypatch, home, stored, begun, written, overwrite):
    before = kept_before(stored, home) if overwrite else []
    monkeypatch.setattr(Path, "write_bytes", fail_after(written, FULL, Path.write_bytes))
    message = analyze("--out", "tied", *(["--overwrite"] if overwrite else [])).refusal
    assert message.startswith(f"The disk is full: {home / 'runs' / 'tied'} could not be written (")
    assert "Nothing was saved. Free some space, or choose another location with --out or SEMFREEZE_HOME." in message
    monkeypatch.undo()
    assert contents(home) == before


def kept_before(stored, home):
    stored("tied")
    return contents(home)


def contents(home):
    """Every file in the store with its bytes, hidden ones too."""
    return sorted((str(p), p.read_bytes()) for p in (home / "runs").rglob("*") if p.is_file())


STEPS = [
    "load_causal_lm",
    "read_examples",
    "encode_all",
    "prepare_labels",
    "read_traces",
    "read_task_null",
    "project_display",
]


# With and without a run to replace in turn.
@pytest.mark.parametrize(("step", "overwrite"), [(step, i % 2 == 0) for i, step in enumerate(STEPS)])
def test_analyze_keeps_nothing_when_interrupted(analyze, monkeypatch, home, stored, begun, step, overwrite):
    before = kept_before(stored, home) if overwrite else []
    monkeypatch.setattr(workflow, step, fail(KeyboardInterrupt()))
    answer = analyze("--out", "tied", *(["--overwrite"] if overwrite else []))
    assert (answer.code, answer.out, answer.err) == (2, "", INTERRUPTED)
    assert contents(home) == before
    assert list((home / "runs").glob(".*")) == []


@pytest.mark.parametrize("written", range(5))
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.usefixtures("read_already")
def test_analyze_keeps_nothing_when_interrupted_while_writing(
    analyze, monkeypatch, home, stored, begun, written, overwrite
):
    before = kept_before(stored, home) if overwrite else []
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", fail_after(written, KeyboardInterrupt(), Path.write_bytes))
        answer = analyze("--out", "tied", *(["--overwrite"] if overwrite else []))
    assert (answer.code, answer.out, answer.err) == (2, "", INTERRUPTED)
    assert contents(home) == before
    assert list((home / "runs").glob(".*")) == []


@pytest.mark.parametrize("renamed", [0, 1])
@pytest.mark.usefixtures("read_already")
def test_analyze_keeps_the_old_run_when_the_exchange_is_interrupted(analyze, monkeypatch, home, stored, begun, renamed):
    before = kept_before(stored, home)
    real, calls = os.replace, []

    def replace(*args):
        calls.append(args)
        if len(calls) == renamed + 1:
            raise KeyboardInterrupt
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        answer = analyze("--out", "tied", "--overwrite")
    assert (answer.code, answer.err) == (2, INTERRUPTED)
    assert contents(home) == before
    assert list((home / "runs").glob(".*")) == []


def test_analyze_lets_a_fault_of_ours_be_seen(analyze, monkeypatch, home):
    monkeypatch.setattr(workflow, "read_traces", fail(ZeroDivisionError("ours")))
    with pytest.raises(ZeroDivisionError):
        analyze("--out", "tied")
    assert not (home / "runs" / "tied").exists()


# Damages of one run, met by three commands in turn.
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("missing", "no run with this name or path. Named runs: none yet. Bundled run: example."),
        ("empty", "is not a run folder: it has no manifest.json"),
        (
            "arrays",
            "is damaged: arrays.safetensors has changed since it was written. Run semfreeze analyze again with --over",
        ),
        ("gone", "is damaged: examples.parquet cannot be read (No such file or directory)"),
        ("cut", "manifest.json is damaged"),
        ("newer", "was written by a newer semfreeze (run schema 3, this one reads 2). Update semfreeze"),
        ("other", "its manifest.json does not describe a semfreeze run"),
    ],
)
def test_commands_refuse_a_run_they_cannot_read(stored, begun, damage, words):
    command = ("show", "plan", "cost")[len(damage) % 3]
    folder = runs_folder() / "tied"
    if damage == "empty":
        folder.mkdir(parents=True)
    elif damage != "missing":
        stored("tied")
        spoil(folder, damage)
    assert words in ask(command, "tied").refusal


def spoil(folder, damage):
    manifest = folder / MANIFEST
    match damage:
        case "arrays":
            content = (folder / "arrays.safetensors").read_bytes()
            (folder / "arrays.safetensors").write_bytes(content[:-4] + bytes(4))
        case "gone":
            (folder / "examples.parquet").unlink()
        case "cut":
            manifest.write_bytes(manifest.read_bytes()[:500])
        case "newer":
            manifest.write_text(manifest.read_text().replace('"schema_version": 2', '"schema_version": 3'))
        case "other":
            manifest.write_text('{"name": "an app"}')


@pytest.mark.parametrize(
    "run", ["", ".", "/", "/etc", "~", "~nobody-of-this-name/x", "a/b", "x" * 300, "naïve", "..", "*"]
)
def test_commands_refuse_what_is_no_run(run):
    assert ask("show", run).refusal


@pytest.mark.parametrize("command", ["plan", "cost"])
def test_plan_and_cost_refuse_what_is_no_run(command):
    assert ask(command, "a/b").refusal


@pytest.mark.usefixtures("read_already")
def test_analyze_may_replace_a_damaged_run(analyze, stored, begun):
    stored("tied")
    spoil(runs_folder() / "tied", "cut")
    assert analyze("--out", "tied", "--overwrite").code == 0
    assert ask("show", "tied").code == 0
    assert run_names() == ["tied"]


def test_plan_says_when_the_disk_is_full(stored, begun, monkeypatch, tmp_path):
    monkeypatch.setattr(os, "fsync", fail(FULL))
    assert ask("plan", stored("tied"), "--out", tmp_path / "plan.json").refusal.startswith("The disk is full")
    assert not (tmp_path / "plan.json").exists()
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_analyze_takes_numbers_of_any_size(analyze, begun):
    document = analyze("--examples", 10**30, "--positions", 10**20, "--max-length", 10**20, "--batch-tokens", 10**20)
    assert document.code == 0
    assert ask("show", "untied-task", "--json").json["settings"]["examples"] == 10**30
    assert np.isfinite(ask("show", "untied-task", "--json").json["deviation"]["semantic"]["mean"]).all()


@pytest.mark.skipif(PASSES_PERMISSIONS, reason="this process passes every permission check, as root does")
def test_commands_say_what_they_may_not_read(analyze, task, stored, begun, tmp_path):
    locked = tmp_path / "locked"
    shutil.copytree(runs_folder() / stored("tied"), locked / "run")
    shutil.copy(task, locked / "task.jsonl")
    locked.chmod(0o000)
    try:
        assert "Permission denied" in ask("show", locked / "run").refusal
        assert "Permission denied" in analyze(data=locked / "task.jsonl").refusal
        assert "Permission denied" in analyze(model=locked / "model").refusal
        assert "Permission denied" in ask("plan", "tied", "--out", locked / "plan.json").refusal
    finally:
        locked.chmod(0o700)
