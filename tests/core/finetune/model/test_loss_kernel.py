"""Liger Kernel computes a chunked loss where it is installed, on a GPU, and gives what semfreeze's loop gives.

The kernel itself runs on a GPU (`-m gpu`), or without one under Triton's interpreter, where `TRITON_INTERPRET=1` is set
before anything imports Triton.
"""

import os
from dataclasses import replace
from functools import partial
from importlib.util import find_spec

import pytest
import torch

from semfreeze_core.finetune.model import loss_kernel
from semfreeze_core.finetune.model.batches import Collator
from semfreeze_core.finetune.model.chunked_loss import chunked_loss
from semfreeze_core.finetune.model.loss_kernel import choose_loss_kernel, kernel_loss, largest_difference
from semfreeze_core.finetune.model.network import CacheSettings, build_network
from semfreeze_core.finetune.model.supervised_head import SupervisedModel
from semfreeze_core.records.training import TrainableParts, TrainingSetup
from semfreeze_core.sources.models.decoder import HeadTransform, find_decoder
from tests.core.finetune.loaded import load_tiny, task_examples
from tests.core.tiny_models import build_tiny

EXAMPLES = task_examples(6, vocab=90)
BATCH = Collator(EXAMPLES)(range(6))
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
needs_liger = pytest.mark.skipif(find_spec("liger_kernel") is None, reason="liger-kernel is not installed")
DEVICES = [
    pytest.param("cuda", marks=pytest.mark.gpu),
    pytest.param("cpu", marks=pytest.mark.skipif(not INTERPRETED, reason="no TRITON_INTERPRET=1 in the environment")),
]


def steps(decoder, kernel, device, *, frozen):
    """Loss and gradients of one batch, twice its tokens the divisor."""
    decoder.model.to(device).requires_grad_(True)
    for name, parameter in decoder.model.named_parameters():
        parameter.grad = None
        parameter.requires_grad_(not any(part in name for part in frozen))
    network = SupervisedModel(decoder.model, decoder, loss="chunked", kernel=kernel).train()
    batch = {name: tensor.to(device) for name, tensor in BATCH.items()}
    loss = network(**batch, num_items_in_batch=80)["loss"]
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in decoder.model.named_parameters() if p.requires_grad}


@needs_liger
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("family", "frozen", "scale"),
    [
        ("llama", (), 1.0),
        ("llama", ("lm_head",), 1.0),
        ("gpt2", (), 1.0),  # tied
        ("phi", (), 1.0),  # with a bias
        ("phi", ("lm_head",), 0.25),
        ("phi", (), 16.0),
    ],
)
def test_the_kernels_loss_and_gradients_are_the_loops(family, frozen, scale, device):
    decoder = replace(find_decoder(build_tiny(family)), transform=HeadTransform(scale))
    expected, loops = steps(decoder, None, device, frozen=frozen)
    loss, ours = steps(decoder, partial(kernel_loss, decoder.head, decoder.transform), device, frozen=frozen)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert ours.keys() == loops.keys()
    for name, gradient in loops.items():
        assert torch.allclose(ours[name], gradient, atol=1e-6, rtol=1e-5), name


@needs_liger
@pytest.mark.parametrize("device", DEVICES)
def test_a_vocabulary_of_more_than_a_block_in_several_chunks(device):
    torch.manual_seed(0)
    head = torch.nn.Linear(16, 2**15 + 100, device=device)  # a block has at most 2**15 logits
    targets = torch.tensor([0, 2**15 - 1, 2**15 + 99, 7, 2**15], device=device)
    hidden = torch.randn(5, 16, device=device)
    results = []
    for way in (kernel_loss, loop):
        leaf = hidden.clone().requires_grad_()
        loss = way(head, HeadTransform(), leaf, targets)
        results.append((loss, *torch.autograd.grad(loss, (leaf, head.weight, head.bias))))
    for ours, theirs in zip(*results, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6, rtol=1e-5)


@needs_liger
@pytest.mark.gpu  # its tanh has no interpreter
@pytest.mark.parametrize("frozen", [(), ("lm_head", "embed")])
def test_a_soft_cap_is_the_kernels_own(frozen):
    decoder = find_decoder(build_tiny("gemma2"))
    assert decoder.transform.softcap
    expected, loops = steps(decoder, None, "cuda", frozen=frozen)
    loss, ours = steps(decoder, partial(kernel_loss, decoder.head, decoder.transform), "cuda", frozen=frozen)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert all(torch.allclose(ours[name], gradient, atol=1e-5, rtol=1e-4) for name, gradient in loops.items())


@needs_liger
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_the_check_lets_the_kernel_pass(precision, device, monkeypatch):
    monkeypatch.setattr(loss_kernel, "runs_triton", lambda _: True)
    decoder = find_decoder(build_tiny("llama"))
    decoder.model.to(device, torch.bfloat16 if precision == "bf16" else torch.float32)
    kernel, note = choose_loss_kernel(decoder, precision)
    assert kernel is not None
    assert note.startswith("Loss in chunks: Liger Kernel ")


@pytest.fixture
def decoder():
    return find_decoder(build_tiny("phi"))  # its head has a bias


@pytest.fixture
def installed(monkeypatch):
    """As if the kernel were installed on a GPU; what it computes is set by what is returned."""
    monkeypatch.setattr(loss_kernel, "runs_triton", lambda _: True)
    monkeypatch.setattr(loss_kernel, "find_spec", lambda name: name)
    monkeypatch.setattr(loss_kernel, "version", lambda _: "1.2.3")
    return partial(monkeypatch.setattr, loss_kernel, "kernel_loss")


