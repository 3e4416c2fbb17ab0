"""How does a scheme without a `rope_type` of its own reach other readers? In transformers' longrope type.

That type is two lists of divisors and one attention factor, so it holds any frequencies that are the same for
every head and position: equal lists make it static. Divisors may fall below 1, which no reader minds.
"""

from collections.abc import Sequence
from typing import Any

from .base import Base
from .scheme import Frequencies, NotExpressible, Scheme

ROPE_TYPE = "longrope"


def static_container(
    base: Base, frequencies: Frequencies, target_length: int, *, short: Frequencies | None = None
) -> dict[str, Any]:
    """Return longrope `rope_parameters` that give these frequencies at every length.

    With `short`, those hold up to original_length tokens. Raises NotExpressible where heads or first tokens
    rotate by frequencies of their own.
    """
    long_factors = divisors(base, frequencies)
    return container(
        base,
        long_factors=long_factors,
        short_factors=long_factors if short is None else divisors(base, short),
        attention_scale=frequencies.attention_scale,
        factor=max(1.0, target_length / base.original_length),
    )


def container(
    base: Base,
    *,
    long_factors: Sequence[float],
    short_factors: Sequence[float],
    attention_scale: float,
    factor: float,
) -> dict[str, Any]:
    """Write every key out: without attention_factor readers compute one, each from other lengths.

    vLLM and SGLang read the mscale pair in its place.
    """
    return Scheme().written(
        base,
        rope_type=ROPE_TYPE,
        factor=factor,
        original_max_position_embeddings=base.original_length,
        attention_factor=attention_scale,
        short_mscale=attention_scale,
        long_mscale=attention_scale,
        short_factor=list(short_factors),
        long_factor=list(long_factors),
    )


def divisors(base: Base, frequencies: Frequencies) -> list[float]:
    """Return lambda, unscaled / scaled inverse frequency [rotary_dim / 2]."""
    rows = len(frequencies.inv_freq)
    if rows != 1 or frequencies.first_tokens:
        got = f"{rows} rows" if rows != 1 else f"{frequencies.first_tokens} first tokens unscaled"
        raise NotExpressible(
            f"rope.to_hf: must be one row of frequencies for every position, got {got}; no engine reads "
            "more, serve it with ropewalk.rope.install"
        )
    return (base.unscaled() / frequencies.inv_freq[0]).tolist()
