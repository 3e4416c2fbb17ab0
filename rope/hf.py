"""How does Hugging Face write down a model's rope? Read every layout of it, write the one all versions read.

Transformers 4 has `rope_theta` and `rope_scaling`, transformers 5 has `rope_parameters` with both inside, and
the older silently falls back to theta 10000 on the newer's files. So we read both, refuse where they differ
or say nothing, and write both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .base import Base, RopeError
from .scheme import SCHEMES, Scheme

SUPPORTED = ("llama", "mistral", "qwen2", "qwen3")
DEFAULT_THETA = {"llama": 10000.0}
"theta of configs written before `rope_theta` existed; only Llama's are that old"
DEFAULT_WINDOW = {"mistral": 4096}
"sliding window that transformers gives a config without one, unless `use_sliding_window` decides"

_REASONS = {
    "soft-caps its attention scores, which our attention does not": ("gemma2",),
    "uses latent attention, whose rotary part is a separate key": ("deepseek_v2", "deepseek_v3", "minicpm3"),
    "has layers that are no attention": (
        *("bamba", "falcon_h1", "falcon_mamba", "granitemoehybrid", "jamba", "kimi_linear", "lfm2", "mamba"),
        *("mamba2", "minimax", "nemotron_h", "qwen3_next", "recurrent_gemma", "rwkv", "zamba", "zamba2"),
    ),
    "has no rotary position encoding": ("bert", "bloom", "gpt2", "gpt_bigcode", "gpt_neo", "mpt", "opt"),
}
REFUSED = {model_type: reason for reason, names in _REASONS.items() for model_type in names}
_COMMON = {"rope_type", "type", "rope_theta", "partial_rotary_factor", "original_max_position_embeddings"}


def read_base(
    config: Any, *, original_length: int | None = None, trained_length: int | None = None
) -> dict[str, Base]:
    """Return the `Base` of each layer type of a config object or of its dict, refusing to guess.

    `original_length` and `trained_length` (tokens) override what the config says. Raises RopeError for a
    model we do not support, for a missing theta and for layouts that contradict each other.
    """
    fields = dict(config) if isinstance(config, Mapping) else config.to_dict()
    _check_supported(fields)
    parameters = _parameters(fields)
    heads, kv_heads, head_dim = _heads(fields)
    share = parameters.get("partial_rotary_factor")
    trained = _whole(fields, "max_position_embeddings") if trained_length is None else trained_length
    original = _original_length(fields, parameters, original_length)
    base = Base(
        head_dim=head_dim,
        rotary_dim=head_dim if share is None else int(head_dim * share),
        theta=float(parameters["rope_theta"]),
        original_length=original,
        trained_length=trained,
        query_heads=heads,
        kv_heads=kv_heads,
        current=_current(parameters, original, trained),
    )
    return {"full_attention": base}


def config_fields(
    config: Mapping[str, Any], base: Base, scheme: Scheme, *, target_length: int
) -> dict[str, Any]:
    """Return the config dict with this scheme in both layouts, read alike by transformers 4.57 and 5."""
    parameters = scheme.to_hf(base, target_length=target_length)
    elsewhere = ("rope_theta", "partial_rotary_factor")
    scaling = {key: value for key, value in parameters.items() if key not in elsewhere}
    kind = scaling["rope_type"]
    # Readers let a top-level original length win over the scheme's own.
    kept = {key: value for key, value in config.items() if key != "original_max_position_embeddings"}
    kept["rope_parameters"] = parameters
    kept["rope_theta"] = parameters["rope_theta"]
    kept["rope_scaling"] = None if kind == "default" else scaling | {"type": kind}
    kept["max_position_embeddings"] = scheme.hf_window(base, target_length=target_length)
    if "partial_rotary_factor" in parameters:
        kept["partial_rotary_factor"] = parameters["partial_rotary_factor"]
    return kept


def _check_supported(fields: Mapping[str, Any]) -> None:
    """Refuse, by name and reason, every model whose attention we would get wrong."""
    model_type = fields.get("model_type")
    if model_type not in SUPPORTED:
        reason = REFUSED.get(str(model_type), "is not supported yet")
        raise RopeError(
            f"config.model_type: must be one of {', '.join(SUPPORTED)}, got {model_type!r}, which {reason}; "
            "use a model of a supported type"
        )
    layers = set(fields.get("layer_types") or ()) - {"full_attention"}
    slides = fields.get("use_sliding_window", model_type in DEFAULT_WINDOW)
    window = fields.get("sliding_window", DEFAULT_WINDOW.get(str(model_type))) if slides else None
    if layers or window is not None:
        got = ", ".join(sorted(layers)) or f"sliding_window {window}"
        raise RopeError(
            f"config.layer_types: every layer of {model_type} must attend to the whole sequence, got {got}, "
            "which is not supported yet; set sliding_window to null if the model was trained without a window"
        )


def _heads(fields: Mapping[str, Any]) -> tuple[int, int, int]:
    """Return query heads, kv heads and head_dim, by each model type's own rule for what may be left out."""
    heads = _whole(fields, "num_attention_heads")
    old = fields["model_type"] == "llama" and fields.get("num_key_value_heads") is None
    kv_heads = heads if old else _whole(fields, "num_key_value_heads")
    # Transformers would take 128 for Qwen3 and the quotient elsewhere.
    stated = fields.get("head_dim") is not None or fields["model_type"] == "qwen3"
    head_dim = _whole(fields, "head_dim") if stated else _whole(fields, "hidden_size") // heads
    return heads, kv_heads, head_dim


