"""Writing a finetuned model as others load it: a Hugging Face folder, or an adapter's, with the plan beside it."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from semfreeze_core.plan.document import FreezePlan
from semfreeze_core.sources.loading_errors import hushed
from semfreeze_core.storage import disk_errors

PLAN = "plan.json"


def save_finetuned(tuned: Any, tokenizer: Any, plan: FreezePlan, folder: Path) -> None:
    """Write the model (only its adapters, when it has some), its tokenizer and the plan into `folder`.

    Everything is written beside and then moved in, the config last: a folder that has one is whole.

    Args:
        tuned: a transformers model, or PEFT's wrapper of one.
        tokenizer: the model's.
        plan: what was trained.
        folder: exists.

    Raises:
        ResourceError: the disk is full.
    """
    with disk_errors(folder):
        partial = Path(tempfile.mkdtemp(dir=folder, prefix=".model-"))
        try:
            with hushed():
                tuned.save_pretrained(partial)
                tokenizer.save_pretrained(partial)
            (partial / PLAN).write_text(plan.model_dump_json(indent=1) + "\n", encoding="utf-8")
            for path in sorted(partial.iterdir(), key=lambda p: p.name in ("config.json", "adapter_config.json")):
                os.replace(path, folder / path.name)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
