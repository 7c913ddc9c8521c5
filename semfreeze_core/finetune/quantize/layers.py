"""bitsandbytes' linear layers, computing alike in training, cache pass and evaluation. Imports bitsandbytes.

On a CPU bitsandbytes' own do not. In 4 bits a call in eval mode repacks the weights, without a gradient, where the
processor multiplies bfloat16 by AVX-512; in 8 bits training keeps the activations and evaluation rounds them to 8 bits.
Both also cast their biases permanently. PEFT knows them by the classes they come from.
"""

import bitsandbytes
import torch
from bitsandbytes.nn import Int8Params, Linear4bit, Linear8bitLt, Params4bit
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from semfreeze_core.finetune.quantize.weights import BLOCK
from semfreeze_core.records.training import FrozenBits

# LLM.int8's own, and what transformers loads 8-bit models with: on a GPU, columns of activations with a value above it
# are multiplied in 16 bits. Source: Dettmers et al. 2022, section 3.2 (https://arxiv.org/abs/2208.07339).
OUTLIER_THRESHOLD = 6.0


class FourBitLinear(Linear4bit):  # type: ignore[misc]
    """NF4 in blocks of 64, scales in float32."""

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(self.compute_dtype)
        weight = self.weight.t()  # releases before 0.50 need the codes transposed, later ones take them either way
        product: Tensor = bitsandbytes.matmul_4bit(
            x.to(self.compute_dtype), weight, bias=bias, quant_state=self.weight.quant_state
        )
        return product.to(x.dtype)


class EightBitLinear(Linear8bitLt):  # type: ignore[misc]
    """LLM.int8: a scale for each row; on a CPU the weights alone are rounded, on a GPU the activations too."""

    def forward(self, x: Tensor) -> Tensor:
        self.state.is_training = True
        bias = None if self.bias is None else self.bias.to(x.dtype)
        product: Tensor = bitsandbytes.matmul(x, self.weight, bias=bias, state=self.state)
        return product


def quantized(
    linear: nn.Linear | Conv1D, bits: FrozenBits, compute_dtype: torch.dtype, device: torch.device
) -> nn.Module:
    """A linear layer in 8 or 4 bits on a device, quantized from its weights; its bias is the same parameter.

    Args:
        linear: on the CPU, from which only its matrix moves to the device, to be rounded.
        bits: 8 or 4.
        compute_dtype: of the products in 4 bits; in 8 bits they follow the input.
        device: where it is to compute.
    """
    weight = linear.weight.data.t() if isinstance(linear, Conv1D) else linear.weight.data
    outputs, inputs = weight.shape
    layer: FourBitLinear | EightBitLinear
    with torch.device("meta"):  # draws no random weights
        if bits == 4:
            layer = FourBitLinear(inputs, outputs, linear.bias is not None, compute_dtype)
        else:
            layer = EightBitLinear(
                inputs, outputs, linear.bias is not None, has_fp16_weights=False, threshold=OUTLIER_THRESHOLD
            )
    if bits == 4:
        layer.weight = Params4bit(
            weight, requires_grad=False, blocksize=BLOCK, compress_statistics=False, quant_type="nf4", module=layer
        )
    else:
        layer.weight = Int8Params(weight, requires_grad=False, has_fp16_weights=False)
    layer.bias = linear.bias
    layer.source_cls = type(linear)  # as transformers notes it
    layer.train(linear.training)
    layer.to(device)
    if isinstance(layer, EightBitLinear):
        layer.init_8bit_state()  # else its first call does, and until then its codes are not on the device
    return layer
