"""What cost arithmetic and plans need to know of a model, counted from its real modules."""

from dataclasses import dataclass
from typing import Literal

LayerKind = Literal["gated-rmsnorm", "gated-rmsnorm-qk", "mlp-layernorm", "parallel-layernorm", "other"]


@dataclass(frozen=True)
class Matrix:
    """One weight matrix that a layer multiplies by, or a stack of experts' matrices.

    Attributes:
        name: its module's path inside the layer ("self_attn.q_proj").
        inputs: width of what it is multiplied with.
        outputs: width of what comes out.
        copies: matrices in the stack; 1 for a plain one.
        active: how many of them meet one token; 1 for a plain one, the router's top k for experts.
    """

    name: str
    inputs: int
    outputs: int
    copies: int = 1
    active: int = 1

    @property
    def parameters(self) -> int:
        """Elements of all copies, biases left out."""
        return self.inputs * self.outputs * self.copies

    @property
    def weights_per_token(self) -> int:
        """Elements that one token is multiplied with."""
        return self.inputs * self.outputs * self.active


@dataclass(frozen=True)
class LayerShape:
    """Sizes of one layer; a model has few different ones.

    Attributes:
        parameters: all of the layer's parameters.
        matrices: what it multiplies by, in the order of the module's definition.
        n_heads: query heads (H).
        n_kv_heads: key/value heads.
        head_dim: width of one head; q = n_heads * head_dim, kv = n_kv_heads * head_dim.
        mlp_width: hidden width of the MLP (f).
        kind: which saved-activation formula holds; "other" means none is known.
    """

    parameters: int
    matrices: tuple[Matrix, ...]
    n_heads: int
    n_kv_heads: int
    head_dim: int
    mlp_width: int
    kind: LayerKind

    def __post_init__(self) -> None:
        for name in ("n_heads", "n_kv_heads", "head_dim", "mlp_width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, found {getattr(self, name)}")

    @property
    def linear_weights(self) -> int:
        """Elements of the weight matrices that one token is multiplied with (W)."""
        return sum(matrix.weights_per_token for matrix in self.matrices)


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a decoder-only model with L layers.

    Counted from the model's modules (torch's `meta` device will do), never from a formula; the attention widths
    come from the config, because fused projections hide them.

    Attributes:
        d_model: width of the hidden state (d).
        vocab_rows: rows of the head matrix, padded rows included (V).
        tied: whether head and input embedding are one parameter.
        layer_shapes: the different layers there are, in order of first appearance.
        layer_index: which of them each layer is, length L.
        embedding_parameters: token and position embeddings and what else sits in front of layer 0.
        embedding_linear_weights: elements of matrices multiplied between the embedding and layer 0 (usually 0).
        final_norm_parameters: parameters between the last layer and the head.
        final_linear_weights: elements of matrices multiplied between the last layer and the head (usually 0).
        head_parameters: parameters of the head that are not shared with the embedding (0 or a bias when tied).
        head_linear_weights: elements of the matrix the head multiplies by (V * d), tied or not.
        max_positions: longest sequence the config allows, or None when it states no limit.
        stored_in_bfloat16: whether the checkpoint says that its weights are stored in bfloat16, which then holds every
            value of its matrices.
    """

    d_model: int
    vocab_rows: int
    tied: bool
    layer_shapes: tuple[LayerShape, ...]
    layer_index: tuple[int, ...]
    embedding_parameters: int
    final_norm_parameters: int
    head_parameters: int
    head_linear_weights: int
    max_positions: int | None
    embedding_linear_weights: int = 0
    final_linear_weights: int = 0
    stored_in_bfloat16: bool = False

    def __post_init__(self) -> None:
        for name in ("d_model", "vocab_rows", "n_layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, found {getattr(self, name)}")
        if set(self.layer_index) != set(range(len(self.layer_shapes))):
            raise ValueError(f"layer_index must name each of the {len(self.layer_shapes)} layer_shapes, found {self}")

    @property
    def n_layers(self) -> int:
        """L."""
        return len(self.layer_index)

    @property
    def layers(self) -> tuple[LayerShape, ...]:
        """The shape of each layer, input side first, length L."""
        return tuple(self.layer_shapes[i] for i in self.layer_index)

    @property
    def total_parameters(self) -> int:
        """Every parameter once; a tied head is counted with the embedding."""
        layers = sum(layer.parameters for layer in self.layers)
        return layers + self.embedding_parameters + self.final_norm_parameters + self.head_parameters


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
        weights_digest: a fingerprint, sha256 over the same plus a strided sample of every parameter, rounded to
            bfloat16 (so that a float32 and a bfloat16 load of one checkpoint agree).
    """

    source: str
    revision: str | None
    family: str
    architecture: str
    structure_digest: str
    weights_digest: str
