"""What does a kernel compute on tiles? A pair: outputs and log-sum-exps forward, gradients from them backward.

Backward takes the output and log-sum-exp of the whole softmax and not of its tile: with l over all keys,
exp(scores - l) are the weights themselves, so each tile gives its exact part of every gradient. No kernel's
own log-sum-exp is differentiated: several drop that gradient without a word.

Shapes, a tile: query [H, S, D], key and value [Hkv, T, D], output [H, S, D], log-sum-exp [H, S]. Tiles of one
call are all whole (S and T may differ) or all causal (S = T).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..errors import TrainError
from ..layout import MOST_ELEMENTS

aten = torch.ops.aten
Keyed = tuple[Tensor, Tensor, Tensor]
"""Query, key and value of a tile; or their gradients."""
Given = tuple[Tensor, Tensor, Tensor]
"""What backward is given of a tile's queries: the output's gradient, the output, the log-sum-exp."""


@dataclass(frozen=True)
class Pair:
    """A kernel that is given a list of tiles and returns one result for each."""

    name: str
    forward: Callable[[Sequence[Keyed], bool, float], list[tuple[Tensor, Tensor]]]
    backward: Callable[[Sequence[Given], Sequence[Keyed], bool, float], list[Keyed]]


@dataclass(frozen=True)
class Dense:
    """Run a kernel on [N, H, S, D] for tiles of equal sizes together; grouped heads are folded into N.

    Of a causal tile the keys of a group are expanded by a stride of 0; where all meet, a group's heads are
    more queries of its one kv head, which is then read once and gets one gradient.
    """

    run: Callable[..., tuple[Tensor, Tensor]]
    derive: Callable[..., Keyed]

    def forward(self, tiles: Sequence[Keyed], causal: bool, scale: float) -> list[tuple[Tensor, Tensor]]:
        results: dict[int, tuple[Tensor, Tensor]] = {}
        for places in _alike(tiles):
            query, key, value = self._folded([tiles[place] for place in places], causal)
            out, lse = self.run(query, key, value, causal, scale)
            shape = (len(places), *tiles[places[0]][0].shape)
            whole = zip(out.reshape(shape), lse.reshape(shape[:-1]), strict=True)
            results.update(zip(places, whole, strict=True))
        return [results[place] for place in range(len(tiles))]

    def backward(
        self, given: Sequence[Given], tiles: Sequence[Keyed], causal: bool, scale: float
    ) -> list[Keyed]:
        results: dict[int, Keyed] = {}
        for places in _alike(tiles):
            query, key, value = self._folded([tiles[place] for place in places], causal)
            grad, out, lse = (_stacked([given[place][i] for place in places]) for i in range(3))
            grad, out = (x.reshape(query.shape) for x in (grad, out))
            to_query, *to_keys = self.derive(
                grad, query, key, value, out, lse.reshape(query.shape[:-1]), causal, scale
            )
            one, other, _ = tiles[places[0]]
            heads = to_query.reshape(len(places), *one.shape)
            keys = [x.sum(1).view(len(places), *other.shape) for x in to_keys]
            results.update(zip(places, zip(heads, *keys, strict=True), strict=True))
        return [results[place] for place in range(len(tiles))]

    def _folded(self, tiles: Sequence[Keyed], causal: bool) -> Keyed:
        """Return query [N * Hkv, G, S, D], or [N * Hkv, 1, G * S, D], with key and value to fit it."""
        query, key, value = (_stacked(part) for part in zip(*tiles, strict=True))
        ratio = query.shape[1] // key.shape[1]
        query = query.unflatten(1, (-1, ratio)).flatten(0, 1)
        key, value = (x.flatten(0, 1)[:, None] for x in (key, value))
        if causal:
            return query, key.expand(-1, ratio, -1, -1), value.expand(-1, ratio, -1, -1)
        return query.flatten(1, 2)[:, None], key, value


def _stacked(parts: Sequence[Tensor]) -> Tensor:
    return parts[0][None] if len(parts) == 1 else torch.stack(parts)  # one is not copied


def _alike(tiles: Sequence[Keyed]) -> list[list[int]]:
    """Group the places of tiles of the same shapes."""
    by_size: dict[tuple[int, int], list[int]] = defaultdict(list)
    for place, (query, key, _) in enumerate(tiles):
        by_size[query.shape[1], key.shape[1]].append(place)
    return list(by_size.values())


def _on_cpu(query: Tensor, key: Tensor, value: Tensor, causal: bool, scale: float) -> tuple[Tensor, Tensor]:
    return aten._scaled_dot_product_flash_attention_for_cpu(query, key, value, 0.0, causal, scale=scale)


def _on_cpu_backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, out: Tensor, lse: Tensor, causal: bool, scale: float
) -> Keyed:  # fmt: skip
    return aten._scaled_dot_product_flash_attention_for_cpu_backward(
        grad, query, key, value, out, lse, 0.0, causal, scale=scale
    )


def _efficient(
    query: Tensor, key: Tensor, value: Tensor, causal: bool, scale: float
) -> tuple[Tensor, Tensor]:
    out, lse, *_ = aten._scaled_dot_product_efficient_attention(
        query, key, value, None, True, 0.0, causal, scale=scale
    )
    return out, lse[..., : query.shape[2]]  # the kernel pads it to 32 queries


def _efficient_backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, out: Tensor, lse: Tensor, causal: bool, scale: float
) -> Keyed:  # fmt: skip
    padded = pad(lse, (0, -lse.shape[-1] % 32), value=torch.inf)
    none = torch.zeros((), dtype=torch.int64, device=query.device)
    return aten._scaled_dot_product_efficient_attention_backward(
        grad, query, key, value, None, out, padded, none, none, 0.0, [True, True, True, False], causal, scale=scale
    )[:3]  # fmt: skip


def _cudnn(query: Tensor, key: Tensor, value: Tensor, causal: bool, scale: float) -> tuple[Tensor, Tensor]:
    out, lse, *_ = aten._scaled_dot_product_cudnn_attention(
        query, key, value, None, True, 0.0, causal, False, scale=scale
    )
    return out, lse.view(query.shape[:3])  # some releases give it a last dimension of one


def _cudnn_backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, out: Tensor, lse: Tensor, causal: bool, scale: float
) -> Keyed:  # fmt: skip
    none = torch.zeros((), dtype=torch.int64, device=query.device)
    return aten._scaled_dot_product_cudnn_attention_backward(
        grad, query, key, value, out, lse[..., None], none, none, None, None, None, query.shape[2], key.shape[2],
        0.0, causal, scale=scale,
    )  # fmt: skip


def _of_device(on_cpu: Callable[..., Any], on_cuda: Callable[..., Any]) -> Callable[..., Any]:
    def run(*tensors: Any) -> Any:
        return (on_cuda if tensors[0].is_cuda else on_cpu)(*tensors)

    return run


@dataclass(frozen=True)
class Flat:
    """Run a variable-length kernel once on tiles laid end to end as [tokens, H, D]; it takes grouped heads."""

    run: Callable[..., tuple[Tensor, Tensor]]
    """Given query, key, value, both bounds, both longest, causal and scale: output [tokens, H, D] and
    log-sum-exp [H, tokens]."""
    derive: Callable[..., Keyed]

    def forward(self, tiles: Sequence[Keyed], causal: bool, scale: float) -> list[tuple[Tensor, Tensor]]:
        query, key, value = (_flat(part) for part in zip(*tiles, strict=True))
        out, lse = self.run(query, key, value, *_bounds(tiles), causal, scale)
        sizes = [tile[0].shape[1] for tile in tiles]
        return list(zip(_parts(out, sizes), lse.split(sizes, 1), strict=True))

    def backward(
        self, given: Sequence[Given], tiles: Sequence[Keyed], causal: bool, scale: float
    ) -> list[Keyed]:
        query, key, value = (_flat(part) for part in zip(*tiles, strict=True))
        grad, out = (_flat([one[i] for one in given]) for i in range(2))
        lse = torch.cat([one[2] for one in given], 1).contiguous()
        to_query, *to_keys = self.derive(grad, query, key, value, out, lse, *_bounds(tiles), causal, scale)
        queries, keys = ([tile[i].shape[1] for tile in tiles] for i in range(2))
        return list(zip(_parts(to_query, queries), *(_parts(part, keys) for part in to_keys), strict=True))  # pyright: ignore[reportReturnType]


def _flat(parts: Sequence[Tensor]) -> Tensor:
    whole = torch.cat([part.transpose(0, 1) for part in parts])
    if whole.numel() >= MOST_ELEMENTS:
        raise TrainError(
            f"train.kernel: what a kernel takes at once must stay below 2^31 elements (32-bit indices), got "
            f"{whole.numel()}; set train.chunk or raise train.sequence"
        )
    return whole


def _parts(whole: Tensor, sizes: list[int]) -> list[Tensor]:
    return [part.transpose(0, 1) for part in whole.split(sizes)]


def _bounds(tiles: Sequence[Keyed]) -> tuple[Tensor, Tensor, int, int]:
    """Return where each tile's queries and keys begin and end, and the longest of each."""
    device = tiles[0][0].device
    sizes = [[tile[i].shape[1] for tile in tiles] for i in range(2)]
    ends = [torch.tensor([0, *one], device=device).cumsum(0, dtype=torch.int32) for one in sizes]
    return ends[0], ends[1], max(sizes[0]), max(sizes[1])


