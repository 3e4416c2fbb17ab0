"""How are blocks of scores attended to apart and added up? Tiles that need no mask, by their log-sum-exp.

A query's tiles i, with outputs o_i and log-sum-exps l_i, add up to one softmax over all their keys:
o = sum_i exp(l_i - l) o_i, l = log sum_i exp(l_i). Shapes here: queries [N, G, S, D], keys and values
[N, 1, T, D], where N runs over rows and kv heads and G over the query heads of one kv head.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

ROWS = 1024
"queries of a tile at most, and keys whose scores are held at a time where no fused kernel runs"

Edge = Literal["whole", "until", "since"]
"every query meets every key; or, in a square, query i meets keys up to i; or keys from i on"


@dataclass(frozen=True, kw_only=True)
class Tile:
    """Name the queries and keys of one band that meet, and how."""

    band: int
    queries: slice
    keys: slice
    edge: Edge = "whole"


@dataclass(frozen=True, kw_only=True)
class Turned:
    """Hold the queries and keys of one band, turned by its positions."""

    query: Tensor
    "[N, G, S, D]"
    key: Tensor
    "[N, 1, keys, D]"
    first: int
    "which of the values the first key belongs to"


def attend(
    blocks: Sequence[Sequence[Tile]], turned: dict[int, Turned], value: Tensor, scale: float
) -> Tensor:
    """Return the attention of every query to the keys of all its tiles, [N, G, S, D] in at least float32.

    Each block's first tile holds all of the block's queries.
    """
    firsts = {band: of.first for band, of in turned.items()}
    queries, keys = [of.query for of in turned.values()], [of.key for of in turned.values()]
    return _Attend.apply(blocks, firsts, scale, value, *queries, *keys)  # pyright: ignore[reportReturnType]


class _Attend(torch.autograd.Function):
    """Differentiate through the sum of the tiles: each tile's weights are exp(its scores - l)."""

    @staticmethod
    def forward(
        ctx: Any, blocks: Sequence[Sequence[Tile]], firsts: dict[int, int], scale: float, *tensors: Tensor
    ) -> Tensor:
        value, turned = tensors[0], _by_band(firsts, tensors[1:])
        shape, wide = tensors[1].shape, torch.promote_types(value.dtype, torch.float32)
        out = torch.empty(shape, dtype=wide, device=value.device)
        total = torch.empty(shape[:-1], dtype=wide, device=value.device)
        for block in blocks:
            for number, tile in enumerate(block):
                query, key, values = _cut(tile, turned[tile.band], value)
                part, weight = attend_with_lse(query, key, values, edge=tile.edge, scale=scale)
                place = (out[:, :, tile.queries], total[:, :, tile.queries])
                _add(*place, part, weight) if number else _put(*place, part, weight)
        ctx.blocks, ctx.firsts, ctx.scale = blocks, firsts, scale
        ctx.save_for_backward(out, total, *tensors)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        out, total, *tensors = ctx.saved_tensors
        value, turned = tensors[0], _by_band(ctx.firsts, tensors[1:])
        grads = [torch.zeros_like(tensor, dtype=grad.dtype) for tensor in tensors]
        grad_value, grad_turned = grads[0], _by_band(ctx.firsts, grads[1:])
        centre = (grad * out).sum(-1, keepdim=True)
        for tile in (tile for block in ctx.blocks for tile in block):
            query, key, values = (x.to(grad.dtype) for x in _cut(tile, turned[tile.band], value))
            to_query, to_key, to_value = _cut(tile, grad_turned[tile.band], grad_value)
            above, about, lse = (x[:, :, tile.queries] for x in (grad, centre, total[..., None]))
            for part, scores in _scores(query, key, tile.edge, ctx.scale):
                weights = (scores - lse).exp()
                to_value[:, :, part] += (weights.mT @ above).sum(1, keepdim=True)
                slope = weights * (above @ values[:, :, part].mT - about) * ctx.scale
                to_query += slope @ key[:, :, part]
                to_key[:, :, part] += (slope.mT @ query).sum(1, keepdim=True)
        return None, None, None, *(g.to(x.dtype) for g, x in zip(grads, tensors, strict=True))


