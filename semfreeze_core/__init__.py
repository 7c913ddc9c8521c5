"""semfreeze: where to finetune a language model.

Analyze a model on examples, choose a freeze depth with its estimated cost, write the plan:

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
    from semfreeze_core.export import export_plan
    from semfreeze_core.finetune.audit.audit import audit
    from semfreeze_core.finetune.audit.callbacks import AuditCallback, FreezePlanCallback
    from semfreeze_core.finetune.freezing.freeze import apply_freeze_plan
    from semfreeze_core.finetune.train.request import TrainRequest
    from semfreeze_core.finetune.train.train import train_plan
    from semfreeze_core.finetune.validation.request import ValidationRequest
    from semfreeze_core.finetune.validation.validate import validate
    from semfreeze_core.gains import gain_curve
    from semfreeze_core.plan import FreezePlan, TrainFlags, curve_of, make_plan, require_model, trainable_names
    from semfreeze_core.plan.compare import side_by_side
    from semfreeze_core.records.fields import FieldMapping
    from semfreeze_core.records.run import Run
    from semfreeze_core.records.training import TrainableParts, TrainingSetup
    from semfreeze_core.records.validation import ValidationReport
    from semfreeze_core.runs.folder import read_run, write_run
    from semfreeze_core.runs.plans import read_plan
    from semfreeze_core.runs.reports import list_validations, read_validation
    from semfreeze_core.runs.store import example_run
    from semfreeze_core.sources.data.training_rows import training_rows
    from semfreeze_core.sources.models.causal_lm import LoadedModel, load_causal_lm
    from semfreeze_core.workflow.analysis import analyze, analyze_loaded
    from semfreeze_core.workflow.request import AnalysisRequest

_HOMES = {
    "AnalysisRequest": "workflow.request",
    "AuditCallback": "finetune.audit.callbacks",
    "FieldMapping": "records.fields",
    "FreezePlan": "plan",
    "FreezePlanCallback": "finetune.audit.callbacks",
    "InputError": "errors",
    "LoadedModel": "sources.models.causal_lm",
    "Run": "records.run",
    "SemfreezeError": "errors",
    "TrainFlags": "plan",
    "TrainRequest": "finetune.train.request",
    "TrainableParts": "records.training",
    "TrainingSetup": "records.training",
    "ValidationReport": "records.validation",
    "ValidationRequest": "finetune.validation.request",
    "analyze": "workflow.analysis",
    "analyze_loaded": "workflow.analysis",
    "apply_freeze_plan": "finetune.freezing.freeze",
    "audit": "finetune.audit.audit",
    "cost_table": "cost",
    "curve_of": "plan",
    "example_run": "runs.store",
    "export_plan": "export",
    "gain_curve": "gains",
    "list_validations": "runs.reports",
    "load_causal_lm": "sources.models.causal_lm",
    "make_plan": "plan",
    "parts_at_depth": "cost",
    "read_plan": "runs.plans",
    "read_run": "runs.folder",
    "read_validation": "runs.reports",
    "require_model": "plan",
    "side_by_side": "plan.compare",
    "train_plan": "finetune.train.train",
    "trainable_names": "plan",
    "training_rows": "sources.data.training_rows",
    "validate": "finetune.validation.validate",
    "write_run": "runs.folder",
}

__all__ = [
    "AnalysisRequest",
    "AuditCallback",
    "FieldMapping",
    "FreezePlan",
    "FreezePlanCallback",
    "InputError",
    "LoadedModel",
    "Run",
    "SemfreezeError",
    "TrainFlags",
    "TrainRequest",
    "TrainableParts",
    "TrainingSetup",
    "ValidationReport",
    "ValidationRequest",
    "__version__",
    "analyze",
    "analyze_loaded",
    "apply_freeze_plan",
    "audit",
    "cost_table",
    "curve_of",
    "example_run",
    "export_plan",
    "gain_curve",
    "list_validations",
    "load_causal_lm",
    "make_plan",
    "parts_at_depth",
    "read_plan",
    "read_run",
    "read_validation",
    "require_model",
    "side_by_side",
    "train_plan",
    "trainable_names",
    "training_rows",
    "validate",
    "write_run",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
