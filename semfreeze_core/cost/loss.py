"""What the head's output and the loss take at their peak: the part that freezing does not move."""

from semfreeze_core.records.model import ModelShape
from semfreeze_core.records.training import CHUNKED_LOSSES, Precision, TrainingSetup

# Logits, their log-softmax and the gradients of both, all alive as the backward pass begins. The loss is computed in
# float32 always: bfloat16, by autocast or throughout, saves on the logits alone.
BYTES_PER_LOGIT: dict[Precision, int] = {"float32": 16, "bf16-autocast": 14, "bf16": 14}

CHUNK_BYTES = 2**28  # of one chunk's logits and what is computed from them, in a chunked loss

_LOGIT_BYTES: dict[Precision, int] = {"float32": 4, "bf16-autocast": 2, "bf16": 2}
_HEAD_INPUT_BYTES: dict[Precision, int] = {"float32": 4, "bf16-autocast": 4, "bf16": 2}
_LOSS_BYTES = 4  # one float32 a token


def logits_bytes(shape: ModelShape, setup: TrainingSetup) -> int:
    """Bytes of logits and loss at their peak: 16 (float32) or 14 (bfloat16) x tokens with logits x vocabulary rows.

    Holds for the usual cross-entropy while the model's output is kept until the backward pass; freezing does nothing to
    it, a supervised-only loss lowers it, a chunked or fused loss nearly removes it, and of several passes in a step it
    is one pass' own.
    """
    setup = setup.of_pass()
    if setup.loss == "fused":
        return fused_loss_bytes(shape, setup)
    if setup.loss in CHUNKED_LOSSES:
        return chunked_loss_bytes(shape, setup)
    return BYTES_PER_LOGIT[setup.precision] * setup.head_tokens_per_step * shape.vocab_rows


def fused_loss_bytes(shape: ModelShape, setup: TrainingSetup) -> int:
    """Bytes of a loss that computes logits in chunks of tokens: b_logit c V + b_input T h + 4 T.

    One chunk of c tokens is alive, turned into its own gradient in place; the gradient of the head's input (T, h) and
    one loss a token are kept. c = min(T, next power of two of ceil(T / ceil(V / h))), so that a chunk holds about as
    much as the head's input. A trained head's gradient is counted with the gradients.

    Source: Liger Kernel, fused_linear_cross_entropy.py (Hsu et al. 2024, https://arxiv.org/abs/2410.10989).
    """
    tokens, rows = setup.head_tokens_per_step, shape.vocab_rows
    width = shape.head_linear_weights // rows
    chunks = -(-rows // width)
    chunk = min(tokens, 1 << (-(-tokens // chunks) - 1).bit_length())
    logits = _LOGIT_BYTES[setup.precision] * chunk * rows
    return logits + (_HEAD_INPUT_BYTES[setup.precision] * width + _LOSS_BYTES) * tokens


def chunk_tokens(vocab_rows: int) -> int:
    """Tokens of one chunk of a chunked loss: as many as CHUNK_BYTES hold in float32, at least one."""
    return max(1, CHUNK_BYTES // (BYTES_PER_LOGIT["float32"] * vocab_rows))


def chunked_loss_bytes(shape: ModelShape, setup: TrainingSetup) -> int:
    """Bytes of a loss that computes the logits of a few target tokens at a time: 16 (float32) or 14 c V + b_input T h.

    One chunk of c tokens is alive, with its log-softmax and gradients; the gradient of what the head reads of the T
    target tokens (T, h) is kept. A trained head's gradient is counted with the gradients; a chunk's own share of it,
    which is there beside it, is not counted.
    """
    tokens, rows = setup.head_tokens_per_step, shape.vocab_rows
    logits = BYTES_PER_LOGIT[setup.precision] * min(tokens, chunk_tokens(rows)) * rows
    return logits + _HEAD_INPUT_BYTES[setup.precision] * (shape.head_linear_weights // rows) * tokens