def _varlen(
    query: Tensor, key: Tensor, value: Tensor, queries: Tensor, keys: Tensor, longest: int, most: int,
    causal: bool, scale: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    return aten._flash_attention_forward(
        query, key, value, queries, keys, longest, most, 0.0, causal, False, scale=scale
    )[:2]


def _varlen_backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, out: Tensor, lse: Tensor,
    queries: Tensor, keys: Tensor, longest: int, most: int, causal: bool, scale: float,
) -> Keyed:  # fmt: skip
    none = torch.zeros(2, dtype=torch.uint64, device=query.device)  # the generator's state, for dropout
    return aten._flash_attention_backward(
        grad, query, key, value, out, lse, queries, keys, longest, most, 0.0, causal, none, none, scale=scale
    )


def _flash(
    query: Tensor, key: Tensor, value: Tensor, queries: Tensor, keys: Tensor, longest: int, most: int,
    causal: bool, scale: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    from flash_attn.flash_attn_interface import (  # type: ignore[import-not-found]
        _flash_attn_varlen_forward,
    )

    out, lse, *_ = _flash_attn_varlen_forward(
        query, key, value, queries, keys, longest, most, 0.0, softmax_scale=scale, causal=causal
    )
    return out, lse


def _flash_backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, out: Tensor, lse: Tensor,
    queries: Tensor, keys: Tensor, longest: int, most: int, causal: bool, scale: float,
) -> Keyed:  # fmt: skip
    from flash_attn.flash_attn_interface import (  # type: ignore[import-not-found]
        _flash_attn_varlen_backward,
    )

    found = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
    _flash_attn_varlen_backward(
        grad, query, key, value, out, lse, *found, queries, keys, longest, most, 0.0, scale, causal,
        window_size_left=-1, window_size_right=-1, softcap=0.0, alibi_slopes=None, deterministic=True,
    )  # fmt: skip
    return found


_sdpa = Dense(_of_device(_on_cpu, _efficient), _of_device(_on_cpu_backward, _efficient_backward))
_fused = Dense(_cudnn, _cudnn_backward)
_laid_flat, _packaged = Flat(_varlen, _varlen_backward), Flat(_flash, _flash_backward)
sdpa = Pair("sdpa", _sdpa.forward, _sdpa.backward)
cudnn = Pair("cudnn", _fused.forward, _fused.backward)
varlen = Pair("varlen", _laid_flat.forward, _laid_flat.backward)
flash = Pair("flash", _packaged.forward, _packaged.backward)
