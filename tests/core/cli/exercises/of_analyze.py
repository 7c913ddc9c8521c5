"""What shows that the options of analyze do what they say."""

from pathlib import Path

import numpy as np
import pandas as pd

from semfreeze_core.runs.store import run_names
from tests.core.cli.exercises.registry import exercise
from tests.core.cli.terminal import ask
from tests.core.runs.tiny_run import task_rows, write_jsonl
from tests.core.saved_models import save_tiny
from tests.core.tiny_tokenizer import CHATML, build_tiny_tokenizer


@exercise("analyze --model")
def _(world):
    documents = [world.read(model=world.models / name) for name in ("untied", "gpt2")]
    assert [d["model"]["identity"]["family"] for d in documents] == ["llama", "gpt2"]


@exercise("analyze --data")
def _(world):
    other = write_jsonl(world.tmp / "other.jsonl", task_rows(40, seed=1))
    assert [world.read(data=data)["n_examples"] for data in (world.task, other)] == [48, 40]


@exercise("analyze --examples")
def _(world):
    assert world.read("--examples", "40")["n_examples"] == 40
    many = write_jsonl(world.tmp / "many.jsonl", task_rows(300))
    assert world.read("--examples", "0", data=many)["n_examples"] == 300
    assert world.read(data=many)["n_examples"] == 256


@exercise("analyze --split")
def _(world):
    for name, n in (("train", 48), ("test", 40)):
        (world.tmp / "set").mkdir(exist_ok=True)
        pd.DataFrame(task_rows(n)).to_parquet(world.tmp / "set" / f"{name}.parquet")
    source = f"hf:{world.tmp / 'set'}"
    documents = [world.read("--split", name, data=source) for name in ("train", "test")]
    assert [d["data"]["split"] for d in documents] == ["train", "test"]
    assert [d["n_examples"] for d in documents] == [48, 40]
    assert "--split is missing. Choose one with --split, or as " in world.analyze(data=source).refusal


@exercise("analyze --prompt-field", "analyze --completion-field", "analyze --label-field")
def _(world):
    data = world.columns(prompt="ask", completion="say", label="kind")
    assert "The fields are not clear" in world.analyze(data=data).refusal
    document = world.read("--prompt-field", "ask", "--completion-field", "say", "--label-field", "kind", data=data)
    mapping = document["data"]["mapping"]
    assert [mapping[f"{role}_field"] for role in ("prompt", "completion", "label")] == ["ask", "say", "kind"]
    assert document["data"]["n_labels"] == 3
    assert document["data"]["tokens_digest"] == world.usual()["data"]["tokens_digest"]


@exercise("analyze --template")
def _(world):
    document = world.read("--template", "{label}? {prompt}\\n")
    assert document["data"]["n_tokens"] > world.usual()["data"]["n_tokens"]
    prompts = pd.read_parquet(Path(document["run"]) / "examples.parquet")["prompt"]
    assert prompts.str.fullmatch(r"(card|bank|top up)\? Message \d+ about \d+: \n").all()


@exercise("analyze --messages-field")
def _(world):
    save_tiny(world.tmp / "chatty", tokenizer=build_tiny_tokenizer(chat_template=CHATML), max_positions=200)
    rows = [
        {"talk": [{"role": "user", "content": r["prompt"]}, {"role": "assistant", "content": r["completion"]}]}
        for r in task_rows()
    ]
    data = write_jsonl(world.tmp / "chat.jsonl", rows)
    document = world.read("--messages-field", "talk", model=world.tmp / "chatty", data=data)
    assert document["data"]["mapping"]["messages_field"] == "talk"
    assert document["n_examples"] == 48
    assert "The model has no chat template" in world.analyze("--messages-field", "talk", data=data).refusal


@exercise("analyze --text-field")
def _(world):
    document = world.read("--text-field", "prompt")
    assert document["task_null"]["reason"]
    assert "Plain text has no prompt" in document["warnings"][0]


@exercise("analyze --eos", "analyze --no-eos")
def _(world):
    with_eos, without = world.read("--eos"), world.read("--no-eos")
    assert with_eos["n_supervised_tokens"] == without["n_supervised_tokens"] + 48
    assert [d["settings"]["add_eos"] for d in (with_eos, without, world.usual())] == [True, False, True]


@exercise("analyze --positions")
def _(world):
    document = world.read("--positions", "2")
    assert document["n_positions_read"] == 2 * 48 < document["n_supervised_tokens"]


@exercise("analyze --max-length")
def _(world):
    document = world.read("--max-length", "20")
    assert document["data"]["max_length"] == 20
    assert document["data"]["n_truncated"] > 0
    assert document["data"]["n_tokens"] <= 20 * 48
    assert world.read("--max-length", "1000000")["data"]["max_length"] == 64  # the model's own limit


