"""What semfreeze finds, proves and prices of every family its tests know, against torch's own counts.

    python -m tests.benchmarks.family_table [--only llama falcon-new]

Builds each of the tests' tiny random models on the CPU in the setups that the page names, and writes families.md
beside this file, whole or not at all; about twelve minutes on one core. With --only it prints those rows instead.
"""

import argparse
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from torch import nn
from transformers import BertConfig, JambaConfig, MambaConfig, Qwen3NextConfig, T5Config

from semfreeze_core.errors import ModelError
from semfreeze_core.sources.models.causal_lm import measure_empty
from semfreeze_core.sources.models.decoder import Decoder, find_decoder
from semfreeze_core.storage import write_atomically
from tests.benchmarks.family_errors import (
    CHECKPOINTING,
    LONG,
    LORA,
    N_LAYERS,
    STEP,
    byte_errors,
    flop_errors,
    saved_config,
)
from tests.core.sources.models.random_models import LLAMA_LIKE, SIZES, unsettled
from tests.core.tiny_models import TIED_BY_DEFAULT, VARIANTS, build_tiny

TABLE = Path(__file__).with_name("families.md")
WITHOUT_HEADS = {name: size for name, size in LLAMA_LIKE.items() if "heads" not in name}
REFUSED = {
    "state-space": MambaConfig(**WITHOUT_HEADS, state_size=4),
    "state-space hybrid": JambaConfig(
        **LLAMA_LIKE, attn_layer_period=2, attn_layer_offset=1, use_mamba_kernels=False, mamba_d_state=4
    ),
    "linear-attention hybrid": Qwen3NextConfig(**LLAMA_LIKE, head_dim=8),
    "encoder-decoder": T5Config(d_model=32, num_layers=2),
    "encoder": BertConfig(**SIZES, intermediate_size=48),
}

HEADINGS = (
    "family",
    "parameters",
    "layers at",
    "front modules",
    "final norm",
    "head",
    "proof error, float32 / bf16",
    "FLOP error, exact",
    "FLOP error, upper bound",
    "saved bytes",
    "byte error, float32 and bf16",
    "byte error, autocast",
)
_STEP = f"{STEP.batch_size} x {STEP.sequence_length} tokens"
_LONG = f"{LONG.batch_size} x {LONG.sequence_length} tokens"
COLUMNS_TOLD = f"""\
Each row is a random model of {N_LAYERS} layers and width 32, built by transformers from the family's own config class
(what stands after a dash is a way to build it). An error is (semfreeze's figure - torch's count) / torch's count, the
one farthest from 0; a plain 0 means that every figure was equal to the unit. In brackets: how many setups were counted.

- **parameters**: elements of all parameters, a shared one once, with the head tied as the family has it by default.
- **layers at, front modules, final norm, head**: what was found by structure: the layers' prefix, modules with
  parameters of their own that run before layer 0, what stands between the last layer and the head, and whether the
  head shares the embedding's weight by default.
- **proof error**: largest difference between head(final norm(last layer's output)) and the model's own logits, over
  the logits' spread; the worse of tied and untied, with norms and biases away from their starting values.
- **FLOP error**: of a whole training step (forward and backward pass, {_STEP}) under eager attention against
  torch.utils.flop_counter, priced from the config alone. Setups: freeze depths 0 to {N_LAYERS} x embeddings trained
  or not x head trained or not x full or LoRA (rank {LORA.rank}, all linear matrices) x checkpointing
  ({", ".join(CHECKPOINTING)}), untied; and the same tied, where embeddings and head are
  trained together. Where semfreeze says that a figure is an upper bound (computing a layer again stops early, and it
  is not known where), the least and the largest error stand in a column of their own.
- **saved bytes**: "formula" where semfreeze has one for the layers, else "calibrated": counted on fake tensors of 16,
  32 and 64 tokens from the config alone, as `semfreeze cost --calibrate` does.
- **byte error**: of what one more layer keeps for the backward pass, copies of weights that autocast makes included
  ({_LONG}, untied), against saved-tensor hooks on the real model, with the attention and the experts that
  transformers gives it by default. Setups: layer 5 and layer 6 x trained or only traversed by a gradient (with a
  formula: or adapted by LoRA) x precision.
"""
NONZERO_TOLD = """\
Why some figures are not 0:

- Upper bounds of FLOP: under non-reentrant checkpointing (transformers 5 has it by default) torch computes a layer
  again only up to the last tensor that the backward pass needs. Where that is, semfreeze knows of the layers with a
  formula; of the others it counts all. "0 to 0" is a bound that was met everywhere.
- Byte errors of less than 0.1 %, all below 0: calibration leaves out what does not grow with the tokens, such as
  1 + weight of each of Gemma's norms, a float32 copy of DeepSeek's router, where each expert's rows end, and the
  random state of an attention kernel.
- Proof errors in bfloat16: Gemma 2 caps its logits, and semfreeze computes the cap in float32.

Not in the table: what adapters keep in layers without a formula is not known, so memory with LoRA stays unknown there.
"""


