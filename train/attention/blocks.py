"""Attention of a chunk's queries to many blocks of keys, merged by log-sum-exp; exact both ways.

    o = sum_i exp(l_i - l) o_i,    l = log sum_i exp(l_i)

Forward meets each block once. Backward meets it again with the merged o and l, hands the block's own gradient
back and forgets it; nothing grows with the number of blocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .pairs import Given, Keyed, Pair
from .tiles import Tile


class Site(Protocol):
    """What one layer's attention stands on: the kernel, the tiles, the blocks and where gradients go."""

    pair: Pair
    scale: float
    squares: list[Tile]

    def blocks(self, key: Tensor, value: Tensor) -> Iterator[tuple[list[Tile], Tensor, Tensor]]:
        """Yield each block's tiles, keys and values [B, H, T, D]; the order is the same on all ranks."""
        ...

    def send(self, number: int, gradient: Tensor, own: Tensor) -> None:
        """Give away the gradient [2, B, H, T, D] of a block's keys and values; into `own`, if it is ours."""
        ...

    def collect(self, own: Tensor) -> None:
        """Add to `own` [2, B, H, S, D] what later tokens sent to these keys and values."""
        ...


class BlockAttention(torch.autograd.Function):
    """Map query [B, Hq, S, D], key and value [B, Hkv, S, D] of a chunk to output and log-sum-exp."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, site: Site, known: Sequence[Tensor] | None
    ) -> tuple[Tensor, Tensor]:
        out, lse = known or attend(site, query, key, value)
        ctx.save_for_backward(query, key, value, out, lse)
        ctx.site = site
        ctx.mark_non_differentiable(lse)
        return out, lse

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        query, key, value, out, lse = ctx.saved_tensors
        site: Site = ctx.site
        wide = torch.promote_types(query.dtype, torch.float32)
        given = grad, out, lse
        to_query, own = _derive_squares(site, given, (query, key, value), wide)
        for number, (tiles, keys, values) in enumerate(site.blocks(key, value)):
            gradient = torch.zeros(2, *keys.shape, dtype=wide, device=key.device)
            _derive(site, tiles, given, (query, keys, values), to_query, gradient)
            site.send(number, gradient, own)
        site.collect(own)
        return to_query.to(query.dtype), own[0].to(key.dtype), own[1].to(value.dtype), None, None


def attend(site: Site, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Return output [B, Hq, S, D] and log-sum-exp [B, Hq, S] of a chunk's queries."""
    squares = _run(site, site.squares, (query, key, value))
    sums = Sums.of_one(*next(squares)[1:]) if _is_all(site.squares, query) else Sums.of_many(query, squares)
    for tiles, keys, values in site.blocks(key, value):
        for tile, out, lse in _run(site, tiles, (query, keys, values)):
            sums.add(tile, out, lse)
    return sums.out.to(query.dtype), sums.lse


@dataclass
class Sums:
    """Output [B, H, S, D] and log-sum-exp [B, H, S] of the keys met so far, in at least float32."""

    out: Tensor
    lse: Tensor

    @classmethod
    def of_one(cls, out: Tensor, lse: Tensor) -> Sums:
        """Begin with a tile [H, S, D] of all queries."""
        return cls(out[None].to(torch.promote_types(out.dtype, torch.float32)), lse[None])

    @classmethod
    def of_many(cls, query: Tensor, squares: Iterable[tuple[Tile, Tensor, Tensor]]) -> Sums:
        """Begin with squares that hold all queries [B, H, S, D] between them."""
        wide = torch.promote_types(query.dtype, torch.float32)
        out, total = (torch.empty_like(x, dtype=wide) for x in (query, query[..., 0]))
        for tile, part, lse in squares:
            row, queries = tile.row, slice(*tile.queries)
            out[row, :, queries], total[row, :, queries] = part, lse
        return cls(out, total)

    def add(self, tile: Tile, out: Tensor, lse: Tensor) -> None:
        """Add one more tile's keys."""
        row, queries = tile.row, slice(*tile.queries)
        before = self.lse[row, :, queries]
        both = torch.logaddexp(before, lse)
        whole = self.out[row, :, queries]
        whole.mul_((before - both).exp()[..., None]).add_(out * (lse - both).exp()[..., None])
        before.copy_(both)


def _run(site: Site, tiles: Sequence[Tile], tensors: Keyed) -> Iterator[tuple[Tile, Tensor, Tensor]]:
    """Yield output [H, S, D] and log-sum-exp [H, S] of each tile."""
    for edge, alike in _by_edge(tiles):
        cut = [_cut(tile, tensors) for tile in alike]
        results = site.pair.forward(cut, edge != "whole", site.scale)
        for tile, (out, lse) in zip(alike, results, strict=True):
            yield (tile, out.flip(1), lse.flip(1)) if edge == "since" else (tile, out, lse)


def _derive(
    site: Site, tiles: Sequence[Tile], given: Given, tensors: Keyed, to_query: Tensor, to_keys: Tensor
) -> None:
    """Add each tile's gradients to those of queries [B, Hq, S, D] and of keys and values [2, B, H, T, D]."""
    for edge, alike in _by_edge(tiles):
        cut = [_cut(tile, tensors) for tile in alike]
        above = [_queries(tile, given) for tile in alike]
        results = site.pair.backward(above, cut, edge != "whole", site.scale)
        for tile, found in zip(alike, results, strict=True):
            query, key, value = (x.flip(1) for x in found) if edge == "since" else found
            to_query[tile.row, :, slice(*tile.queries)] += query
            to_keys[0, tile.row, :, slice(*tile.keys)] += key
            to_keys[1, tile.row, :, slice(*tile.keys)] += value


def _derive_squares(site: Site, given: Given, tensors: Keyed, wide: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return the gradients of the causal squares; a lone square's as they are."""
    query, key, _ = tensors
    if _is_all(site.squares, query):
        cut = [_cut(tile, tensors) for tile in site.squares]
        [found] = site.pair.backward([_queries(site.squares[0], given)], cut, True, site.scale)
        return found[0][None].to(wide), torch.stack(found[1:]).to(wide)[:, None]
    to_query = torch.zeros_like(query, dtype=wide)
    to_keys = torch.zeros(2, *key.shape, dtype=wide, device=key.device)
    _derive(site, site.squares, given, tensors, to_query, to_keys)
    return to_query, to_keys


def _is_all(squares: Sequence[Tile], query: Tensor) -> bool:
    """Say whether one square holds all queries, so that its results need no place to be put together."""
    return query.shape[0] == 1 and [tile.queries for tile in squares] == [(0, query.shape[2])]


def _by_edge(tiles: Sequence[Tile]) -> Iterator[tuple[str, list[Tile]]]:
    for edge in ("until", "whole", "since"):
        if alike := [tile for tile in tiles if tile.edge == edge]:
            yield edge, alike


def _cut(tile: Tile, tensors: Keyed) -> Keyed:
    """Return a tile's query, key and value, read backwards where that makes its square a causal one."""
    query, key, value = tensors
    keys = slice(*tile.keys)
    cut = query[tile.row, :, slice(*tile.queries)], key[tile.row, :, keys], value[tile.row, :, keys]
    return (cut[0].flip(1), cut[1].flip(1), cut[2].flip(1)) if tile.edge == "since" else cut


def _queries(tile: Tile, given: Given) -> Given:
    grad, out, lse = (x[tile.row, :, slice(*tile.queries)] for x in given)
    return (grad.flip(1), out.flip(1), lse.flip(1)) if tile.edge == "since" else (grad, out, lse)
