"""semfreeze: where to finetune a language model.

Read a model on examples, decide on a freeze depth, price it, write the plan:

    import semfreeze_core as sf

    run = sf.analyze(sf.AnalysisRequest(model="embedded", data="sample:sentence_to_json_train"))
    plan = sf.make_plan(run)

Importing this module does not import torch; the names below are loaded when first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from semfreeze_core.version import __version__

if TYPE_CHECKING:
    from semfreeze_core.cost import cost_table, parts_at_depth
    from semfreeze_core.errors import InputError, SemfreezeError
    from semfreeze_core.gains import gain_curve
    from semfreeze_core.plan import FreezePlan, TrainFlags, curve_of, make_plan, require_model, trainable_names
    from semfreeze_core.records.run import Run
    from semfreeze_core.records.training import TrainableParts, TrainingSetup
    from semfreeze_core.runs.folder import read_run, write_run
    from semfreeze_core.runs.plans import read_plan
    from semfreeze_core.runs.store import example_run
    from semfreeze_core.sources.causal_lm import LoadedModel, load_causal_lm
    from semfreeze_core.sources.fields import FieldMapping
    from semfreeze_core.workflow import AnalysisRequest, analyze, analyze_loaded

_HOMES = {
    "AnalysisRequest": "workflow",
    "FieldMapping": "sources.fields",
    "FreezePlan": "plan",
    "InputError": "errors",
    "LoadedModel": "sources.causal_lm",
    "Run": "records.run",
    "SemfreezeError": "errors",
    "TrainFlags": "plan",
    "TrainableParts": "records.training",
    "TrainingSetup": "records.training",
    "analyze": "workflow",
    "analyze_loaded": "workflow",
    "cost_table": "cost",
    "curve_of": "plan",
    "example_run": "runs.store",
    "gain_curve": "gains",
    "load_causal_lm": "sources.causal_lm",
    "make_plan": "plan",
    "parts_at_depth": "cost",
    "read_plan": "runs.plans",
    "read_run": "runs.folder",
    "require_model": "plan",
    "trainable_names": "plan",
    "write_run": "runs.folder",
}

__all__ = [
    "AnalysisRequest",
    "FieldMapping",
    "FreezePlan",
    "InputError",
    "LoadedModel",
    "Run",
    "SemfreezeError",
    "TrainFlags",
    "TrainableParts",
    "TrainingSetup",
    "__version__",
    "analyze",
    "analyze_loaded",
    "cost_table",
    "curve_of",
    "example_run",
    "gain_curve",
    "load_causal_lm",
    "make_plan",
    "parts_at_depth",
    "read_plan",
    "read_run",
    "require_model",
    "trainable_names",
    "write_run",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
