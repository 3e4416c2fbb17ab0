"""How are q and k turned? Angles in float64 from whole positions, the turn in float32, one table a step.

Angles in float32 are off by 0.06 in cos at a million tokens and by 0.5 at eight; in float64 by 1e-9 radians.
The table is a plain Python object's memo: a module's buffer would be cast by `.to()` and by DeepSpeed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .families import FULL
from .record import Installed
from .scheme import Frequencies, RopeError

CHUNK = 1 << 16
"positions turned into angles at a time: bounds the float64 scratch to 32 MiB a chunk at 64 frequencies"
BLOCK = 1 << 17
"values of q or k turned at a time on a CPU, so that what lies between stays in its cache"


@dataclass(frozen=True)
class Table:
    """Hold cos and sin, times the attention scale, each [B or 1, 1 or kv_heads, S, rotary_dim / 2]."""

    cos: Tensor
    sin: Tensor


def rotation_table(
    positions: Tensor,
    frequencies: Frequencies,
    dtype: torch.dtype = torch.float32,
    *,
    angles_in: torch.dtype = torch.float64,
) -> Table:
    """Return cos and sin of position * frequency at whole positions [B, S], as `dtype`.

    `angles_in` float32 gives what common readers compute, to measure how far they drift.
    """
    inv_freq, first = (
        None
        if part is None
        else torch.as_tensor(part, device=positions.device, dtype=angles_in)[None, :, None, :]
        for part in (frequencies.inv_freq, frequencies.first_inv_freq)
    )
    assert inv_freq is not None
    batch, length = positions.shape
    shape = (batch, inv_freq.shape[1], length, inv_freq.shape[3])
    cos = torch.empty(shape, dtype=dtype, device=positions.device)
    sin = torch.empty_like(cos)
    for start in range(0, length, CHUNK):
        span = slice(start, start + CHUNK)
        at = positions[:, None, span, None]
        angles = at.to(angles_in) * inv_freq
        scale: Tensor | float = frequencies.attention_scale
        if first is not None:
            early = at < frequencies.first_tokens
            angles = torch.where(early, at.to(angles_in) * first, angles)
            scale = angles.new_full((), frequencies.attention_scale).where(~early, 1.0)
        cos[:, :, span] = angles.cos() * scale
        sin[:, :, span] = angles.sin() * scale
    return Table(cos, sin)


def rotate(x: Tensor, table: Table, dtype: torch.dtype) -> Tensor:
    """Turn x [B, H, S, head_dim] in the table's precision and return it as `dtype`.

    Channel i pairs with channel i + rotary_dim / 2 (the half layout of Hugging Face's Llama); channels from
    rotary_dim on are left alone. Where the table has a row for each kv head, the query heads of a group use
    their kv head's.
    """
    cos, sin = _per_head(table.cos, x.shape[1]), _per_head(table.sin, x.shape[1])
    return _Turn.apply(x, cos, sin, dtype)  # pyright: ignore[reportReturnType]


class _Turn(torch.autograd.Function):
    """Turn by a table; a gradient is turned back by the same one, so that nothing else is kept for it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor, dtype: torch.dtype) -> Tensor:
        """Return x turned, as `dtype`."""
        ctx.save_for_backward(cos, sin)
        ctx.dtype = x.dtype
        return _turned(x, cos, sin, dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the gradient turned back, as x's type."""
        cos, sin = ctx.saved_tensors
        return _Turn.apply(grad, cos, -sin, ctx.dtype), None, None, None  # pyright: ignore[reportReturnType]


def _turned(x: Tensor, cos: Tensor, sin: Tensor, dtype: torch.dtype) -> Tensor:
    """Return x [B, H, S, D] turned by cos and sin [B or 1, 1 or H, S, rotary_dim / 2], in their precision."""
    half, length = cos.shape[-1], x.shape[2]
    out = torch.empty_like(x, dtype=dtype)
    out[..., 2 * half :] = x[..., 2 * half :]
    tokens = max(1, BLOCK // max(1, x[:, :, :1, :half].numel())) if x.device.type == "cpu" else length
    for start in range(0, length, tokens):
        span = slice(start, start + tokens)
        c, s = cos[:, :, span], sin[:, :, span]
        first, second = x[:, :, span, : 2 * half].to(c.dtype).chunk(2, dim=-1)
        out[:, :, span, :half] = (first * c).sub_(second * s)
        out[:, :, span, half : 2 * half] = (second * c).add_(first * s)
    return out


def _cached_positions(positions: Tensor, last_slot: int, slots: int) -> Tensor:
    """Return where the keys of a cache stand, [B or 1, slots], given the queries' positions [B or 1, S]."""
    return positions[:, -1:] - last_slot + torch.arange(slots, device=positions.device)


def _per_head(table: Tensor, heads: int) -> Tensor:
    """Repeat the kv heads' rows [B, kv_heads, S, D] for the query heads of their groups."""
    rows = table.shape[1]
    assert heads % rows == 0, (heads, rows)
    return table if rows in (1, heads) else table.repeat_interleave(heads // rows, dim=1)


class Rotary:
    """Turn q and k by a model's frequencies, keeping the last step's tables for the layers that share it.

    Where the scheme depends on the length, `by_length` is asked for the frequencies of each sequence.
    """

    def __init__(
        self,
        frequencies: Frequencies,
        *,
        by_length: Installed | None = None,
        angles_in: torch.dtype = torch.float64,
    ) -> None:
        self.frequencies, self.by_length, self.angles_in = frequencies, by_length, angles_in
        self._seen: list[tuple[Tensor, object]] = []
        self._tables: dict[object, Table] = {}

    def __reduce__(self):
        """Copy and pickle without the tables."""
        return partial(Rotary, by_length=self.by_length, angles_in=self.angles_in), (self.frequencies,)

    def __call__(
        self,
        query: Tensor,
        key: Tensor,
        positions: Tensor,
        *,
        last_slot: int,
        dtype: torch.dtype,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return query [B, Hq, S, D] and key [B, Hkv, T, D] turned, as `dtype`.

        `positions` [B or 1, S] are the queries'. Keys are the same tokens when T == S. Else they come from a
        cache that holds them unturned and contiguous: the key in slot j stands at positions[-1] - last_slot +
        j, where `last_slot` is the slot of the last query. `lengths` [B or 1, 1 or S] is the length of the
        whole sequence that each token stands in, which only schemes that depend on it read.
        """
        precision = torch.promote_types(dtype, torch.float32)
        slots, length = key.shape[2], query.shape[2]
        own = self._table(positions, lengths, None, precision)
        kept = own if slots == length else self._table(positions, lengths, (last_slot, slots), precision)
        return rotate(query, own, dtype), rotate(key, kept, dtype)

    def _table(
        self, positions: Tensor, lengths: Tensor | None, cache: tuple[int, int] | None, dtype: torch.dtype
    ) -> Table:
        """Return the table of these positions, or of a cache's (last slot, slots), once for all layers."""
        given = [positions] if lengths is None or self.by_length is None else [positions, lengths]
        if len(given) != len(self._seen) or not all(map(_unchanged, given, self._seen)):
            self._tables = {}
            self._seen = [(x, x.clone() if x.is_inference() else x._version) for x in given]
        # A table made in inference mode cannot be saved for a later backward.
        name = (cache, dtype, torch.is_inference_mode_enabled())
        if name not in self._tables:
            at = positions if cache is None else _cached_positions(positions, *cache)
            self._tables[name] = self._make(at, lengths, dtype)
        return self._tables[name]

    def _make(self, at: Tensor, lengths: Tensor | None, dtype: torch.dtype) -> Table:
        """Build a table, each sequence by its own frequencies where the scheme depends on the length."""
        if self.by_length is None:
            return rotation_table(at, self.frequencies, dtype, angles_in=self.angles_in)
        if lengths is None:
            raise RopeError(
                f"rope.{self.by_length.scheme.name}: attention must be told the length of the sequence of "
                "each token, got none; pass lengths to the model beside attend"
            )
        sets = {n: self.by_length.at_length(FULL, n) for n in lengths.unique().tolist()}
        if len(sets) > 1:
            return _joined(at, lengths, sets, dtype, self.angles_in)
        [every] = sets.values()
        return rotation_table(at, every, dtype, angles_in=self.angles_in)


def _joined(
    at: Tensor,
    lengths: Tensor,
    sets: dict[int, Frequencies],
    dtype: torch.dtype,
    angles_in: torch.dtype,
) -> Table:
    """Return the table [B, heads, S, D] of tokens [B or 1, S] that differ in the length of their sequence."""
    at, lengths = torch.broadcast_tensors(at, lengths)
    some = next(iter(sets.values())).inv_freq
    cos = torch.empty((*at.shape, *some.shape), dtype=dtype, device=at.device)
    sin = torch.empty_like(cos)
    for length, frequencies in sets.items():
        mine = lengths == length
        part = rotation_table(at[mine][None], frequencies, dtype, angles_in=angles_in)
        cos[mine], sin[mine] = part.cos[0].transpose(0, 1), part.sin[0].transpose(0, 1)
    return Table(cos.transpose(1, 2), sin.transpose(1, 2))


def _unchanged(given: Tensor, seen: tuple[Tensor, object]) -> bool:
    """Say whether this is the tensor of the last call, unchanged since."""
    tensor, state = seen
    if given is not tensor:
        return False
    # Inference tensors count no versions, so their values are compared.
    if given.is_inference():
        return torch.equal(given, state)  # pyright: ignore[reportArgumentType]
    return given._version == state
