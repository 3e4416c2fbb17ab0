"""Which kernel computes attention, and is it there? By name, for a device and a dtype.

All but `flex` are pairs (pairs.py), of which attention over many blocks of keys is made up.
"""

from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch import Tensor

from ..errors import TrainError
from .pairs import Pair, cudnn, flash, sdpa, varlen
from .tiles import Groups

Whole = Callable[..., Tensor]
"""Maps query [B, Hq, S, D], key and value [B, Hkv, S, D] over whole packs, `groups`, `scale` and a sliding
`window` (or none) to [B, Hq, S, D], and is differentiated by autograd."""
Kernel = Pair | Whole


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


KERNELS: dict[str, Kernel] = {"sdpa": sdpa, "cudnn": cudnn, "flex": flex, "varlen": varlen, "flash": flash}
OWNERS = {"flash": "flash_attn"}


def choose_kernel(name: str, device: torch.device, dtype: torch.dtype) -> Kernel:
    """Resolve `train.kernel`; "auto" is torch's varlen on CUDA for 16-bit numbers, else SDPA on spans."""
    if name == "auto":
        name = "varlen" if device.type == "cuda" and dtype.itemsize == 2 else "sdpa"
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
