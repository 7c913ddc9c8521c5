"""The freeze depth that each example of a training set picks by itself."""

from semfreeze_core.records.provenance import Document


class ExampleDepths(Document):
    """Depths by the paper's rule, from one pass over the examples.

    `depths` are in the order of the examples, which `train_digest` names; `metric` is the deviation that they come
    from. `structure_digest` and `weights_digest` are the model's.
    """

    metric: str
    train_digest: str
    structure_digest: str
    weights_digest: str
    depths: tuple[int, ...]
