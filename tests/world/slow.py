"""A slow, obvious reference for a whole model: transformers' own layers, each score turned by itself."""

import copy
import math
from typing import Any

import torch
from transformers import AutoModelForCausalLM
from transformers.modeling_utils import AttentionInterface

from ropewalk.rope import installed

EXAMPLES: dict[str, dict[str, Any]] = {
    "longrope": {"factors": [1.5 + i for i in range(8)], "short_factors": [1.0 + i / 8 for i in range(8)]},
    "resonance": {"of": {"kind": "yarn"}},
    "dca": {"log_scale": 0.1},
    "self-extend": {"group": 8, "window": 14},
}
"knobs of the schemes that say nothing, or too little to test, by default"


def example(name: str, pairs: int) -> dict[str, Any]:
    """Return knobs for a model with this many rotary pairs."""
    vectors = ("factors", "short_factors")
    return {k: v[:pairs] if k in vectors else v for k, v in EXAMPLES.get(name, {}).items()}


def slow_logits(model: Any, ids: torch.Tensor, length: int | None = None) -> torch.Tensor:
    """Return the logits of an installed float64 model on unpadded rows, computed without our attention.

    `length` is what the scheme takes for the length of the sequence, else that of the rows.
    """
    record = installed(model)
    config = copy.deepcopy(model.config)
    if config.model_type == "phi3":  # its config class refuses what an installed one may hold
        config.rope_parameters = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.75}
    AttentionInterface.register("slow", _attention)
    stock = AutoModelForCausalLM.from_config(config, attn_implementation="eager").double().eval()
    stock.load_state_dict(model.state_dict())
    stock.config._attn_implementation = "slow"
    decoder: Any = stock.model
    decoder.rotary_emb.forward = _no_rotation(record.bases["full_attention"].head_dim)
    for layer in decoder.layers:
        kind = getattr(layer.self_attn, "layer_type", None)
        kind = kind if kind in record.bases else "full_attention"
        frequencies = record.at_length(kind, length or ids.shape[1])
        layer.self_attn.slow = (record, kind, frequencies)
    with torch.no_grad():
        return stock(ids, use_cache=False).logits


def _no_rotation(head_dim: int) -> Any:
    def forward(x: torch.Tensor, position_ids: Any = None, layer_type: Any = None) -> Any:
        return torch.ones(1, 1, head_dim, dtype=x.dtype), torch.zeros(1, 1, head_dim, dtype=x.dtype)

    return forward


def _attention(module: Any, query: Any, key: Any, value: Any, mask: Any, scaling: float, **rest: Any) -> Any:
    """Score every pair of tokens at the positions at which the scheme lets the two stand."""
    record, kind, frequencies = module.slow
    heads, length = query.shape[1], query.shape[2]
    key, value = (x.repeat_interleave(heads // key.shape[1], dim=1) for x in (key, value))
    rows = torch.tensor(frequencies.inv_freq).repeat_interleave(heads // len(frequencies.inv_freq), dim=0)
    first = frequencies.first_inv_freq
    kept = rows if first is None else torch.tensor(first).expand_as(rows)
    half = rows.shape[1]
    q, k = (torch.complex(x[..., :half], x[..., half : 2 * half]) for x in (query, key))
    scores = query[..., 2 * half :] @ key[..., 2 * half :].transpose(-1, -2)
    scores = scores.clone()
    out_of_sight = torch.ones(length, length, dtype=torch.bool)
    for m in range(length):
        for n in range(m + 1):
            at_q, at_k = positions(record, kind, m, n)
            angle = at_q * (kept if at_q < frequencies.first_tokens else rows)
            angle = angle - at_k * (kept if at_k < frequencies.first_tokens else rows)
            turned = q[:, :, m] * k[:, :, n].conj() * torch.polar(torch.ones_like(angle), angle)
            scale = [
                frequencies.attention_scale if at >= frequencies.first_tokens else 1 for at in (at_q, at_k)
            ]
            scores[:, :, m, n] += turned.real.sum(-1) * scale[0] * scale[1]
            window = record.bases[kind].window
            out_of_sight[m, n] = window is not None and m - n >= window
    by_place = [score_scale(record, kind, m) for m in range(length)]
    scores *= torch.tensor(by_place, dtype=scores.dtype)[:, None]
    # What does not rotate takes no attention scale either.
    probabilities = (scores * scaling).masked_fill(out_of_sight, float("-inf")).softmax(-1)
    return (probabilities @ value).transpose(1, 2), None


def positions(record: Any, kind: str, m: int, n: int) -> tuple[int, int]:
    """Return where the query at m and the key at n stand to each other."""
    scheme, length = record.scheme, record.bases[kind].original_length
    if kind != "full_attention":
        return m, n
    if scheme.name == "self-extend":
        group, window = scheme.group, scheme.window
        return (m, n) if m - n < window else (m // group + window - window // group, n // group)
    if scheme.name == "dca":
        s = scheme.chunk or length * 3 // 4
        c = s - (scheme.window or length // 8)
        apart = m // c - n // c
        return ([m % c, min(m % c + c, s), min(2 * c - 1, s)][min(apart, 2)], n % c)
    return m, n


def score_scale(record: Any, kind: str, m: int) -> float:
    """Return what the scores of the query at m are times: YaRN's temperature (2309.00071) by its place."""
    growth = math.log(max((m + 1) / record.bases[kind].original_length, 1))
    by_place = record.scheme.name == "dca" and kind == "full_attention"
    return (1 + record.scheme.log_scale * growth) ** 2 if by_place else 1.0
