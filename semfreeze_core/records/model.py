"""What cost arithmetic and plans need to know of a model, counted from its real modules."""

from dataclasses import dataclass
from typing import Literal

LayerKind = Literal["gated-rmsnorm", "mlp-layernorm", "parallel-layernorm", "other"]


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a decoder-only model with L equal layers.

    Counted from the model's modules (torch's `meta` device will do), never from a formula; the attention widths
    come from the config, because fused projections hide them.

    Attributes:
        n_layers: L.
        d_model: width of the hidden state (d).
        vocab_rows: rows of the head matrix, padded rows included (V).
        tied: whether head and input embedding are one parameter.
        n_heads: query heads (H).
        n_kv_heads: key/value heads.
        head_dim: width of one head; q = n_heads * head_dim, kv = n_kv_heads * head_dim.
        mlp_width: hidden width of the MLP (f).
        layer_kind: which saved-activation formula holds; "other" means none is known.
        layer_linear_weights: elements of the weight matrices multiplied in each layer (W), length L.
        layer_parameters: all parameters of each layer, length L.
        embedding_parameters: token and position embeddings and what else sits in front of layer 0.
        final_norm_parameters: parameters between the last layer and the head.
        head_parameters: parameters of the head that are not shared with the embedding (0 or a bias when tied).
        head_linear_weights: elements of the matrix the head multiplies by (V * d), tied or not.
        max_positions: longest sequence the config allows, or None when it states no limit.
    """

    n_layers: int
    d_model: int
    vocab_rows: int
    tied: bool
    n_heads: int
    n_kv_heads: int
    head_dim: int
    mlp_width: int
    layer_kind: LayerKind
    layer_linear_weights: tuple[int, ...]
    layer_parameters: tuple[int, ...]
    embedding_parameters: int
    final_norm_parameters: int
    head_parameters: int
    head_linear_weights: int
    max_positions: int | None

    def __post_init__(self) -> None:
        for name in ("layer_linear_weights", "layer_parameters"):
            if len(getattr(self, name)) != self.n_layers:
                raise ValueError(f"{name} has {len(getattr(self, name))} entries, expected n_layers={self.n_layers}")
        for name in ("n_layers", "d_model", "vocab_rows", "n_heads", "n_kv_heads", "head_dim", "mlp_width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, found {getattr(self, name)}")

    @property
    def total_parameters(self) -> int:
        """Every parameter once; a tied head is counted with the embedding."""
        return (
            sum(self.layer_parameters) + self.embedding_parameters + self.final_norm_parameters + self.head_parameters
        )


@dataclass(frozen=True)
class ParameterNames:
    """Where each part's parameters live in `model.named_parameters()`.

    Attributes:
        layer_prefix: what stands before a layer's number, with its dot ("model.layers.").
        embeddings: full parameter names in front of layer 0.
        final_norm: full parameter names between the last layer and the head.
        head: full parameter names of the head that are not shared with the embedding.
    """

    layer_prefix: str
    embeddings: tuple[str, ...]
    final_norm: tuple[str, ...]
    head: tuple[str, ...]


@dataclass(frozen=True)
class ModelIdentity:
    """Which model was read: enough to refuse another one.

    Attributes:
        source: what the user asked for ("embedded", a hub id, a folder, a GGUF file).
        revision: resolved commit of a hub model, else None.
        family: the config's model_type.
        architecture: the class transformers built.
        structure_digest: sha256 over parameter names and shapes.
        weights_digest: sha256 over the same plus a strided sample of every parameter, rounded to bfloat16 (so that a
            float32 and a bfloat16 load of one checkpoint agree).
    """

    source: str
    revision: str | None
    family: str
    architecture: str
    structure_digest: str
    weights_digest: str
