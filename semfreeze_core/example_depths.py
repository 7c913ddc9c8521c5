"""The freeze depth that each training example picks, for the variant `dynamic`: one pass, before a validation."""

from dataclasses import replace

from pydantic import ValidationError

from semfreeze_core.errors import PlanError
from semfreeze_core.finetune.validation.request import Prepared, ValidationRequest, prepare
from semfreeze_core.plan.depth_spread import pick_depths
from semfreeze_core.plan.document import require_identity
from semfreeze_core.plan.rules import depth_cap
from semfreeze_core.progress import Progress, silent
from semfreeze_core.records.defaults import DYNAMIC, POSITIONS
from semfreeze_core.records.example_depths import ExampleDepths
from semfreeze_core.semantics.analysis import prepare_labels, read_traces
from semfreeze_core.semantics.positions import choose_positions
from semfreeze_core.sources.models.causal_lm import load_causal_lm
from semfreeze_core.storage import cache_folder, digest, write_atomically


def with_example_depths(request: ValidationRequest, progress: Progress = silent) -> ValidationRequest:
    """The request with a freeze depth for each of its training examples, where the variant `dynamic` is named.

    One pass over the training examples, as the analysis makes it, and the paper's rule for each of them, in the plan's
    deviation. Depths that were chosen before for the same examples and model are read from the cache.

    Args:
        request: of a validation; without that variant, or with depths, it is returned as it is.
        progress: receives stages and counts.

    Raises:
        InputError: the request is refused for another reason, the model is not the plan's, or no layer is left to
            search.
    """
    if DYNAMIC not in request.arms or request.example_depths is not None:
        return request
    others = tuple(name for name in request.arms if name != DYNAMIC) or ("full",)
    rates = {name: rate for name, rate in (request.rates or {}).items() if name != DYNAMIC}
    # Silent, as the validation reports the same; and without a search, whose steps are checked with all variants.
    prepared = prepare(replace(request, arms=others, rates=rates, search_rates=False))
    plan, train = request.plan, prepared.data.train
    if int(prepared.shape.tied) >= depth_cap(prepared.shape.n_layers):
        raise PlanError(
            f"variant {DYNAMIC}: the paper rule has no layer left to search in a model of {prepared.shape.n_layers} "
            "layers: leave this variant out."
        )
    model = plan.model
    key = digest([train.digest, model.structure_digest, model.weights_digest, plan.metric, POSITIONS])
    path = cache_folder() / "depths" / f"{key}.json"
    try:
        chosen = ExampleDepths.model_validate_json(path.read_text())
    except (OSError, UnicodeDecodeError, ValidationError):
        chosen = _choose_depths(prepared, progress)
        write_atomically(path, chosen.model_dump_json() + "\n")
    return replace(request, example_depths=chosen)


def _choose_depths(prepared: Prepared, progress: Progress) -> ExampleDepths:
    """The paper's depth of each training example."""
    plan, train, source = prepared.request.plan, prepared.data.train, prepared.source
    loaded = load_causal_lm(
        source.source,
        revision=source.revision,
        dtype=prepared.request.setup.precision,
        device=source.device,
        trust_remote_code=source.trust_remote_code,
        allow_pickle=source.allow_pickle,
        progress=progress,
    )
    require_identity(plan.model, loaded.identity)
    positions = choose_positions(train.tokenized, POSITIONS, 0)
    labels = prepare_labels(loaded.decoder, train.tokenized, positions, real_rows=loaded.vocabulary.real_rows)
    stage = "Choosing a freeze depth per example"
    traces, _ = read_traces(loaded.decoder, train.tokenized, positions, labels, stage=stage, progress=progress)
    return ExampleDepths(
        metric=plan.metric,
        train_digest=train.digest,
        structure_digest=plan.model.structure_digest,
        weights_digest=plan.model.weights_digest,
        depths=tuple(pick_depths(traces[plan.metric].deviation, int(loaded.shape.tied)).tolist()),
    )
