"""Causal attention inside groups: one function a kernel, all with the same answer.

Shapes: query [B, Hq, S, D], key and value [B, Hkv, S, D] over the whole pack, already rotated;
groups, one list a row of half-open spans that cover [0, S); result [B, Hq, S, D].
Tokens attend causally inside their span and never outside it; with a sliding `window`, to that many tokens,
their own included.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from importlib.util import find_spec

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from ..errors import TrainError
from ..layout import MOST_ELEMENTS

Groups = Sequence[Sequence[tuple[int, int]]]
Kernel = Callable[..., Tensor]


def sdpa(
    query: Tensor, key: Tensor, value: Tensor, groups: Groups, scale: float, window: int | None = None
) -> Tensor:
    """Run torch's SDPA on each group's own span, equal spans of a batch together."""
    by_size: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for row, spans in enumerate(groups):
        for start, stop in spans:
            by_size[stop - start].append((row, start))
    pieces: dict[tuple[int, int], Tensor] = {}
    for size, places in by_size.items():
        q, k, v = (
            torch.stack([x[row, :, start : start + size] for row, start in places])
            for x in (query, key, value)
        )
        out = _causal(q, k, v, scale, window)
        pieces.update(zip(places, out.unbind(), strict=True))
    rows = [torch.cat([pieces[row, start] for start, _ in spans], 1) for row, spans in enumerate(groups)]
    return torch.stack(rows)


def _causal(q: Tensor, k: Tensor, v: Tensor, scale: float, window: int | None) -> Tensor:
    """Attend within one span [N, H, S, D]; in blocks of a shorter window, each with the one before."""
    size = q.shape[2]
    if window is None or window >= size:
        return scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=True)
    blocks = []
    for start in range(0, size, window):
        queries, keys = (
            slice(start, min(start + window, size)),
            slice(max(0, start - window + 1), start + window),
        )
        at = torch.arange(size, device=q.device)
        distance = at[queries, None] - at[keys]
        near = (distance >= 0) & (distance < window)
        part = q[:, :, queries], k[:, :, keys], v[:, :, keys]
        blocks.append(scaled_dot_product_attention(*part, near, scale=scale, enable_gqa=True))
    return torch.cat(blocks, 2)


def cudnn(
    query: Tensor, key: Tensor, value: Tensor, groups: Groups, scale: float, window: int | None = None
) -> Tensor:
    """Run the same spans through cuDNN's fused attention."""
    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
        return sdpa(query, key, value, groups, scale, window)


def flex(
    query: Tensor, key: Tensor, value: Tensor, groups: Groups, scale: float, window: int | None = None
) -> Tensor:
    """Run FlexAttention with a block mask of group ids."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    rows, _, length, _ = query.shape
    reach = length if window is None else window
    ids = torch.zeros(rows, length, dtype=torch.int32, device=query.device)
    for row, spans in enumerate(groups):
        for number, (start, stop) in enumerate(spans):
            ids[row, start:stop] = number

    def same_group_causal(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return (ids[b, q] == ids[b, k]) & (q >= k) & (q - k < reach)

    mask = create_block_mask(same_group_causal, rows, None, length, length, device=str(query.device))
    run = torch.compile(flex_attention, dynamic=True) if query.is_cuda else flex_attention
    return run(query, key, value, block_mask=mask, scale=scale, enable_gqa=True)  # type: ignore[return-value]


def varlen(
    query: Tensor, key: Tensor, value: Tensor, groups: Groups, scale: float, window: int | None = None
) -> Tensor:
    """Run torch's variable-length attention (torch.nn.attention.varlen, CUDA)."""
    from torch.nn.attention.varlen import varlen_attn

    left = -1 if window is None else window - 1

    def run(q: Tensor, k: Tensor, v: Tensor, bounds: Tensor, longest: int) -> Tensor:
        ratio = q.shape[1] // k.shape[1]  # no grouped heads in every release: repeat k and v
        k, v = (x.repeat_interleave(ratio, 1) for x in (k, v))
        return varlen_attn(q, k, v, bounds, bounds, longest, longest, scale=scale, window_size=(left, 0))  # type: ignore[return-value]

    return _flattened(run, query, key, value, groups)


def flash(
    query: Tensor, key: Tensor, value: Tensor, groups: Groups, scale: float, window: int | None = None
) -> Tensor:
    """Run flash-attn's variable-length kernel (extra `flash`, CUDA)."""
    from flash_attn import flash_attn_varlen_func  # type: ignore[import-not-found]

    left = -1 if window is None else window - 1

    def run(q: Tensor, k: Tensor, v: Tensor, bounds: Tensor, longest: int) -> Tensor:
        return flash_attn_varlen_func(
            q, k, v, bounds, bounds, longest, longest, softmax_scale=scale, causal=True, window_size=(left, 0)
        )

    return _flattened(run, query, key, value, groups)


def _flattened(
    run: Callable[..., Tensor], query: Tensor, key: Tensor, value: Tensor, groups: Groups
) -> Tensor:
    """Lay the rows end to end as [tokens, heads, D], the form that variable-length kernels take."""
    rows, heads, length, width = query.shape
    if query.numel() >= MOST_ELEMENTS:
        raise TrainError(
            f"train.kernel: a rank's queries must stay below 2^31 elements (32-bit kernel indices), "
            f"got {query.numel()}; raise train.sequence"
        )
    flat = [x.transpose(1, 2).reshape(rows * length, x.shape[1], width) for x in (query, key, value)]
    ends = [row * length + stop for row, spans in enumerate(groups) for _, stop in spans]
    bounds = torch.tensor([0, *ends], dtype=torch.int32, device=query.device)
    longest = max(stop - start for spans in groups for start, stop in spans)
    return run(*flat, bounds, longest).view(rows, length, heads, width).transpose(1, 2)


KERNELS: dict[str, Kernel] = {"sdpa": sdpa, "cudnn": cudnn, "flex": flex, "varlen": varlen, "flash": flash}
OWNERS = {"varlen": "torch.nn.attention.varlen", "flash": "flash_attn"}


def choose_kernel(name: str, device: torch.device) -> Kernel:
    """Resolve `train.kernel`; "auto" is torch's varlen on CUDA where there is one, else SDPA on spans."""
    if name == "auto":
        name = "varlen" if device.type == "cuda" and is_installed("varlen") else "sdpa"
    if device.type != "cuda" and name != "sdpa":
        raise TrainError(f"train.kernel: must be sdpa on {device.type}, got {name}; leave it at auto")
    if not is_installed(name):
        raise TrainError(
            f"train.kernel: needs the module {OWNERS[name]}, got {name} without it; install it or use auto"
        )
    return KERNELS[name]


def is_installed(name: str) -> bool:
    """Tell whether the module that holds a kernel is there, without importing it."""
    return name not in OWNERS or find_spec(OWNERS[name]) is not None
