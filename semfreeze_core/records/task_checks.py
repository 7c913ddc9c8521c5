"""What can be checked of a task's examples for nothing, before any training."""

from pydantic import Field

from semfreeze_core.records.provenance import Document


class TaskChecks(Document):
    """Free checks of training and eval examples; none of them needs the model.

    `bigram_coverage` is the share of token pairs in the eval completions that occur in the training completions, null
    with too few of either. `answer_tag_share` is the share of prompts that end in the same last two tokens, null
    without prompts of two tokens.
    """

    n_train_completions: int = Field(ge=0)
    n_eval_completions: int = Field(ge=0)
    bigram_coverage: float | None = Field(ge=0, le=1)
    n_prompts: int = Field(ge=0)
    answer_tag_share: float | None = Field(ge=0, le=1)
