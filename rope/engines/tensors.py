"""Which tensors has a model of each type, and of which shapes by its config?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from .reader import Config
from .transformers import HEAD_DIM

Shape = tuple[int, ...]
Wanted = tuple[int | None, ...]
"a shape by the config; None where it does not say"
Named = Mapping[str, tuple[str, ...]]
"modules of a layer, and what their weight's sizes are called in `_sizes`"
EMBEDDING, NORM, HEAD = "embed_tokens.weight", "norm.weight", "lm_head.weight"

_QKV: Named = {
    "self_attn.q_proj": ("queries", "width"),
    "self_attn.k_proj": ("keys", "width"),
    "self_attn.v_proj": ("keys", "width"),
}
_OUT: Named = {"self_attn.o_proj": ("width", "queries")}
_FUSED_QKV: Named = {"self_attn.qkv_proj": ("queries, keys, values", "width")}
_DOWN: Named = {"mlp.down_proj": ("width", "inner")}
_MLP: Named = {"mlp.gate_proj": ("inner", "width"), "mlp.up_proj": ("inner", "width"), **_DOWN}
_FUSED_MLP: Named = {"mlp.gate_up_proj": ("gate, up", "width"), **_DOWN}
_NORMS: Named = {"input_layernorm": ("width",), "post_attention_layernorm": ("width",)}
_MORE_NORMS: Named = {"pre_feedforward_layernorm": ("width",), "post_feedforward_layernorm": ("width",)}
_HEAD_NORMS: Named = {"self_attn.q_norm": ("head",), "self_attn.k_norm": ("head",)}
_PLAIN: Named = {**_QKV, **_OUT, **_MLP, **_NORMS}
LAYER: Mapping[str, Named] = {
    "llama": _PLAIN,
    "mistral": _PLAIN,
    "qwen2": _PLAIN,
    "qwen3": {**_PLAIN, **_HEAD_NORMS},
    "phi3": {**_FUSED_QKV, **_OUT, **_FUSED_MLP, **_NORMS},
    "gemma3_text": {**_PLAIN, **_HEAD_NORMS, **_MORE_NORMS},
}
"what each layer holds, by model type"
_ASKED: Mapping[str, Named] = {"attention_bias": {**_QKV, **_OUT}}
BIASED: Mapping[str, Mapping[str, Named]] = {
    "llama": {**_ASKED, "mlp_bias": _MLP},
    "qwen3": _ASKED,
    "gemma3_text": _ASKED,
}
"what has biases too, by model type and the key of the config that turns them on"
ALWAYS_BIASED: Mapping[str, Named] = {"qwen2": _QKV}


def wanted_tensors(config: Config, layers: Iterable[int]) -> Iterator[tuple[str, Wanted]]:
    """Yield the tensors of a model with these layers, and their shapes."""
    sizes, model_type = _sizes(config), config["model_type"]
    yield EMBEDDING, (sizes["vocabulary"], sizes["width"])
    yield NORM, (sizes["width"],)
    yield HEAD, (sizes["vocabulary"], sizes["width"])
    biased = dict(ALWAYS_BIASED.get(model_type, {}))
    for key, named in BIASED.get(model_type, {}).items():
        biased |= named if config.get(key) else {}
    held = {f"{name}.weight": called for name, called in LAYER[model_type].items()}
    held |= {f"{name}.bias": called[:1] for name, called in biased.items()}
    for layer in layers:
        for name, called in held.items():
            yield f"layers.{layer}.{name}", tuple(sizes[one] for one in called)


def tied(config: Config) -> bool:
    """Say whether the head is the embedding, and need not be there."""
    return bool(config.get("tie_word_embeddings", config["model_type"] == "gemma3_text"))


def _sizes(config: Config) -> dict[str, int | None]:
    """Return the sizes that shapes are made of, None where the config leaves one to its class."""
    model_type, width = config["model_type"], config.get("hidden_size")
    heads, kv_heads = config.get("num_attention_heads"), config.get("num_key_value_heads")
    if kv_heads is None and model_type in ("llama", "phi3"):
        kv_heads = heads
    head = config.get("head_dim") or HEAD_DIM.get(model_type) or (width // heads if width and heads else None)
    inner = config.get("intermediate_size")
    return {
        "vocabulary": config.get("vocab_size"),
        "width": width,
        "head": head,
        "queries": heads * head if heads and head else None,
        "keys": kv_heads * head if kv_heads and head else None,
        "queries, keys, values": (heads + 2 * kv_heads) * head if heads and kv_heads and head else None,
        "inner": inner,
        "gate, up": 2 * inner if inner else None,
    }
