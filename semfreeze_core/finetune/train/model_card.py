"""The model card of a finetuned model: what was trained and why, and how to read the plan that comes with it."""

from huggingface_hub import ModelCardData

from semfreeze_core.plan.document import PLAN, FreezePlan
from semfreeze_core.sources.models.hub import is_repo_id
from semfreeze_core.wording.escaping import markdown_sentence, markdown_text
from semfreeze_core.wording.layers import set_of
from semfreeze_core.wording.plan import coverage_sentence, headline, set_coverage_sentence

CARD = "README.md"

_TEXT = """\
# A model finetuned by a freeze plan

## Freeze plan

{headline}{adapters} The plan is in [{plan}]({plan}); `sf.read_plan` reads it
from this folder or by this repository's name, and `semfreeze train` runs it again.

- Rule `{rule}`: {reasons}
- {coverage}
- Based on an analysis of {n_examples} examples ({metric} distance); semfreeze {version}.
- {trained}
"""


def model_card(plan: FreezePlan, trained: str) -> str:
    """A card as Markdown with its metadata.

    The base model is named only when it is on the hub: a local folder means nothing to others.

    Args:
        plan: what was trained; it makes a recommendation.
        trained: one sentence on the finetune.
    """
    source, lora = plan.model.source, plan.cost.setup.lora is not None
    data = ModelCardData(
        base_model=source if is_repo_id(source) else None,
        library_name="peft" if lora else "transformers",
        tags=["semfreeze"],
    )
    return f"---\n{data.to_yaml()}\n---\n\n" + _TEXT.format(
        headline=headline(plan),
        adapters=" Adapters (LoRA) train in place of the layers' weights." if lora else "",
        plan=PLAN,
        rule=plan.rule,
        reasons=markdown_sentence(" ".join(plan.reasons)),
        coverage=markdown_text(_coverage_text(plan)),
        n_examples=plan.evidence.n_examples,
        metric=markdown_text(plan.metric),
        version=markdown_text(plan.provenance.semfreeze),
        trained=markdown_text(trained),
    )


def _coverage_text(plan: FreezePlan) -> str:
    coverage = plan.gain_coverage
    if coverage.estimate is None or coverage.low is None or coverage.high is None:
        return "Coverage of the frozen depth was not measured."
    if layers := set_of(plan.trainable):
        return f"{set_coverage_sentence(layers, coverage)} Bootstrap over examples."
    return f"{coverage_sentence(plan.freeze_depth or 0, coverage, plan.rule)} Bootstrap over examples."
