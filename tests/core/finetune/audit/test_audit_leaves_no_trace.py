"""An audit gives the model back as it was, gradients and random state included, also when a step fails."""

import pytest
import torch
from torch import nn

from semfreeze_core.errors import ModelError
from semfreeze_core.finetune.audit.audit import audit
from semfreeze_core.finetune.freezing.freeze import freeze
from semfreeze_core.records.training import TrainableParts
from tests.core.finetune.live_steps import checkpoint, tokens_of
from tests.core.tiny_models import build_tiny, find_pieces

TOP = TrainableParts((False, False, True, True), embeddings=False, final_norm=True, head=False)


def tiny(family="llama"):
    return build_tiny(family, tied=False, attention="eager")


@pytest.mark.parametrize("frozen", [True, False])
def test_audit_leaves_the_model_as_it_was(frozen):
    model = tiny("gpt2")
    model.config.resid_pdrop = 0.1
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.1  # so that a step draws random numbers
    checkpoint(model, "non-reentrant")
    if frozen:
        freeze(model, TOP)
    find_pieces(model).layers[1].eval()
    ids = tokens_of(model)
    model(input_ids=ids, labels=ids).loss.backward()

    def state():
        return (
            [(p.requires_grad, p.grad) for p in model.parameters()],
            [(type(m), m.training, len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()],
            [bool(p._post_accumulate_grad_hooks) for p in model.parameters()],
        )

    before, random = state(), torch.get_rng_state()
    values = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    audit(model)
    after = state()
    assert torch.equal(torch.get_rng_state(), random)
    assert [flag for flag, _ in after[0]] == [flag for flag, _ in before[0]]
    assert all(new is old for (_, new), (_, old) in zip(after[0], before[0], strict=True))
    assert all(v is None or torch.equal(p.grad, v) for p, v in zip(model.parameters(), values, strict=True))
    assert after[1:] == before[1:]


def test_audit_leaves_the_model_as_it_was_when_a_step_fails():
    model = tiny()
    freeze(model, TOP)
    classes = [type(m) for m in model.modules()]

    def fail(*_):
        raise RuntimeError("out of memory")

    handle = find_pieces(model).layers[3].register_forward_pre_hook(fail)
    with pytest.raises(ModelError, match=r"a step on \(2, 12\) tokens fails: RuntimeError: out of memory"):
        audit(model)
    handle.remove()
    assert [type(m) for m in model.modules()] == classes
    assert audit(model).problems == ()
