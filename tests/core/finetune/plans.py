"""Freeze plans for tiny models, without an analysis behind them."""

from semfreeze_core.cost import parts_at_depth
from semfreeze_core.plan.document import EvidenceEntry, FreezePlan
from semfreeze_core.plan.make import plan_cost
from semfreeze_core.plan.parameter_names import trainable_regex
from semfreeze_core.records.interval import IntervalEntry
from semfreeze_core.records.provenance import provenance_now
from semfreeze_core.records.training import TrainingSetup
from semfreeze_core.sources.models.decoder import find_parts
from semfreeze_core.sources.models.model_shape import identify, measure_shape

SETUP = TrainingSetup(batch_size=2, sequence_length=8)
NOTHING = IntervalEntry(estimate=None, low=None, high=None)


_MEASURED = {}  # by what follows, as long as the process lives


def shape_and_names(model):
    """Of a tiny model without adapters, as semfreeze measures them; its mode stays. Equal models are measured once."""
    parameters = [(name, tuple(p.shape)) for name, p in model.named_parameters()]
    key = repr((model.config.to_json_string(use_diff=False), parameters))
    if key not in _MEASURED:
        training = model.training
        parts = find_parts(model)
        model.train(training)
        _MEASURED[key] = measure_shape(model, parts), parts.names
    return _MEASURED[key]


def plan_of(model, k, *, setup=SETUP, parts=None, switch=None):
    """A plan that trains `parts`, or what depth k trains, with a switch after it; abstains when k is None."""
    shape, names = shape_and_names(model)
    if k is not None and parts is None:
        parts = parts_at_depth(shape, k, lora=setup.lora is not None)
    return FreezePlan(
        model=identify(model, source="tiny", revision=None),
        n_layers=shape.n_layers,
        freeze_depth=k,
        candidate_depth=k,
        recommendation="abstain" if k is None else "freeze",
        rule="manual",
        rule_parameters={},
        metric="semantic",
        reasons=["Nothing is learned here."] if k is None else [],
        warnings=[],
        gain_coverage=NOTHING,
        trainable=parts,
        trainable_regex=None if parts is None else trainable_regex(names, parts, lora=setup.lora is not None),
        switch=switch,
        parameter_names=names,
        cost=plan_cost(shape, setup, parts, switch),
        evidence=EvidenceEntry(
            verdict="no evidence",
            reasons=[],
            advantage=NOTHING,
            task_null=NOTHING,
            n_examples=0,
            n_pairs=0,
            isotonic_r_squared=None,
            pick_interval=None,
        ),
        run=None,
        data_digest="0" * 64,
        provenance=provenance_now(0),
    )
