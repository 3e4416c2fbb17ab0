"""How does a token attend whose distances are no plain differences? In bands, summed as one softmax.

The queries and keys of each `Band` of an attention scheme are turned once; blocks of queries then meet their
keys in tiles that need no mask. Nothing the size of queries x keys is ever held.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .relative import AttentionScheme
from .rotation import Table, rotate, rotation_table
from .scheme import Base, Frequencies, RopeError
from .tiles import ROWS, Tile, Turned, attend

Groups = Sequence[Sequence[tuple[int, int]]]


class BandedAttention:
    """Turn q and k and attend, by the bands of a scheme; the layers of a model share one and its table."""

    def __init__(
        self, scheme: AttentionScheme, base: Base, frequencies: Frequencies, *, target_length: int
    ) -> None:
        assert frequencies.first_tokens == 0, frequencies.first_tokens
        self.scheme, self.base = scheme, base
        self.frequencies, self.target_length = frequencies, target_length
        self._bands = scheme.bands(base, target_length=target_length)
        self._period = scheme.period(base, target_length=target_length)
        self._tables: dict[tuple[torch.dtype, torch.device], Table] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle without the table, and without the bands, which are functions."""
        make = partial(BandedAttention, target_length=self.target_length)
        return make, (self.scheme, self.base, self.frequencies)

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, groups: Groups, scale: float) -> Tensor:
        """Return [B, Hq, S, D] for unturned query [B, Hq, S, D], key and value [B, Hkv, T, D].

        The queries stand in the last S of the T slots. `groups`, a list for each row, are half-open spans of
        slots: attention is causal inside a span, places count from its first slot, and slots outside every
        span give zeros.
        """
        _check(query, key, groups)
        past = key.shape[2] - query.shape[2]
        out = torch.zeros(query.shape, dtype=value.dtype, device=query.device)
        for (start, stop), rows in _rows_by_span(groups).items():
            first = max(start, past)
            if first < stop:
                asked = slice(first - past, stop - past)
                k, v = (x[rows, :, start:stop] for x in (key, value))
                out[rows, :, asked] = self._attend(query[rows, :, asked], k, v, scale).to(out.dtype)
        return out

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Attend in one span, of which the queries are the last tokens."""
        length, kv_heads = key.shape[2], key.shape[1]
        start = length - query.shape[2]
        query = self._scaled(query, start, value.dtype)
        blocks = [self._tiles(*block) for block in _blocks(start, length, self._period)]
        ranges: dict[int, list[slice]] = defaultdict(list)
        for tile in (tile for block in blocks for tile in block):
            ranges[tile.band].append(tile.keys)
        turned: dict[int, Turned] = {}
        for index, keys in ranges.items():
            band, first, stop = self._bands[index], min(k.start for k in keys), max(k.stop for k in keys)
            turned[index] = Turned(
                query=self._turn(query, band.query(torch.arange(start, length)), value.dtype, kv_heads),
                key=self._turn(
                    key[:, :, first:stop], band.key(torch.arange(first, stop)), value.dtype, kv_heads
                ),
                first=first,
            )
        out = attend(blocks, turned, value.flatten(0, 1)[:, None], scale)
        return out.unflatten(0, (-1, kv_heads)).flatten(1, 2)

    def _scaled(self, query: Tensor, start: int, dtype: torch.dtype) -> Tensor:
        """Return queries [B, H, S, D] from place `start` on, times what the scheme has their scores times."""
        scale = self.scheme.score_scale(self.base, np.arange(start, start + query.shape[2]))
        if scale is None:
            return query
        wide = torch.promote_types(dtype, torch.float32)
        return query * torch.as_tensor(scale, dtype=wide, device=query.device)[:, None]

    def _tiles(self, start: int, stop: int, origin: int) -> list[Tile]:
        """Cut what the queries at places [start, stop) meet into tiles; query 0 stands at `origin`."""
        tiles: list[Tile] = []
        for index, band in enumerate(self._bands):
            (first, end), (last_first, last_end) = band.keys(start), band.keys(stop - 1)
            queries = slice(start - origin, stop - origin)
            # An end that moves with the query cuts a triangle out of the square it moves through.
            full = end - (last_end > end)
            if last_end > end:
                tiles.append(Tile(band=index, queries=queries, keys=slice(full, last_end), edge="until"))
            if last_first < full:
                tiles.append(Tile(band=index, queries=queries, keys=slice(last_first, full)))
            if last_first > first:
                queries = slice(queries.start, queries.stop - 1)
                tiles.append(Tile(band=index, queries=queries, keys=slice(first, last_first), edge="since"))
        return tiles

    def _turn(self, x: Tensor, positions: Tensor, dtype: torch.dtype, kv_heads: int) -> Tensor:
        """Turn x [B, H, S, D] by positions [S] and return [B * kv_heads, H / kv_heads, S, D]."""
        table = self._table(int(positions.max()), torch.promote_types(dtype, torch.float32), x.device)
        rows = positions.to(x.device)
        own = Table(table.cos[:, :, rows], table.sin[:, :, rows])
        return rotate(x, own, dtype).unflatten(1, (kv_heads, -1)).flatten(0, 1)

    def _table(self, largest: int, dtype: torch.dtype, device: torch.device) -> Table:
        """Return a table whose row p turns by position p, for p up to at least `largest`."""
        known = self._tables.get((dtype, device))
        if known is None or known.cos.shape[2] <= largest:
            positions = torch.arange(1 << largest.bit_length(), device=device)[None]
            known = self._tables[dtype, device] = rotation_table(positions, self.frequencies, dtype)
        return known


def _check(query: Tensor, key: Tensor, groups: Groups) -> None:
    """Refuse shapes that do not fit and spans that overlap or leave the slots."""
    rows, slots = query.shape[0], key.shape[2]
    if query.shape[2] > slots or query.shape[1] % key.shape[1]:
        raise RopeError(
            "attention.query: must have no more tokens than the keys and a multiple of their heads, got "
            f"{list(query.shape)} and {list(key.shape)}; pass [B, heads, tokens, channels], with every key "
            "since slot 0"
        )
    if len(groups) != rows:
        raise RopeError(
            f"attention.groups: must be one list of spans for each of {rows} rows, got {len(groups)}; "
            "repeat it for every row"
        )
    for spans in groups:
        ends = [0, *(end for span in sorted(spans) for end in span), slots]
        if any(before > after for before, after in pairwise(ends)):
            raise RopeError(
                f"attention.groups: must be spans apart from each other within [0, {slots}), got "
                f"{list(spans)}; write one (start, stop) of slots a request"
            )


def _rows_by_span(groups: Groups) -> dict[tuple[int, int], slice | list[int]]:
    """Return which rows hold each span: all of them as a slice, which copies nothing."""
    rows: dict[tuple[int, int], list[int]] = defaultdict(list)
    for row, spans in enumerate(groups):
        for start, stop in spans:
            rows[start, stop].append(row)
    return {span: slice(None) if len(own) == len(groups) else own for span, own in rows.items()}


def _blocks(start: int, stop: int, period: int) -> Iterator[tuple[int, int, int]]:
    """Yield runs of queries (first, last + 1, start) of at most ROWS that lie within one period."""
    first = start
    while first < stop:
        last = min(first - first % period + period, first + ROWS, stop)
        yield first, last, start
        first = last