def loop(head, transform, hidden, targets):
    return chunked_loss(head, transform, hidden, targets, 7)


class _WrongGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value):
        return value.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * 1.1


def wrong_head(head, transform, hidden, targets):
    total = loop(head, transform, hidden, targets)
    return total + (_WrongGradient.apply(head.weight) - head.weight).sum()


def wrong_hidden(head, transform, hidden, targets):
    return loop(head, transform, _WrongGradient.apply(hidden), targets)


def not_a_number(head, transform, hidden, targets):
    return loop(head, transform, hidden, targets) * float("nan")


def test_a_kernel_that_computes_the_same_is_taken_and_named(decoder, installed):
    installed(loop)
    kernel, note = choose_loss_kernel(decoder, "float32")
    assert (kernel.func, kernel.args) == (loop, (decoder.head, decoder.transform))
    assert note.startswith("Loss in chunks: Liger Kernel 1.2.3. On a small batch its loss and gradients differ")
    assert note.endswith("--loss chunked-loop trains without it.")


@pytest.mark.parametrize("wrong", [wrong_head, wrong_hidden, not_a_number])
def test_a_kernel_that_computes_something_else_is_left_with_the_reason(decoder, installed, wrong):
    installed(wrong)
    kernel, note = choose_loss_kernel(decoder, "float32")
    assert kernel is None
    assert note.startswith(
        "Loss in chunks: semfreeze's loop, because Liger Kernel's loss or gradients differ from its by "
    )


def test_the_gradient_of_a_frozen_head_is_not_compared(decoder, installed):
    installed(wrong_head)
    decoder.head.requires_grad_(False)
    assert choose_loss_kernel(decoder, "float32")[0] is not None


def test_a_kernel_that_fails_is_left_with_what_it_said(decoder, installed):
    def fail(*_, **__):
        raise RuntimeError("no  compiler")

    installed(fail)
    kernel, note = choose_loss_kernel(decoder, "float32")
    assert (kernel, "Liger Kernel failed on cpu (RuntimeError: no compiler)." in note) == (None, True)


def test_the_check_holds_few_logits_of_a_whole_head(decoder, installed, monkeypatch):
    shapes = []
    installed(
        lambda head, transform, hidden, targets: (
            shapes.append(head.weight.shape) or loop(head, transform, hidden, targets)
        )
    )
    monkeypatch.setattr(loss_kernel, "_CHECKED_ROWS", 50)
    assert largest_difference(decoder, lambda: torch.autocast("cpu", enabled=False)) < 1e-6
    assert shapes == [(97, 32), (50, 32)]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"runs_triton": lambda _: False}, "Liger Kernel needs a CUDA GPU, and the device is cpu."),
        ({"find_spec": lambda _: None}, "Liger Kernel is not installed (pip install 'semfreeze[kernels]')."),
        ({"sharded": True}, "the trained weights are spread over processes."),
        ({"trained": ("lm_head",)}, "only the head is trained, whose gradient Liger Kernel then leaves out."),
        ({"scale": 0.3}, "Liger Kernel would round what the model scales."),
    ],
)
def test_where_the_kernel_cannot_do_it_the_loop_does_and_says_why(decoder, installed, monkeypatch, change, reason):
    installed(loop)
    for name in change.keys() & {"runs_triton", "find_spec"}:
        monkeypatch.setattr(loss_kernel, name, change[name])
    if "trained" in change:
        for name, parameter in decoder.model.named_parameters():
            parameter.requires_grad_(name.startswith(change["trained"]))
    if "scale" in change:
        decoder = replace(decoder, transform=HeadTransform(change["scale"]))
    kernel, note = choose_loss_kernel(decoder, "float32", sharded=change.get("sharded", False))
    assert (kernel, note) == (None, f"Loss in chunks: semfreeze's loop, because {reason}")


@pytest.mark.parametrize("scale", [1.0, 0.0625, 16.0])
def test_a_power_of_two_scales_without_rounding(decoder, installed, scale):
    installed(loop)
    scaled = replace(decoder, transform=HeadTransform(scale))
    assert choose_loss_kernel(scaled, "float32")[0] is not None


@pytest.mark.parametrize("cached", [True, False])
def test_a_training_notes_and_calls_what_was_chosen(tmp_path, installed, cached):
    called = []
    installed(lambda *given, **named: called.append(given) or loop(*given, **named))
    parts = TrainableParts((False, False, True, True), embeddings=False, final_norm=True, head=False)
    examples = task_examples(6)

    def built(loss):
        setup = TrainingSetup(batch_size=2, sequence_length=16, prefix_cache=cached, loss=loss)
        return build_network(load_tiny(tmp_path / "tiny"), parts, setup, examples, seed=0, cache=CacheSettings())

    assert all(
        "Loss in chunks" not in note for loss in ("chunked-loop", "supervised-only") for note in built(loss).notes
    )
    network = built("chunked")
    assert [note.startswith("Loss in chunks: Liger Kernel 1.2.3") for note in network.notes] == [True]
    called.clear()
    batch = Collator(examples, network.train_cache)(range(4))
    network.supervised.train()(**batch)["loss"].backward()
    assert len(called) == 1
    with torch.no_grad():
        network.supervised(**batch)
    assert len(called) == 1, "evaluations have each token's loss"