def _parameters(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return one flat set of rope parameters from whichever layouts the config has."""
    new, old = _flat(fields.get("rope_parameters")), _flat(fields.get("rope_scaling"))
    top = {key: fields[key] for key in ("rope_theta", "partial_rotary_factor") if fields.get(key) is not None}
    merged: dict[str, Any] = {}
    # Transformers 5 objects show `rope_parameters` under both names, so equal values are no contradiction.
    for where, part in (("rope_parameters", new), ("rope_scaling", old), ("top level", top)):
        for key, value in part.items():
            if merged.setdefault(key, value) != value:
                raise RopeError(
                    f"config.{key}: must be the same in every layout, got {merged[key]} and, from {where}, "
                    f"{value}; delete the wrong one"
                )
    merged.setdefault("rope_type", "default")
    if merged.get("rope_theta") is None:
        merged["rope_theta"] = _default_theta(fields)
    return merged


def _flat(parameters: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return one layer type's parameters without empty values, the old key `type` renamed."""
    flat = dict(parameters or {})
    if "full_attention" in flat:
        others = sorted(set(flat) - {"full_attention"})
        if any(isinstance(flat[name], Mapping) for name in others):
            raise RopeError(
                f"config.rope_parameters: must be the same for every layer, got also {', '.join(others)}, "
                "which is not supported yet; use a model with one kind of layer"
            )
        flat = dict(flat["full_attention"] or {})
    old = flat.pop("type", None)
    if old is not None and flat.setdefault("rope_type", old) != old:
        raise RopeError(
            f"config.rope_type: must agree with its old name `type`, got {flat['rope_type']!r} and {old!r}; "
            "delete the wrong one"
        )
    return {key: value for key, value in flat.items() if value is not None}


def _default_theta(fields: Mapping[str, Any]) -> float:
    """Return the theta that configs without one are known to mean, or refuse."""
    model_type = fields["model_type"]
    if fields.get("rope_parameters") is None and model_type in DEFAULT_THETA:
        return DEFAULT_THETA[model_type]
    raise RopeError(
        f"config.rope_theta: must be stated for {model_type}, got none; add the base it was trained with "
        "(a config saved after `rope_scaling` was set has often lost it)"
    )


def _original_length(fields: Mapping[str, Any], parameters: Mapping[str, Any], override: int | None) -> int:
    """Return the window of the unscaled frequencies: the override, the scheme's own, or the model's."""
    name = "original_max_position_embeddings"
    stated = {value for value in (fields.get(name), parameters.get(name), override) if value is not None}
    if len(stated) > 1 and parameters["rope_type"] != "default":
        raise RopeError(
            f"config.{name}: must be one length for the {parameters['rope_type']} scheme of this model, "
            f"got {' and '.join(map(str, sorted(stated)))}; give the one it was scaled from"
        )
    if override is not None:
        return override
    return stated.pop() if stated else _whole(fields, "max_position_embeddings")


def _current(parameters: Mapping[str, Any], original: int, trained: int) -> Scheme:
    """Return the scheme that these parameters mean."""
    kinds = {cls.hf_type: cls for cls in SCHEMES.values() if cls.hf_type is not None}
    kind = parameters["rope_type"]
    if kind not in kinds:
        raise RopeError(
            f"config.rope_type: must be one of {', '.join(sorted(kinds))}, got {kind!r}; "
            "start from a checkpoint without it, other types are not supported yet"
        )
    unknown = sorted(set(parameters) - _COMMON - kinds[kind].hf_keys)
    if unknown:
        raise RopeError(
            f"config.rope_parameters: must hold only what the {kind} scheme reads, got {', '.join(unknown)}; "
            "remove these keys if they have no effect"
        )
    return kinds[kind].from_hf(parameters, original_length=original, trained_length=trained)


def _whole(fields: Mapping[str, Any], key: str) -> int:
    """Return a whole number that every config must state."""
    value = fields.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise RopeError(
            f"config.{key}: must be a whole number of at least 1, got {value!r}; complete the config"
        )
    return value
