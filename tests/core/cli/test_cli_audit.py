"""`semfreeze audit --script`: somebody's script for two steps, what trains in it, and scripts that never do."""

import json
import os
import sys
from unittest.mock import patch

import pytest
from transformers import Trainer

from semfreeze_core.finetune.audit.script import audit_script
from tests.core.cli.terminal import ask
from tests.core.finetune.plans import plan_of
from tests.core.tiny_models import build_tiny

OPTIONS = ("--script", "--plan", "--after-steps", "--json")
TRAINS = """
import sys
from pathlib import Path
import torch
from transformers import Trainer, TrainingArguments
from helper import model

for layer in model.model.layers[:int(sys.argv[1])]:
    layer.requires_grad_(False)
model.model.embed_tokens.requires_grad_(int(sys.argv[1]) == 0)
ids = torch.arange(12)
settings = TrainingArguments("{folder}", max_steps=9, per_device_train_batch_size=2, report_to=[], use_cpu=True,
                         disable_tqdm=True, save_strategy="no", logging_strategy="no")
trainer = Trainer(model=model, args=settings, train_dataset=[{{"input_ids": ids, "labels": ids}}] * 20)
print("about to train")
try:
    trainer.train()
except Exception:
    pass
Path("{folder}/end").write_text(str(trainer.state.global_step))
"""
HELPER = """
from tests.core.tiny_models import build_tiny
model = build_tiny("llama", n_layers=4, tied=True)
"""


@pytest.fixture
def script(tmp_path):
    """A script that trains a tiny model, with a module of its own beside it, and catches what it can."""
    (tmp_path / "helper.py").write_text(HELPER)
    path = tmp_path / "train.py"
    path.write_text(TRAINS.format(folder=tmp_path))
    yield path
    sys.modules.pop("helper", None)


def test_script_is_seen_after_two_steps_and_ends_there(script, tmp_path):
    originals = (Trainer.__init__, sys.argv, list(sys.path))
    answer = ask("audit", "--script", script, "--json", "--", "2")
    assert (answer.code, "about to train" in answer.err) == (0, True)
    report = json.loads(answer.out)
    assert (report["freeze_depth"], report["gradient_depth"], report["n_layers"]) == (2, 2, 4)
    assert report["problems"] == []
    assert not (tmp_path / "end").exists(), "it goes no further, whatever it catches"
    assert (Trainer.__init__, sys.argv, list(sys.path)) == originals


def test_later_steps_and_a_plan_are_held_against_it(script, tmp_path):
    plan = plan_of(build_tiny("llama", n_layers=4, tied=True), 3)
    (tmp_path / "plan.json").write_text(plan.model_dump_json())
    output = ask("audit", "--script", script, "--plan", tmp_path / "plan.json", "--after-steps", "5", "--", "0").out
    assert "Audit of LlamaForCausalLM: layers 0 to 3 of 4 trained" in output
    assert "problem 1" in output


def test_a_script_that_never_trains_says_so(tmp_path):
    (tmp_path / "idle.py").write_text("found = 1\n")
    assert "no transformers Trainer trained in it" in ask("audit", "--script", tmp_path / "idle.py").refusal


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise KeyError('data')", "KeyError: 'data'"),
        ("import sys; sys.exit(3)", "exit code 3"),
        ("def f(:", "SyntaxError"),
        ("import nowhere_to_be_found", "No module named 'nowhere_to_be_found'"),
    ],
)
def test_a_script_that_fails_first_says_with_what(tmp_path, code, message):
    (tmp_path / "bad.py").write_text(code)
    refusal = ask("audit", "--script", tmp_path / "bad.py").refusal
    assert "ended before its training could be audited" in refusal
    assert message in refusal


COMPILES = """
import sys, torch
from transformers import Trainer, TrainingArguments
from helper import model


ids = torch.arange(12)
settings = TrainingArguments("{folder}", max_steps=9, report_to=[], use_cpu=True, torch_compile=True,
                         disable_tqdm=True, save_strategy="no", logging_strategy="no")
try:
    Trainer(model=model, args=settings, train_dataset=[{{"input_ids": ids, "labels": ids}}] * 20).train()
except Exception:
    pass
"""
CLASSIFIES = """
import torch
from transformers import LlamaConfig, LlamaForSequenceClassification, Trainer, TrainingArguments

model = LlamaForSequenceClassification(LlamaConfig(vocab_size=32, hidden_size=8, intermediate_size=8,
    num_hidden_layers=2, num_attention_heads=2, pad_token_id=0))
ids = torch.arange(12)
settings = TrainingArguments("{folder}", max_steps=9, report_to=[], use_cpu=True, disable_tqdm=True, save_strategy="no")
Trainer(model=model, args=settings, train_dataset=[{{"input_ids": ids, "labels": 1}}] * 20).train()
"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (COMPILES, "Freezing under torch.compile has not been tested"),
        (CLASSIFIES, "LlamaForSequenceClassification has no head that predicts tokens. Expected a decoder-only"),
    ],
)
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # torch.compile's own
def test_what_cannot_be_audited_is_refused_before_the_first_step(script, tmp_path, monkeypatch, text, message):
    script.write_text(text.format(folder=tmp_path))
    monkeypatch.setattr(Trainer, "training_step", lambda *_, **__: pytest.fail("it made a step"))
    with patch.dict(os.environ):  # where TrainingArguments says that it compiles
        assert ask("audit", "--script", script).refusal.startswith(message)


def test_no_script_and_no_steps_are_refused(tmp_path, script):
    assert "no such script" in ask("audit", "--script", tmp_path / "none.py").refusal
    assert "--after-steps must be at least 1" in ask("audit", "--script", script, "--after-steps", "0").refusal


def test_from_python_the_report_is_the_same(script):
    report = audit_script(script, ["2"], after_steps=1)
    assert (report.freeze_depth, report.problems) == (2, ())
