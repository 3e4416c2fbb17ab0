"""What does a kernel compute on tiles? A pair: output and log-sum-exp forward, gradients from them backward.

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
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..errors import TrainError
from ..layout import MOST_ELEMENTS

aten = torch.ops.aten
Keyed = tuple[Tensor, Tensor, Tensor]
"""Query, key and value; or their gradients."""
Given = tuple[Tensor, Tensor, Tensor]
"""What backward is given of queries: the output's gradient, the output, the log-sum-exp."""
Result = tuple[Tensor, Tensor]
"""Output and log-sum-exp."""


@dataclass(frozen=True)
class Pair:
    """A kernel that is given a list of tiles, whether they are causal and the scores' scale."""

    name: str
    forward: Callable[[Sequence[Keyed], bool, float], list[Result]]
    backward: Callable[[Sequence[Given], Sequence[Keyed], bool, float], list[Keyed]]


@dataclass(frozen=True)
class Dense:
    """Run a kernel on [N, H, S, D] for tiles of equal sizes together; grouped heads are folded into N.

    Of a causal tile the keys of a group are expanded by a stride of 0; where all meet, a group's heads are
    more queries of its one kv head, which is then read once and gets one gradient.
    """

    run: Callable[[Keyed, bool, float], Result]
    derive: Callable[[Given, Keyed, bool, float], Keyed]

    def forward(self, tiles: Sequence[Keyed], causal: bool, scale: float) -> list[Result]:
        results: dict[int, Result] = {}
        for places in _alike(tiles):
            shape = (len(places), *tiles[places[0]][0].shape)
            out, lse = self.run(_folded([tiles[place] for place in places], causal), causal, scale)
            whole = zip(out.reshape(shape), lse.reshape(shape[:-1]), strict=True)
            results.update(zip(places, whole, strict=True))
        return [results[place] for place in range(len(tiles))]

    def backward(
        self, given: Sequence[Given], tiles: Sequence[Keyed], causal: bool, scale: float
    ) -> list[Keyed]:
        results: dict[int, Keyed] = {}
        for places in _alike(tiles):
            folded = _folded([tiles[place] for place in places], causal)
            grad, out, lse = (_stacked([given[place][i] for place in places]) for i in range(3))
            shape = folded[0].shape
            above = grad.reshape(shape), out.reshape(shape), lse.reshape(shape[:-1])
            to_query, *to_keys = self.derive(above, folded, causal, scale)
            query, key, _ = tiles[places[0]]
            parts = [to_query.reshape(len(places), *query.shape)]
            parts += [x.sum(1).view(len(places), *key.shape) for x in to_keys]
            results.update(zip(places, zip(*parts, strict=True), strict=True))
        return [results[place] for place in range(len(tiles))]


def _folded(tiles: Sequence[Keyed], causal: bool) -> Keyed:
    """Return query [N * Hkv, G, S, D], or [N * Hkv, 1, G * S, D], with key and value to fit it."""
    query, key, value = (_stacked(part) for part in zip(*tiles, strict=True))
    ratio = query.shape[1] // key.shape[1]
    query = query.unflatten(1, (-1, ratio)).flatten(0, 1)
    key, value = (x.flatten(0, 1)[:, None] for x in (key, value))
    if causal:
        return query, key.expand(-1, ratio, -1, -1), value.expand(-1, ratio, -1, -1)
    return query.flatten(1, 2)[:, None], key, value


def _stacked(parts: Sequence[Tensor]) -> Tensor:
    return parts[0][None] if len(parts) == 1 else torch.stack(list(parts))  # a lone one is not copied


def _alike(tiles: Sequence[Keyed]) -> list[list[int]]:
    """Group the places of tiles of the same shapes."""
    by_size: dict[tuple[int, int], list[int]] = defaultdict(list)
    for place, (query, key, _) in enumerate(tiles):
        by_size[query.shape[1], key.shape[1]].append(place)
    return list(by_size.values())


def _on_cpu(tile: Keyed, causal: bool, scale: float) -> Result:
    return aten._scaled_dot_product_flash_attention_for_cpu(*tile, 0.0, causal, scale=scale)


def _on_cpu_backward(given: Given, tile: Keyed, causal: bool, scale: float) -> Keyed:
    grad, *merged = given
    return aten._scaled_dot_product_flash_attention_for_cpu_backward(
        grad, *tile, *merged, 0.0, causal, scale=scale
    )


def _efficient(tile: Keyed, causal: bool, scale: float) -> Result:
    out, lse, *_ = aten._scaled_dot_product_efficient_attention(*tile, None, True, 0.0, causal, scale=scale)
    return out, lse[..., : out.shape[2]]  # the kernel pads it to 32 queries


def _efficient_backward(given: Given, tile: Keyed, causal: bool, scale: float) -> Keyed:
    grad, out, lse = given
    padded = pad(lse, (0, -lse.shape[-1] % 32), value=torch.inf)
    seeds, wanted = [_nothing(grad)] * 2, [True, True, True, False]
    return aten._scaled_dot_product_efficient_attention_backward(
        grad, *tile, None, out, padded, *seeds, 0.0, wanted, causal, scale=scale
    )[:3]


def _cudnn(tile: Keyed, causal: bool, scale: float) -> Result:
    out, lse, *_ = aten._scaled_dot_product_cudnn_attention(
        *tile, None, True, 0.0, causal, False, scale=scale
    )
    return out, lse.view(out.shape[:3])  # some releases give it a last dimension of one


