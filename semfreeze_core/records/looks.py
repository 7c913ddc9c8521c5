"""Decisions whether a finetune freezes deeper, by short trainings from where it is."""

from pydantic import Field

from semfreeze_core.records.provenance import Document
from semfreeze_core.records.race import Standing


class Look(Document):
    """One decision: LOOK_STEPS steps from `step` on with either depth, on the same batches.

    `wide_loss` and `deep_loss` are means over the same eval examples, nats. `items_standing` and `tokens_standing` say
    whether the deeper one's loss reduction since before training is within the margin of the better one's, weighted by
    example and by target token. It freezes deeper where both are.
    """

    step: int = Field(ge=1)
    wide_loss: float
    deep_loss: float
    items_standing: Standing
    tokens_standing: Standing

    @property
    def deeper(self) -> bool:
        """Whether it freezes deeper: nothing was lost."""
        return self.items_standing == self.tokens_standing == "within"


class Looks(Document):
    """All decisions of a finetune; `before` are the losses of the same eval examples before training, nats."""

    before: list[float]
    looks: list[Look]
