"""Model folders with one entry of one document changed at random: each opens, or is refused in our own words."""

import json
import random
import shutil

import pytest
import torch

from semfreeze_core.errors import InputError
from semfreeze_core.sources.data.chat import render_chat
from semfreeze_core.sources.models.causal_lm import measure_empty
from semfreeze_core.sources.models.loading import load_model, load_tokenizer
from semfreeze_core.sources.models.opening import open_checkpoint
from tests.core.saved_models import save_tiny
from tests.core.tiny_tokenizer import CHATML, build_tiny_tokenizer

DOCUMENTS = ("config.json", "tokenizer_config.json", "generation_config.json", "model.safetensors.index.json")
VALUES = (None, 0, -1, 10**9, 2.5, True, "x", "", [], [1], {}, {"a": 1}, [[]], "owner/name", 10**30)
TALK = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    model = save_tiny(folder, n_layers=2, tokenizer=build_tiny_tokenizer(chat_template=CHATML))
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="60KB")
    (folder / "chat_template.jinja").unlink()
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": CHATML}))
    return folder


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_changed_folder_opens_or_is_refused(saved, tmp_path, document):
    torch.set_num_threads(1)
    draw = random.Random(document)
    entries = json.loads((saved / document).read_text())
    folder = tmp_path / "changed"
    outcomes = {True: 0, False: 0}
    for _ in range(15):
        shutil.copytree(saved, folder)
        name, value = draw.choice(sorted(entries)), draw.choice(VALUES)
        (folder / document).write_text(json.dumps({**entries, name: value}))
        try:
            checkpoint = open_checkpoint(str(folder))
            if document == "config.json":
                measure_empty(checkpoint)
            if document == "tokenizer_config.json":
                render_chat(load_tokenizer(checkpoint), TALK)
            else:
                load_model(checkpoint, torch.float32)
            outcomes[True] += 1
        except InputError:
            outcomes[False] += 1
        except Exception as error:
            pytest.fail(f"{document}: {name} = {value!r} ended in {type(error).__name__}: {error}")
        shutil.rmtree(folder)
    assert outcomes[False] > 0, "nothing that was changed mattered"