def _cudnn_backward(given: Given, tile: Keyed, causal: bool, scale: float) -> Keyed:
    grad, out, lse = given
    query, key, _ = tile
    seeds, lengths = [_nothing(grad)] * 2, (query.shape[2], key.shape[2])
    return aten._scaled_dot_product_cudnn_attention_backward(
        grad, *tile, out, lse[..., None], *seeds, None, None, None, *lengths, 0.0, causal, scale=scale
    )


def _nothing(like: Tensor) -> Tensor:
    """Return a place in the generator's stream, for dropout that there is not."""
    return torch.zeros((), dtype=torch.int64, device=like.device)


class Bounds(NamedTuple):
    """Where each tile's queries and keys begin and end when laid end to end, and the longest of each."""

    queries: Tensor
    keys: Tensor
    longest_queries: int
    longest_keys: int


@dataclass(frozen=True)
class Flat:
    """Run a variable-length kernel once on tiles laid end to end, [tokens, H, D]; it takes grouped heads."""

    run: Callable[[Keyed, Bounds, bool, float], Result]
    """Output [tokens, H, D] and log-sum-exp [H, tokens]."""
    derive: Callable[[Given, Keyed, Bounds, bool, float], Keyed]

    def forward(self, tiles: Sequence[Keyed], causal: bool, scale: float) -> list[Result]:
        out, lse = self.run(_laid(tiles), _bounds(tiles), causal, scale)
        sizes = [tile[0].shape[1] for tile in tiles]
        return list(zip(_parts(out, sizes), lse.split(sizes, 1), strict=True))

    def backward(
        self, given: Sequence[Given], tiles: Sequence[Keyed], causal: bool, scale: float
    ) -> list[Keyed]:
        grads, outs, sums = zip(*given, strict=True)
        above = _end_to_end(grads), _end_to_end(outs), torch.cat(sums, 1).contiguous()
        found = self.derive(above, _laid(tiles), _bounds(tiles), causal, scale)
        sizes = [[tile[i].shape[1] for tile in tiles] for i in range(3)]
        return list(zip(*map(_parts, found, sizes), strict=True))  # pyright: ignore[reportReturnType]


def _laid(tiles: Sequence[Keyed]) -> Keyed:
    query, key, value = (_end_to_end(part) for part in zip(*tiles, strict=True))
    return query, key, value


def _end_to_end(parts: Sequence[Tensor]) -> Tensor:
    whole = torch.cat([part.transpose(0, 1) for part in parts])
    if whole.numel() >= MOST_ELEMENTS:
        raise TrainError(
            "train.kernel: what a kernel takes at once must stay below 2^31 elements (32-bit indices), got "
            f"{whole.numel()}; set train.chunk or raise train.sequence"
        )
    return whole


def _parts(whole: Tensor, sizes: list[int]) -> list[Tensor]:
    return [part.transpose(0, 1) for part in whole.split(sizes)]


def _bounds(tiles: Sequence[Keyed]) -> Bounds:
    sizes = [[tile[i].shape[1] for tile in tiles] for i in range(2)]
    device = tiles[0][0].device
    queries, keys = (torch.tensor([0, *one], device=device).cumsum(0, dtype=torch.int32) for one in sizes)
    return Bounds(queries, keys, max(sizes[0]), max(sizes[1]))


def _varlen(tile: Keyed, bounds: Bounds, causal: bool, scale: float) -> Result:
    out, lse, *_ = aten._flash_attention_forward(*tile, *bounds, 0.0, causal, False, scale=scale)
    return out, lse


def _varlen_backward(given: Given, tile: Keyed, bounds: Bounds, causal: bool, scale: float) -> Keyed:
    grad, *merged = given
    seeds = [torch.zeros(2, dtype=torch.uint64, device=grad.device)] * 2
    return aten._flash_attention_backward(grad, *tile, *merged, *bounds, 0.0, causal, *seeds, scale=scale)


def _flash(tile: Keyed, bounds: Bounds, causal: bool, scale: float) -> Result:
    out, lse, *_ = _flash_attn()._flash_attn_varlen_forward(
        *tile, *bounds, 0.0, softmax_scale=scale, causal=causal
    )
    return out, lse


def _flash_backward(given: Given, tile: Keyed, bounds: Bounds, causal: bool, scale: float) -> Keyed:
    grad, *merged = given
    query, key, value = tile
    found = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
    plain = {"window_size_left": -1, "window_size_right": -1, "softcap": 0.0, "alibi_slopes": None}
    _flash_attn()._flash_attn_varlen_backward(
        grad, *tile, *merged, *found, *bounds, 0.0, scale, causal, **plain, deterministic=True
    )
    return found


def _flash_attn() -> Any:
    import flash_attn.flash_attn_interface as interface  # type: ignore[import-not-found]

    return interface


def _of_device(on_cpu: Callable[..., Any], on_cuda: Callable[..., Any]) -> Callable[..., Any]:
    """Choose by the device of the first tensor of the first argument."""
    return lambda first, *rest: (on_cuda if first[0].is_cuda else on_cpu)(first, *rest)


def _pair(name: str, kernel: Dense | Flat) -> Pair:
    return Pair(name, kernel.forward, kernel.backward)


sdpa = _pair(
    "sdpa", Dense(_of_device(_on_cpu, _efficient), _of_device(_on_cpu_backward, _efficient_backward))
)
cudnn = _pair("cudnn", Dense(_cudnn, _cudnn_backward))
varlen = _pair("varlen", Flat(_varlen, _varlen_backward))
flash = _pair("flash", Flat(_flash, _flash_backward))
