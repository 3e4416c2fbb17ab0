"""Attention of a micro-batch: every token of a pack meets those of its group, whichever ranks hold them.

Queries and keys arrive rotated, so no rank ever needs another rank's positions; a scheme of bands turns them
itself, as a kernel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from ..errors import TrainError
from ..layout import Span
from ..mesh import Mesh
from .blocks import BlockAttention, attend
from .exchange import gather_tokens, heads_to_tokens, scatter_gradients, tokens_to_heads
from .kernels import Kernel, Whole
from .pairs import Pair
from .reach import Block, Reach, own_rounds, reach, stored_rounds
from .store import Store
from .tiles import Groups, Tile


@dataclass(kw_only=True)
class GroupedAttention:
    """Attend inside the groups of one micro-batch; passed to the model as the forward keyword `attend`."""

    groups: Groups
    """Of whole packs."""
    kernel: Kernel
    mesh: Mesh = field(default_factory=Mesh.alone)
    chunk: Span | None = None
    """Tokens of the packs that are in the model; None: all of them."""
    earlier: Sequence[Span] = ()
    """Chunks before it whose keys and values are in the store."""
    store: Store | None = None
    keep: bool = False
    """Keep the results, which a checkpointed layer then does not compute again in backward."""
    layers: dict[int, int] = field(default_factory=dict)
    """How often each layer came through, so that a step can assert that none was bypassed."""

    def __post_init__(self) -> None:
        self.kept: dict[int, Sequence[Tensor]] = {}
        self._reaches: dict[int | None, Reach] = {}

    def __call__(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        scaling: float,
        layer: int,
        window: int | None = None,
        kernel: Whole | None = None,
    ) -> Tensor:
        """Map query [B, Hq, S, D] and key, value [B, Hkv, S, D] of this rank's tokens to [B, S, Hq, D].

        `window` is that of a layer with a sliding one, tokens; `kernel` that of a layer which needs its own.
        """
        self.layers[layer] = self.layers.get(layer, 0) + 1
        heads = self.mesh.heads_group
        if heads is not None:
            query, key, value = tokens_to_heads(query, key, value, heads)
        run = kernel or self.kernel
        if isinstance(run, Pair):
            out = self._blocks(query, key, value, LayerSite(self, run, scaling, layer, window))
        else:
            self._refuse_parts(run)
            more = {} if window is None else {"window": window}
            out = run(query, key, value, self.groups, scaling, **more)
        return out.transpose(1, 2) if heads is None else heads_to_tokens(out, heads)

    def _blocks(self, query: Tensor, key: Tensor, value: Tensor, site: LayerSite) -> Tensor:
        if not torch.is_grad_enabled():
            out, lse = attend(site, query, key, value)
            site.write(key, value)
            if self.store is not None and self.keep:
                self.store.keep(site.layer, self.span, out, lse)
            return out
        known = self.kept.get(site.layer)
        if known is None and self.store is not None:
            known = self.store.recall(site.layer, self.span)
        out, lse = BlockAttention.apply(query, key, value, site, known)  # pyright: ignore[reportGeneralTypeIssues]
        if self.keep:
            self.kept[site.layer] = out.detach(), lse
        return out

    def _refuse_parts(self, run: Whole) -> None:
        if self.mesh.gather_group is not None or self.span != (0, self.groups[0][-1][1]):
            name = getattr(run, "__name__", type(run).__name__)
            raise TrainError(
                f"train.chunk, eval.chunk: {name} must have all tokens of a pack for its heads, got part of "
                "them; leave both out, and let sequence divide the heads"
            )

    @cached_property
    def span(self) -> Span:
        """Give the tokens of the packs that are in the model."""
        return self.chunk or (0, self.groups[0][-1][1])

    def reach(self, window: int | None) -> Reach:
        """Return what the queries meet, once for all layers of a window."""
        if window not in self._reaches:
            layout, rank = self.mesh.layout, self.mesh.layout.gather_rank(self.mesh.rank)
            self._reaches[window] = reach(layout, rank, self.groups, self.span, self.earlier, window)
        return self._reaches[window]


class LayerSite:
    """What the attention of one layer stands on: tiles, blocks of keys, and where their gradients go."""

    def __init__(
        self, call: GroupedAttention, pair: Pair, scale: float, layer: int, window: int | None
    ) -> None:
        self.call, self.pair, self.scale = call, pair, scale
        self.layer, self.window = layer, window
        self.reach = call.reach(window)
        self.squares = self.reach.squares

    def blocks(self, key: Tensor, value: Tensor) -> Iterator[tuple[list[Tile], Tensor, Tensor]]:
        """Yield each block's tiles, keys and values, those in the store first."""
        earlier = [block.span for block in self.reach.blocks if block.places is None]
        stored = self.call.store.read(self.layer, earlier) if self.call.store else iter(())
        group = self.call.mesh.gather_group
        for block in self.reach.blocks:
            part = next(stored) if block.places is None else None
            if part is None and group is None:
                yield block.tiles, key, value
                continue
            if part is None:
                part = _part(block.places, key, value)
            keys, values = part if group is None else gather_tokens(part, group, block.number)
            yield block.tiles, keys, values

    def send(self, number: int, gradient: Tensor, own: Tensor) -> None:
        """Give each gather rank its part of a gradient; of an earlier block's, the store keeps it."""
        block: Block = self.reach.blocks[number]
        group = self.call.mesh.gather_group
        if group is not None:
            gradient = scatter_gradients(gradient, group, block.number)
        if block.places is not None:
            own[:, :, :, slice(*block.places)] += gradient
        else:
            assert self.call.store is not None
            self.call.store.add(self.layer, block.span, gradient)

    def collect(self, own: Tensor) -> None:
        """Add what later chunks left in the store for this one; nothing of it is needed again."""
        self.call.kept.pop(self.layer, None)
        for places, span in self._stored():
            assert self.call.store is not None
            left = self.call.store.take(self.layer, span)
            if left is not None:
                own[:, :, :, slice(*places)] += left

    def write(self, key: Tensor, value: Tensor) -> None:
        """Leave in the store what later chunks can see of these keys and values."""
        for places, span in self._stored():
            assert self.call.store is not None
            self.call.store.write(self.layer, span, _part(places, key, value))

    def _stored(self) -> Iterator[tuple[Span, Span]]:
        """Yield the places of this rank's part of each stored block, and the block's tokens."""
        if self.call.store is None:
            return
        layout, chunk = self.call.mesh.layout, self.call.span
        places = {number: own for number, _, own in own_rounds(layout, chunk)}
        for number, span in stored_rounds(layout, self.call.groups, chunk, self.window):
            stop = places[number][1]
            yield (stop - (span[1] - span[0]) // layout.gather, stop), span


def _part(places: Span | None, key: Tensor, value: Tensor) -> Tensor:
    """Return keys and values [2, B, H, n, D] of some places."""
    assert places is not None
    return torch.stack([x[:, :, slice(*places)] for x in (key, value)])
