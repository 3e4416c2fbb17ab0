"""How large is a model? Its widths and parameters, from its config alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...rope.families import FULL, SLIDING, check_supported, completed, heads, whole

VOCABULARY = {"gemma3_text": 262208}
"""What a config class says where published configs, such as Gemma-3-4B's, leave it out."""
TIED = ("gemma3_text",)
"""Model types whose head is the embedding where the config does not say."""
PATTERN = 6
"""Of Gemma 3's layers one in so many sees the whole window."""
HEAD_NORMS = ("qwen3", "gemma3_text")
"""Model types that normalise each query and key."""
SANDWICHED = ("gemma3_text",)
"""Model types that normalise what attention and MLP give, too, and do so in float32."""

FUSED = ("phi3",)
"""Model types that make queries, keys and values by one matrix."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What memory and cost are computed from: the widths of a decoder with gated MLPs."""

    model_type: str
    layers: int
    hidden: int
    intermediate: int
    query_heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool = False
    """The head is the embedding."""
    attention_biases: int = 0
    """Elements of one layer's."""
    mlp_biases: int = 0
    windows: tuple[int | None, ...] = ()
    """Sliding window of each layer, tokens; None sees everything before. Empty: all see everything."""

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Shape:
        """Read a config in Hugging Face's words; what is not handled or not stated is a RopeError."""
        fields = completed(config)
        check_supported(fields)
        kind = str(fields["model_type"])
        query_heads, kv_heads, head_dim = heads(fields)
        hidden, intermediate = whole(fields, "hidden_size"), whole(fields, "intermediate_size")
        if kind in VOCABULARY:
            fields = {"vocab_size": VOCABULARY[kind], **fields}
        inner = (query_heads + 2 * kv_heads) * head_dim
        biased = kind in ("llama", "qwen3", "gemma3_text") and bool(fields.get("attention_bias"))
        return cls(
            model_type=kind,
            layers=whole(fields, "num_hidden_layers"),
            hidden=hidden,
            intermediate=intermediate,
            query_heads=query_heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            vocabulary=whole(fields, "vocab_size"),
            tied=bool(fields.get("tie_word_embeddings", kind in TIED)),
            attention_biases=inner + hidden if biased else inner if kind == "qwen2" else 0,
            mlp_biases=2 * intermediate + hidden if kind == "llama" and fields.get("mlp_bias") else 0,
            windows=_windows(fields) if kind in SANDWICHED else (),
        )

    @property
    def query_width(self) -> int:
        """Elements of a token's queries in one layer."""
        return self.query_heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Elements of a token's keys in one layer, which are as many as its values'."""
        return self.kv_heads * self.head_dim

    @property
    def norms(self) -> int:
        """Norms of one layer over the hidden width."""
        return 4 if self.model_type in SANDWICHED else 2

    @property
    def layer_windows(self) -> tuple[int | None, ...]:
        """Give the sliding window of each layer."""
        return self.windows or (None,) * self.layers

    @property
    def vectors(self) -> int:
        """Count the parameters of norms and biases, which ZeRO 3 leaves whole on every rank."""
        head_norms = 2 * self.head_dim if self.model_type in HEAD_NORMS else 0
        one = self.norms * self.hidden + head_norms + self.attention_biases + self.mlp_biases
        return self.layers * one + self.hidden

    @property
    def layer_matrices(self) -> int:
        """Count the weights of one layer's matrices."""
        attention = 2 * self.hidden * (self.query_width + self.kv_width)
        return attention + 3 * self.hidden * self.intermediate

    @property
    def embedding(self) -> int:
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        """Count all parameters, a tied head once."""
        return self.layers * self.layer_matrices + self.vectors + self.embedding * (1 if self.tied else 2)

    @property
    def decoder(self) -> int:
        """Count the parameters that a pass without the head multiplies: neither embedding nor head."""
        return self.layers * self.layer_matrices + self.vectors


def _windows(fields: Mapping[str, Any]) -> tuple[int | None, ...]:
    layers, window = whole(fields, "num_hidden_layers"), fields.get("sliding_window", 4096)
    pattern = fields.get("sliding_window_pattern", PATTERN)
    kinds = fields.get("layer_types") or [
        SLIDING if (index + 1) % pattern else FULL for index in range(layers)
    ]
    return tuple(window if kind == SLIDING else None for kind in kinds)
