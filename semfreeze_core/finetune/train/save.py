"""Writing a finetuned model as others load it: a Hugging Face folder, or an adapter's, with its plan and a card."""

import os
import shutil
from pathlib import Path
from typing import Any

from semfreeze_core.finetune.train.model_card import CARD, model_card
from semfreeze_core.plan.document import PLAN, FreezePlan, plan_text
from semfreeze_core.sources.models.loading_errors import quiet_transformers
from semfreeze_core.sources.models.placement import is_elsewhere, values_in_memory
from semfreeze_core.storage import disk_errors
from semfreeze_core.temporary import temporary_folder

# Of one file, where the machine's memory may hold no more of a model that does not fit on its device.
_SHARD = "4GB"


def save_finetuned(
    tuned: Any, tokenizer: Any, plan: FreezePlan, trained: str, folder: Path, state: dict[str, Any] | None = None
) -> None:
    """Write the model (only its adapters, when it has some), its tokenizer, the plan and a model card into `folder`.

    Everything is written to a temporary folder and then moved in, the config last: a folder with a config is complete.

    Args:
        tuned: a transformers model, or PEFT's wrapper of one.
        tokenizer: the model's.
        plan: what was trained.
        trained: one sentence on the finetune, for the model card.
        folder: exists.
        state: its parameters and buffers by name where its own are shards; None takes its own.

    Raises:
        ResourceError: the disk is full.
    """
    how: dict[str, Any] = {} if state is None else {"state_dict": state}
    if is_elsewhere(tuned):
        how["max_shard_size"] = _SHARD
    with disk_errors(folder), temporary_folder(folder) as partial:
        with quiet_transformers(), values_in_memory(tuned):
            tuned.save_pretrained(partial, **how)
            tokenizer.save_pretrained(partial)
        (partial / PLAN).write_text(plan_text(plan, folder), encoding="utf-8")
        (partial / CARD).write_text(model_card(plan, trained), encoding="utf-8")
        for path in sorted(partial.iterdir(), key=lambda p: p.name in ("config.json", "adapter_config.json")):
            if path.is_dir():  # of an earlier start, killed on the way: a folder replaces only an empty one
                shutil.rmtree(folder / path.name, ignore_errors=True)
            os.replace(path, folder / path.name)