class Row(NamedTuple):
    cells: tuple[str, ...]
    setups: int


def row_of(variant: str) -> Row:
    """Everything about one family; the number of setups counted goes with it."""
    decoder, parameters = _decoder(variant, TIED_BY_DEFAULT[variant], torch.float32)
    exact, bound = flop_errors(variant)
    kind, plain, autocast = byte_errors(variant)
    proofs = [
        max(_decoder(variant, tied, dtype)[0].logits_error for tied in (False, True))
        for dtype in (torch.float32, torch.bfloat16)
    ]
    named = {module: name for name, module in decoder.model.named_modules()}
    cells = (
        variant,
        f"{parameters:,}",
        f"`{decoder.names.layer_prefix}*`",
        _code(named[module] for module in decoder.front),
        _final_norm(decoder, named),
        f"`{named[decoder.head]}`, {'tied' if decoder.tied else 'untied'}, {_bias(decoder.head)}",
        " / ".join(f"{error:.1g}" for error in proofs),
        str(exact),
        bound.span,
        kind,
        str(plain),
        str(autocast),
    )
    return Row(cells, sum(len(errors.shares) for errors in (exact, bound, plain, autocast)))


def _decoder(variant: str, tied: bool, dtype: torch.dtype) -> tuple[Decoder, int]:
    model = unsettled(build_tiny(variant, n_layers=N_LAYERS, tied=tied)).to(dtype)
    return find_decoder(model), sum(parameter.numel() for parameter in model.parameters())


def _final_norm(decoder: Decoder, named: dict[nn.Module, str]) -> str:
    steps = list(decoder.final_norm) if isinstance(decoder.final_norm, nn.Sequential) else [decoder.final_norm]
    return " then ".join(f"`{named[step]}` ({type(step).__name__}, {_bias(step)})" for step in steps)


def _bias(module: nn.Module) -> str:
    return "no bias" if getattr(module, "bias", None) is None else "bias"


def refusal(config: Any) -> str:
    """What the tool says to a config it refuses."""
    with saved_config(config) as checkpoint:
        try:
            measure_empty(checkpoint)
        except ModelError as error:
            return str(error).replace(checkpoint.source, config.model_type)
    raise AssertionError(f"{config.model_type} is not refused any more: give it a row of its own")


def document(rows: Iterable[Row]) -> str:
    """The Markdown page."""
    rows = list(rows)
    refused = [(f"{config.model_type} ({what})", refusal(config)) for what, config in REFUSED.items()]
    return "\n".join(
        [
            "# Families: what is found, proved and priced",
            "",
            f"Made by `python -m tests.benchmarks.family_table` with torch {torch.__version__} and transformers "
            f"{transformers.__version__} on a CPU; {sum(row.setups for row in rows):,} setups in all.",
            "",
            COLUMNS_TOLD,
            *_table((*HEADINGS, "setups"), [(*row.cells, f"{row.setups:,}") for row in rows]),
            "",
            NONZERO_TOLD,
            "## Refused by name",
            "",
            "What `semfreeze cost --model` and `semfreeze analyze` say, before any weights are read:",
            "",
            *_table(("model", "reason"), refused),
            "",
        ]
    )


def _table(headings: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (headings, ["---"] * len(headings), *rows)]


def _code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=VARIANTS, metavar="FAMILY", help="Print these rows alone.")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    warnings.filterwarnings("ignore", "None of the inputs have requires_grad")  # frozen layers, checkpointed
    if chosen.only:
        print("\n".join(_table((*HEADINGS, "setups"), [(*r.cells, str(r.setups)) for r in map(row_of, chosen.only)])))
        return
    write_atomically(TABLE, document(map(row_of, VARIANTS)))


if __name__ == "__main__":
    main()
