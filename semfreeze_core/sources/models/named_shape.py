"""The shape of a model that is only named: what an estimate needs, without its weights."""

from semfreeze_core.records.model import ModelShape
from semfreeze_core.sources.models.config_shape import shape_from_config
from semfreeze_core.sources.models.known_shapes import known_shape
from semfreeze_core.storage import user_path


def named_shape(model: str, *, revision: str | None = None, trust_remote_code: bool = False) -> ModelShape:
    """The shape of a model: a known one, or from its config.json alone, or else from its real modules.

    Args:
        model: "shape:NAME", "embedded", a folder, a config.json, a hub id or a GGUF file.
        revision: of a hub model.
        trust_remote_code: whether code that comes with the model may run.

    Raises:
        InputError: there is no such model.
        ModelError: it is none that can be counted.
    """
    if (known := known_shape(model)) is not None:
        return known
    model = folder_of_config(model)
    shape = None if trust_remote_code or revision else shape_from_config(user_path(model))
    if shape is not None:
        return shape
    # These import torch and transformers, which takes seconds.
    from semfreeze_core.sources.models.causal_lm import measure_empty
    from semfreeze_core.sources.models.opening import open_checkpoint

    return measure_empty(
        open_checkpoint(model, revision=revision, trust_remote_code=trust_remote_code, config_only=True)
    )


def folder_of_config(model: str) -> str:
    """The folder of a config.json, which is all that is read of a model here; any other model as it is."""
    return str(user_path(model).parent) if model.endswith("config.json") else model
