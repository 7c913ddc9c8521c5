"""The regular expression of a plan: written from a model's parameter names, and read back into them."""

import re
from dataclasses import dataclass

from semfreeze_core.records.model import ParameterNames
from semfreeze_core.records.training import TrainableParts

# What PEFT puts before a model's own names when it wraps the model.
_PEFT_PREFIX = r"(?:base_model\.model\.)?"
# As trainable_regex writes them: what PEFT puts in front, the layers' prefix, their numbers, the adapters' own names.
_LAYERS = re.compile(
    r"(?:\(\?:base_model\\\.model\\\.\)\?)?(?P<prefix>(?:\w|\\.)*)\(\?:(?P<numbers>[\d|]+)\)\\\."
    r"(?:\.\*\\\.lora_\[AB\]\\\.)?(?:\||$)"
)
_EMBEDDINGS, _HEADS, _NORMS = ("embed", "wte", "wpe"), ("lm_head", "embed_out"), ("norm", "ln_f")


def trainable_regex(names: ParameterNames, parts: TrainableParts, *, lora: bool = False) -> str:
    """A regular expression that matches, from the start, exactly the names of the parameters to be trained.

    With `lora` they are the adapters' own on the trained layers, as PEFT names them, wrapped or injected.
    """
    alternatives = []
    before, behind = (_PEFT_PREFIX, r".*\.lora_[AB]\.") if lora else ("", "")
    trained = [str(i) for i, flag in enumerate(parts.layers) if flag]
    if trained:
        alternatives.append(rf"{before}{re.escape(names.layer_prefix)}(?:{'|'.join(trained)})\.{behind}")
    chosen = ((parts.embeddings, names.embeddings), (parts.final_norm, names.final_norm), (parts.head, names.head))
    for wanted, full_names in chosen:
        if wanted:
            alternatives += [f"{before}{re.escape(name)}$" for name in full_names]
    return "|".join(alternatives) or r"(?!)"


@dataclass(frozen=True)
class RegexNames:
    """What a plan's regular expression names.

    Attributes:
        layers: numbers of the layers, ascending.
        layer_prefix: what stands before a layer's number ("model.layers."); empty when no layer is named.
        others: full names of parameters outside the layers.
    """

    layers: tuple[int, ...]
    layer_prefix: str
    others: tuple[str, ...]

    @property
    def embeddings(self) -> tuple[str, ...]:
        """The `others` that are embeddings by their name, as in every known family."""
        return tuple(n for n in self.others if n not in self.head and any(part in n for part in _EMBEDDINGS))

    @property
    def head(self) -> tuple[str, ...]:
        """The `others` that are a head by their name."""
        return tuple(n for n in self.others if any(part in n for part in _HEADS))

    @property
    def final_norm(self) -> tuple[str, ...]:
        """The `others` that are a norm after the layers by their name."""
        known = (*self.embeddings, *self.head)
        return tuple(n for n in self.others if n not in known and any(part in n for part in _NORMS))

    @property
    def unknown(self) -> tuple[str, ...]:
        """The `others` whose name does not show which part they are of."""
        known = (*self.embeddings, *self.head, *self.final_norm)
        return tuple(n for n in self.others if n not in known)


def read_regex(regex: str, *, lora: bool) -> RegexNames | None:
    """The names in an expression that `trainable_regex` wrote; None for any other expression.

    It is never matched against names to find out, as one that somebody else wrote may take forever.
    """
    match = _LAYERS.match(regex)
    layers = tuple(int(number) for number in match["numbers"].split("|") if number) if match else ()
    prefix = _unescaped(match["prefix"]) if match else ""
    rest = regex[match.end() :] if match else "" if regex == "(?!)" else regex
    before = _PEFT_PREFIX if lora else ""
    others = tuple(_unescaped(name.removeprefix(before).removesuffix("$")) for name in rest.split("|") if name)
    flags = TrainableParts(tuple(i in layers for i in range(max(layers, default=0) + 1)), False, bool(others), False)
    if trainable_regex(ParameterNames(prefix, (), others, ()), flags, lora=lora) != regex:
        return None
    return RegexNames(layers, prefix, others)


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)