def attend_with_lse(
    query: Tensor, key: Tensor, value: Tensor, *, edge: Edge, scale: float
) -> tuple[Tensor, Tensor]:
    """Return the attention [N, G, S, D] and the log-sum-exp [N, G, S] of one tile."""
    if edge == "since":
        # Read backwards, the keys from i on are the keys up to i.
        query, key, value = (x.flip(2) for x in (query, key, value))
        out, lse = fused(query, key, value, causal=True, scale=scale)
        return out.flip(2), lse.flip(2)
    if edge == "until":
        return fused(query, key, value, causal=True, scale=scale)
    # Where all meet, the heads of a group are more queries of their one kv head, which is then read once.
    out, lse = fused(query.flatten(1, 2)[:, None], key, value, causal=False, scale=scale)
    return out[:, 0].unflatten(1, query.shape[1:3]), lse[:, 0].unflatten(1, query.shape[1:3])


def fused(query: Tensor, key: Tensor, value: Tensor, *, causal: bool, scale: float) -> tuple[Tensor, Tensor]:
    """Return attention and log-sum-exp by the device's fused kernel, or by matrix products without one."""
    aten = torch.ops.aten
    if query.device.type == "cpu":
        # Not every supported torch has grouped heads in this kernel; a stride of 0 costs nothing.
        key, value = (x.expand(-1, query.shape[1], -1, -1) for x in (key, value))
        return aten._scaled_dot_product_flash_attention_for_cpu(query, key, value, 0.0, causal, scale=scale)
    half = query.dtype in (torch.float16, torch.bfloat16)
    if query.is_cuda and half and query.shape[-1] % 8 == 0 and query.shape[-1] <= 256:
        return aten._scaled_dot_product_flash_attention(query, key, value, 0.0, causal, scale=scale)[:2]
    return plain(query, key, value, causal=causal, scale=scale)


def plain(query: Tensor, key: Tensor, value: Tensor, *, causal: bool, scale: float) -> tuple[Tensor, Tensor]:
    """Return what `fused` does, by matrix products on a bounded number of keys at a time."""
    wide = torch.promote_types(query.dtype, torch.float32)
    query, key, value = (x.to(wide) for x in (query, key, value))
    out, total = torch.empty_like(query), query.new_empty(query.shape[:-1])
    for part, scores in _scores(query, key, "until" if causal else "whole", scale):
        lse = scores.logsumexp(-1)
        attended = (scores - lse[..., None]).exp() @ value[:, :, part]
        _add(out, total, attended, lse) if part.start else _put(out, total, attended, lse)
    return out, total


def _scores(query: Tensor, key: Tensor, edge: Edge, scale: float) -> Iterator[tuple[slice, Tensor]]:
    """Yield runs of keys with their scores [N, G, S, run], -inf where the edge cuts; a square is one run."""
    assert edge == "whole" or query.shape[2] == key.shape[2] <= ROWS, (query.shape, key.shape)
    for start in range(0, key.shape[2], ROWS):
        part = slice(start, min(start + ROWS, key.shape[2]))
        scores = query @ key[:, :, part].mT * scale
        if edge != "whole":
            met = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device)
            scores = scores.masked_fill(~(met.tril() if edge == "until" else met.triu()), -torch.inf)
        yield part, scores


def _put(out: Tensor, total: Tensor, part: Tensor, lse: Tensor) -> None:
    """Start the sum with its first tile."""
    out.copy_(part)
    total.copy_(lse)


def _add(out: Tensor, total: Tensor, part: Tensor, lse: Tensor) -> None:
    """Add one more tile to the sum, in place."""
    both = torch.logaddexp(total, lse)
    out.mul_((total - both).exp_()[..., None]).add_(part * (lse - both).exp_()[..., None])
    total.copy_(both)


def _by_band(firsts: dict[int, int], tensors: Sequence[Tensor]) -> dict[int, Turned]:
    """Name what came as a flat list, queries of every band and then keys."""
    queries, keys = tensors[: len(firsts)], tensors[len(firsts) :]
    rows = zip(firsts.items(), queries, keys, strict=True)
    return {band: Turned(query=query, key=key, first=first) for (band, first), query, key in rows}


def _cut(tile: Tile, turned: Turned, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the queries, keys and values of one tile, as views."""
    own = slice(tile.keys.start - turned.first, tile.keys.stop - turned.first)
    return turned.query[:, :, tile.queries], turned.key[:, :, own], value[:, :, tile.keys]
