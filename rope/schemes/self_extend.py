"""Self-Extend: near keys at their distance, far keys at grouped positions (Jin et al., 2401.01325).

    rel(m, n) = m - n                                           where m - n < w
                floor(m / G) - floor(n / G) + w - floor(w / G)  elsewhere

The authors' eager code shifts by w - w / G, no whole number where w % G != 0; we follow the formula. About
(L - w) G + w tokens fit into a window of L. The authors advise to stay within 1/2 to 2/3 of it, since large
distances are the least trained: a larger group or a smaller window than the defaults.
"""

import math
from typing import NoReturn

from ..relative import AttentionScheme, Band
from ..scheme import Base, NotExpressible, RopeError, Tokens, scheme


@scheme("self-extend")
class SelfExtend(AttentionScheme):
    """Attend to the last w tokens as ever and to the others in groups of G."""

    group: Tokens | None = None
    "G, tokens that share a far position; None: the smallest that fits target_length into the window"
    window: Tokens | None = None
    "w, tokens at their own distance; None: half of original_length"

    def window_for(self, base: Base) -> int:
        """Return w, below the original length."""
        window = max(1, base.original_length // 2) if self.window is None else self.window
        if window >= base.original_length:
            raise RopeError(
                f"rope.self-extend.window: must be below original_length {base.original_length} tokens, got "
                f"{window}; half of it is usual"
            )
        return window

    def group_for(self, base: Base, target_length: int) -> int:
        """Return G, large enough that no relative position leaves the original window."""
        window = self.window_for(base)
        smallest = _smallest_group(base.original_length, window, target_length)
        group = smallest if self.group is None else self.group
        largest = _largest(group, window, target_length)
        if largest >= base.original_length:
            raise RopeError(
                f"rope.self-extend.group: must keep the distances of {target_length} tokens below "
                f"original_length {base.original_length}, got {group}, which with window {window} makes "
                f"{largest} of the largest; use {smallest}"
            )
        return group

    def bands(self, base: Base, *, target_length: int) -> tuple[Band, ...]:
        """Return the near band, keys (m - w, m], and the far one, keys [0, m - w]."""
        window, group = self.window_for(base), self.group_for(base, target_length)
        near = Band(keys=lambda m: (max(0, m - window + 1), m + 1), query=lambda m: m, key=lambda n: n)
        far = Band(
            keys=lambda m: (0, max(0, m - window + 1)),
            query=lambda m: m // group + window - window // group,
            key=lambda n: n // group,
        )
        return near, far

    def period(self, base: Base, *, target_length: int) -> int:
        """Return w: it is at the first w tokens that the far band begins."""
        return self.window_for(base)

    def largest_position(self, base: Base, *, target_length: int) -> int:
        """Return the last token's relative position to the first."""
        return _largest(self.group_for(base, target_length), self.window_for(base), target_length)

    def to_hf(self, base: Base, *, target_length: int) -> NoReturn:
        """Say who else has it."""
        raise NotExpressible(
            "rope.self-extend: must be a scheme that rope_parameters can express, got relative positions in "
            f"groups of {self.group or 'G'}; serve it with ropewalk, or with llama.cpp's completion tool "
            "(--grp-attn-n, --grp-attn-w; its server has neither)"
        )


def _largest(group: int, window: int, length: int) -> int:
    """Return the largest relative position among `length` tokens."""
    return length - 1 if length <= window else (length - 1) // group + window - window // group


def _smallest_group(original_length: int, window: int, length: int) -> int:
    """Return the smallest group whose relative positions stay below the original length."""
    group = max(1, math.ceil((length - window) / (original_length - window)))
    # No smaller group fits; this one may miss by what the floors round off.
    while _largest(group, window, length) >= original_length:
        group += 1
    return group
