"""Dual chunk attention: positions restart in chunks, distances across are capped (An et al., 2402.17463).

With s = chunk, w = window and c = s - w, a key at n stands at n mod c, and a query at m stands at
    m mod c               for keys of its own chunk of c tokens,
    min(m mod c + c, s)   for keys of the chunk before, true to distance for the nearest w,
    min(2c - 1, s)        for keys of all earlier chunks.
This is the released code (ChunkLlama), with its sizes as defaults. The paper has chunks of 3/4 L and the cap
L - 1, which is chunk = L - 1, window = L / 4 - 1 here. The code also scales cos and sin by
0.05 ln(length / L) + 1, which the paper's results do without: knob `attention_scale`.

Qwen's long models (2501.15383) have chunk = L, and beyond L the scores grow with YaRN's temperature, times
(0.1 ln(n / L) + 1)^2: knob `log_scale`. Here n is a token's own place, so that a token scores the same in a
prompt and in generation; their engine takes the length of the whole prompt for all of its tokens.
"""

from collections.abc import Mapping
from typing import Annotated, Any, NoReturn, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..keys import DUAL_CHUNK
from ..relative import AttentionScheme, Band
from ..scheme import Array, Base, Frequencies, NotExpressible, Positive, RopeError, Tokens, scheme

SIZES = ("chunk_size", "local_size")
"what Qwen's configs state of it, beside the original length"
QWEN_LOG_SCALE = 0.1
"YaRN's 0.1 ln s + 1 (2309.00071), always on in Qwen's reader where an original length is stated"


@scheme("dca")
class Dca(AttentionScheme):
    """Attend within a chunk, to the chunk before and to all earlier ones, at positions up to s."""

    hf_type = DUAL_CHUNK
    hf_keys = frozenset(SIZES) | {
        # A sparse prefill is how Qwen's reader gets near the same attention faster.
        "sparse_attention_config",
        "sparse_attention_enabled",
        "sparse_attention_last_q",
        "sparse_attention_threshold",
    }

    chunk: Annotated[int, Field(ge=2)] | None = None
    "s, the largest relative position, tokens; None: three quarters of original_length"
    window: Tokens | None = None
    "w, tokens across a chunk's border that keep their own distance; None: an eighth of original_length"
    attention_scale: Positive = 1.0
    "scalar on cos and sin"
    log_scale: Annotated[float, Field(ge=0, le=10)] = 0.0
    "k, scores of the n-th token times (1 + k ln(n / L))^2 beyond original_length L; Qwen's is 0.1"

    def sizes(self, base: Base) -> tuple[int, int]:
        """Return s, inside the original window, and c, the tokens of a chunk."""
        return self._sizes(base.original_length)

    def _sizes(self, length: int) -> tuple[int, int]:
        chunk = length * 3 // 4 if self.chunk is None else self.chunk
        window = max(1, length // 8) if self.window is None else self.window
        if chunk > length:
            raise RopeError(
                f"rope.dca.chunk: must be at most original_length {length} tokens, got {chunk}; "
                f"three quarters of it, {length * 3 // 4}, is usual"
            )
        if window >= chunk:
            raise RopeError(
                f"rope.dca.window: must be below the chunk of {chunk} tokens, got {window}; "
                "a sixth of the chunk is usual"
            )
        return chunk, chunk - window

    def bands(self, base: Base, *, target_length: int) -> tuple[Band, ...]:
        """Return the bands of a query's own chunk, of the one before and of all earlier ones."""
        s, c = self.sizes(base)
        own = Band(keys=lambda m: (m - m % c, m + 1), query=lambda m: m % c, key=lambda n: n % c)
        before = Band(
            keys=lambda m: (max(0, m - m % c - c), m - m % c),
            query=lambda m: (m % c + c).clip(max=s),
            key=lambda n: n % c,
        )
        earlier = Band(
            keys=lambda m: (0, max(0, m - m % c - c)),
            query=lambda m: (0 * m + 2 * c - 1).clip(max=s),
            key=lambda n: n % c,
        )
        return own, before, earlier

    def period(self, base: Base, *, target_length: int) -> int:
        """Return c."""
        return self.sizes(base)[1]

    def largest_position(self, base: Base, *, target_length: int) -> int:
        """Return the position of the far queries, or the last token's where there is no far key yet."""
        s, c = self.sizes(base)
        return min(target_length - 1, s, 2 * c - 1)

    def frequencies(self, base: Base, *, target_length: int, length: int | None = None) -> Frequencies:
        """Return the unscaled frequencies and the attention scale."""
        return Frequencies(inv_freq=base.unscaled()[None], attention_scale=float(self.attention_scale))

    def score_scale(self, base: Base, places: NDArray[np.int64]) -> Array | None:
        """Return (1 + k ln(n / L))^2 for n tokens up to each query, itself included, from n = L on."""
        if not self.log_scale or places[-1] < base.original_length:
            return None
        growth = np.maximum((places + 1) / base.original_length, 1.0)
        return (1 + self.log_scale * np.log(growth)) ** 2

    @classmethod
    def from_hf(cls, parameters: Mapping[str, Any], *, original_length: int, trained_length: int) -> Self:
        """Read Qwen's `dual_chunk_attention_config`."""
        if missing := [key for key in SIZES if parameters.get(key) is None]:
            raise RopeError(
                f"config.{DUAL_CHUNK}: must state {' and '.join(SIZES)}, got no {' and '.join(missing)}; "
                "complete it (Qwen2.5-1M has 262144 and 8192)"
            )
        made = cls(chunk=parameters["chunk_size"], window=parameters["local_size"], log_scale=QWEN_LOG_SCALE)
        made._sizes(original_length)
        return made

    def to_hf(self, base: Base, *, target_length: int) -> NoReturn:
        """Say who has it."""
        raise NotExpressible(
            "rope.dca: must be a scheme that rope_parameters can express, got relative positions in chunks "
            f"of {self.chunk or 's'} tokens; serve it with ropewalk, no engine that reads this config has it"
        )
