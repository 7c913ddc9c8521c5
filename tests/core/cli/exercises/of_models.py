"""What shows that the options of preview and models check do what they say."""

import json

import pandas as pd

from tests.core.cli.exercises.registry import exercise
from tests.core.cli.terminal import ask
from tests.core.runs.tiny_run import task_rows, write_jsonl


@exercise("models check --plan", "models check --json")
def _(world):
    ask("plan", "untied", "--depth", "3", "--out", "plan.json")
    document = ask("models", "check", world.models / "untied", "--plan", "plan.json", "--json", "-q").json
    assert document["trains"]
    assert all(name.startswith(("model.layers.3.", "model.norm.")) for name in document["trains"])
    assert ask("models", "check", world.models / "untied", "--json", "-q").json["trains"] is None


@exercise("models check --revision", "models check --trust-remote-code", "models check --allow-pickle")
def _(world):
    arguments = world.stop_at("semfreeze_core.sources.models.causal_lm", "load_causal_lm")
    names = ("revision", "trust_remote_code", "allow_pickle")
    assert ask("models", "check", "x/y").refusal == "stopped"
    assert [arguments[name] for name in names] == [None, False, False]
    flags = ["--revision", "v2", "--trust-remote-code", "--allow-pickle"]
    assert ask("models", "check", "x/y", *flags).refusal == "stopped"
    assert [arguments[name] for name in names] == ["v2", True, True]


@exercise("models check --device", "models check --dtype")
def _(world):
    flags = ["--device", "cpu", "--dtype", "bfloat16", "--json", "-q"]
    document = ask("models", "check", world.models / "untied", *flags).json
    assert (document["device"], document["dtype"]) == ("cpu", "bfloat16")
    for flag, message in (("--dtype", "expected auto, float32 or bfloat16"), ("--device", "expected auto, cpu, cuda")):
        assert message in ask("models", "check", world.models / "untied", flag, "x", "-q").refusal


def look(world, *args, data=None):
    """What `preview` says of the untied model and the task."""
    return ask("preview", "--model", world.models / "untied", "--data", data or world.task, "--quiet", *args)


@exercise("preview --model", "preview --data", "preview --json")
def _(world):
    models = [
        ask("preview", "--model", world.models / m, "--data", world.task, "--json", "-q") for m in ("tied", "gpt2")
    ]
    assert [m.json["memory"]["parameters"] for m in models] == [41_248, 42_368]
    other = write_jsonl(world.tmp / "other.jsonl", task_rows(40))
    assert look(world, "--json", data=other).json["data"]["n_rows"] == 40


@exercise("preview --examples", "preview --seed")
def _(world):
    draws = [
        [e["row"] for e in look(world, "--json", "--examples", "5", "--seed", seed).json["data"]["examples"]]
        for seed in (0, 0, 1)
    ]
    assert len(draws[0]) == 5
    assert draws[0] == draws[1] != draws[2]


@exercise("preview --split")
def _(world):
    (world.tmp / "set").mkdir()
    for name, n in (("train", 48), ("test", 40)):
        pd.DataFrame(task_rows(n)).to_parquet(world.tmp / "set" / f"{name}.parquet")
    document = look(world, "--json", "--split", "test", data=f"hf:{world.tmp / 'set'}").json
    assert document["data"]["n_rows"] == 40


@exercise("preview --eos", "preview --no-eos")
def _(world):
    ends = [
        [example["pieces"][-1]["text"][-4:] for example in look(world, "--json", flag).json["data"]["examples"]]
        for flag in ("--eos", "--no-eos")
    ]
    assert ends == [["</s>"] * 3, [" now"] * 3]


@exercise("preview --max-length")
def _(world):
    for example in look(world, "--json", "--max-length", "20").json["data"]["examples"]:
        assert sum(piece["n_tokens"] for piece in example["pieces"]) <= 20
        assert example["truncated"] > 0


@exercise("preview --device", "preview --dtype")
def _(world):
    memory = look(world, "--json", "--device", "cpu", "--dtype", "bfloat16").json["memory"]
    assert (memory["device"], memory["dtype"]) == ("cpu", "bfloat16")
    assert "expected auto, cpu, cuda, cuda:N or mps" in look(world, "--device", "tpu").refusal


@exercise("preview --prompt-field", "preview --completion-field", "preview --label-field", "preview --template")
def _(world):
    data = world.columns(prompt="ask", completion="say", label="kind")
    assert "The fields are not clear" in look(world, data=data).refusal
    named = ["--completion-field", "say", "--label-field", "kind", "--json"]
    asked = look(world, *named, "--prompt-field", "ask", data=data).json["data"]
    written = look(world, *named, "--template", "{kind}? {ask}", data=data).json["data"]
    for plain, templated in zip(asked["examples"], written["examples"], strict=True):
        assert templated["pieces"][0]["text"] == f"{plain['label']}? {plain['pieces'][0]['text']}"


@exercise("preview --messages-field", "preview --text-field")
def _(world):
    assert look(world, "--text-field", "prompt", "--json").json["data"]["mapping"]["text_field"] == "prompt"
    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    data = write_jsonl(world.tmp / "chat.jsonl", [{"talk": talk}])
    assert "The model has no chat template" in look(world, "--messages-field", "talk", data=data).refusal


@exercise("preview --plan")
def _(world):
    ask("plan", "untied", "--depth", "3", "--out", "previewed.json")
    training = look(world, "--plan", "previewed.json", "--json").json["training"]
    assert (training["depth"], training["prefix"]) == (3, None)
    assert training["peak_bytes"] >= training["whole_bytes"] > 0


@exercise("preview --skipped")
def _(world):
    rows = [*task_rows(40), {"prompt": None, "completion": "x"}, {"prompt": "y"}]
    data, file = write_jsonl(world.tmp / "some-bad.jsonl", rows), world.tmp / "skipped.jsonl"
    document = look(world, "--skipped", file, "--json", data=data).json["data"]
    assert (document["n_rows"], document["n_usable"], document["n_skipped"]) == (42, 40, 2)
    listed = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(entry["row"], entry["line"]) for entry in listed] == [(40, 41), (41, 42)]
    assert listed == document["skipped"]
    assert listed[0]["reason"] == "field 'prompt' is null, expected text"
    assert "already exists" in look(world, "--skipped", file, data=data).refusal


@exercise("preview --revision", "preview --trust-remote-code", "preview --allow-pickle")
def _(world):
    arguments = world.stop_at("semfreeze_core.preview", "open_checkpoint")
    names = ("revision", "trust_remote_code", "allow_pickle")
    assert look(world).refusal == "stopped"
    assert [arguments[name] for name in names] == [None, False, False]
    assert look(world, "--revision", "v2", "--trust-remote-code", "--allow-pickle").refusal == "stopped"
    assert [arguments[name] for name in names] == ["v2", True, True]


@exercise("preview --quiet", "preview -q")
def _(world):
    command = ["preview", "--model", world.models / "untied", "--data", world.task]
    assert "Checking rows\n" in ask(*command).err
    for flag in ("--quiet", "-q"):
        assert ask(*command, flag).err == ""