@exercise("analyze --scores")
def _(world):
    usual = world.usual()["scores"]
    assert "gradient_norm" not in usual
    more = world.read("--scores", " gradient_norm, spectrum")["scores"]
    assert set(more) == {*usual, "gradient_norm"}
    assert more["gradient_norm"]["gain_coverage"]["mean"][0] == 1
    assert more["gradient_norm"]["sample"] == "48 examples, one backward pass"
    world.patch.setattr("semfreeze_core.semantics.spectrum._MOST_WORK", 10)
    assert "--scores spectrum" in world.read()["scores"]["spectrum"]["reason"]
    assert world.read("--scores", "spectrum")["scores"]["spectrum"]["values"] == usual["spectrum"]["values"]


@exercise("analyze --metrics")
def _(world):
    assert list(world.read("--metrics", "semantic")["deviation"]) == ["semantic", "logit_z"]
    document = world.read("--metrics", "semantic,lens_loss")
    assert list(document["deviation"]) == ["semantic", "logit_z", "lens_loss"]
    assert np.array(document["deviation"]["lens_loss"]["mean"]).min() > 2  # nats; a random guess has log(320) = 5.8


@exercise("analyze --allow-few")
def _(world):
    few = write_jsonl(world.tmp / "few.jsonl", task_rows(5))
    assert world.analyze(data=few).refusal.startswith("5 of 5 rows are usable. At least 32 are needed.")
    document = world.read("--allow-few", data=few)
    assert document["n_examples"] == 5
    assert any("fewer than 32" in note for note in document["notes"])


@exercise("analyze --device")
def _(world):
    assert world.read("--device", "cpu")["model"]["device"] == "cpu"
    assert "expected auto, cpu, cuda, cuda:N or mps" in world.analyze("--device", "tpu").refusal


@exercise("analyze --dtype")
def _(world):
    dtypes = [world.read("--dtype", dtype)["model"]["dtype"] for dtype in ("float32", "bfloat16")]
    assert dtypes == ["float32", "bfloat16"]
    assert any(note.startswith("Computed in") for note in world.read("--dtype", "auto")["notes"])
    assert world.analyze("--dtype", "float16").refusal == "--dtype float16: expected auto, float32 or bfloat16."


@exercise("analyze --seed")
def _(world):
    first, same, other = (world.read("--examples", "40", "--seed", seed) for seed in (7, 7, 8))
    assert first["deviation"] == same["deviation"] != other["deviation"]
    assert first["data"]["tokens_digest"] == same["data"]["tokens_digest"] != other["data"]["tokens_digest"]
    assert first["provenance"]["seed"] == 7


@exercise("analyze --batch-tokens")
def _(world):
    from semfreeze_core.semantics import extraction

    real, limits = extraction.length_buckets, []

    def watch(lengths, max_tokens):
        limits.append(max_tokens)
        return real(lengths, max_tokens)

    world.patch.setattr(extraction, "length_buckets", watch)
    small, usual = world.read("--batch-tokens", "77"), world.read()
    assert limits == [77, 77, 1024, 1024]
    for metric in ("semantic", "logit_z"):
        for document in (small, usual):
            np.testing.assert_allclose(
                document["deviation"][metric]["mean"], usual["deviation"][metric]["mean"], atol=1e-5
            )


@exercise("analyze --revision", "analyze --trust-remote-code", "analyze --allow-pickle")
def _(world):
    arguments = world.stop_at("semfreeze_core.workflow.analysis", "load_causal_lm")
    assert world.analyze().refusal == "stopped"
    names = ("revision", "trust_remote_code", "allow_pickle")
    assert [arguments[name] for name in names] == [None, False, False]
    assert world.analyze("--revision", "v2", "--trust-remote-code", "--allow-pickle").refusal == "stopped"
    assert [arguments[name] for name in names] == ["v2", True, True]


@exercise("analyze --out")
def _(world):
    world.read("--out", "mine")
    assert "mine" in run_names()
    world.read("--out", "./mine")
    assert Path("mine", "manifest.json").exists()


@exercise("analyze --overwrite")
def _(world):
    world.read("--out", "mine")
    assert "already exists. Choose another --out" in world.analyze("--out", "mine").refusal
    assert world.read("--out", "mine", "--overwrite", "--seed", "5")["provenance"]["seed"] == 5
    assert ask("show", "mine", "--json").json["provenance"]["seed"] == 5


@exercise("analyze --json")
def _(world):
    assert world.analyze("--json").json["n_layers"] == 4
    assert world.analyze().out.startswith(str(world.models / "untied"))


@exercise("analyze --quiet", "analyze -q", "models check --quiet", "models check -q")
def _(world):
    for command in (["analyze", "--data", world.task, "--model"], ["models", "check"]):
        assert "Loading the model\n" in ask(*command, world.models / "untied").err
        for flag in ("--quiet", "-q"):
            assert ask(*command, world.models / "untied", flag).err == ""
