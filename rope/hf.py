"""How does Hugging Face write down a model's rope? Read every layout of it, write the one all versions read.

Transformers 4 has `rope_theta` and `rope_scaling`, transformers 5 has `rope_parameters` with both inside, and
the older silently falls back to theta 10000 on the newer's files. So we read both, refuse where they differ
or say nothing, and write both. A scheme without a `rope_type` of its own goes into the longrope type.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from .analysis import frequency_error, scale_error
from .families import FULL, ONLY_LONGROPE, SLIDING, check_supported, completed, heads, whole, windows
from .fields import wrong_fields
from .keys import DUAL_CHUNK, LENGTHS, check_keys, in_chunks
from .knobs import checked, shown
from .layouts import stated_parameters
from .original import ORIGINAL, original_length_of
from .scheme import (
    SCHEMES,
    Base,
    Frequencies,
    NotExpressible,
    RopeError,
    Scheme,
    check_window,
    make_scheme,
)

_COMMON = {"rope_type", "rope_theta", "partial_rotary_factor", ORIGINAL}
ALIKE = 1e-9
"largest relative difference of what two layouts of one file compute"
ROPE_TYPE = "longrope"
"the type that holds any frequencies which are the same for every head and position"


def read_base(
    config: Any, *, original_length: int | None = None, trained_length: int | None = None
) -> dict[str, Base]:
    """Return the `Base` of each layer type of a config object or of its dict, refusing to guess.

    `original_length` and `trained_length` (tokens) override what the config says. Raises RopeError for a
    model we do not support, for a missing theta, for layouts that contradict each other, and for a scheme
    that could not be computed. Where a scaled model's original length is nowhere stated, the base has
    `guesses`, from which no scheme computes.
    """
    for name, tokens in (("original_length", original_length), ("trained_length", trained_length)):
        if tokens is not None:
            check_window(name, tokens)
    fields = _fields(config)
    check_supported(fields)
    check_keys(fields)
    counts = heads(fields)
    trained = whole(fields, "max_position_embeddings") if trained_length is None else trained_length
    types = windows(fields, trained)
    bases = {}
    for layer_type, window in types.items():
        merged, *alone = (
            in_chunks(fields, layer_type, s) for s in stated_parameters(fields, layer_type, types)
        )
        read = partial(_read, fields, heads=counts, window=window, lengths=(original_length, trained))
        bases[layer_type] = base = read(merged)
        for other in alone:
            if not _same(base, read(other)):
                lost = ", ".join(key for key, value in merged.items() if other.get(key) != value)
                raise RopeError(
                    "config.rope_scaling: must say all that rope_parameters says, it is read alone, got no "
                    f"{lost}; write that there too, or delete one of the two"
                )
    return bases


def _fields(config: Any) -> dict[str, Any]:
    """Return the fields of a config object or dict, each of its type and within bounds."""
    if not isinstance(config, Mapping) and not hasattr(config, "to_dict"):
        raise RopeError(f"config: must be an object, got {shown(config)}; read it from a model's config.json")
    fields = dict(config) if isinstance(config, Mapping) else config.to_dict()
    if wrong := list(wrong_fields(fields)):
        raise RopeError("\n".join(wrong))
    return completed(fields)


def rope_parameters(
    model_type: str, bases: Mapping[str, Base], scheme: Scheme, *, target_length: int
) -> dict[str, Any]:
    """Return transformers 5 `rope_parameters` with this scheme on the layers that see everything.

    Raises NotExpressible where Hugging Face has no words for the scheme, or this model type's config has not.
    """
    base = bases[FULL]
    if scheme != base.current or target_length != base.trained_length:
        base.require_stated()
    full = scheme.to_hf(base, target_length=target_length)
    if model_type in ONLY_LONGROPE and full["rope_type"] not in ("default", "longrope"):
        if scheme.depends_on_length:
            raise NotExpressible(
                f"rope.{scheme.name}: must be one set of frequencies for a config of {model_type}, which "
                f"takes no scaling but longrope, got one for each length; use a static scheme"
            )
        frequencies = scheme.frequencies(base, target_length=target_length)
        full = static_container(base, frequencies, target_length=target_length)
    if base.guesses:
        full.pop(ORIGINAL, None)  # what nobody stated is not written
    others = {
        name: b.current.to_hf(b, target_length=b.trained_length) for name, b in bases.items() if name != FULL
    }
    return others | {FULL: full} if others else full


def config_fields(
    config: Mapping[str, Any], bases: Mapping[str, Base], scheme: Scheme, *, target_length: int
) -> dict[str, Any]:
    """Return the config dict with this scheme in both layouts, read alike by transformers 4.57 and 5."""
    model_type, base = str(config.get("model_type")), bases[FULL]
    if config.get(DUAL_CHUNK) and scheme == base.current:
        # Transformers passes over what the model came with: beside it stands the rope without it.
        plain = config_fields(config, bases, make_scheme("default"), target_length=target_length)
        return plain | {DUAL_CHUNK: config[DUAL_CHUNK]}
    parameters = rope_parameters(model_type, bases, scheme, target_length=target_length)
    full = parameters.get(FULL, parameters)
    elsewhere = ("rope_theta", "partial_rotary_factor")
    scaling = {key: value for key, value in full.items() if key not in elsewhere}
    kind = scaling["rope_type"]
    # Readers let a top-level original length win over the scheme's own; Phi-3's config cannot do without.
    kept = {key: value for key, value in config.items() if key not in (ORIGINAL, DUAL_CHUNK)}
    if model_type in ONLY_LONGROPE:
        kept[ORIGINAL] = base.original_length
    kept["rope_parameters"] = parameters
    kept["rope_theta"] = full["rope_theta"]
    window = kept["max_position_embeddings"] = scheme.hf_window(base, target_length=target_length)
    kept |= {key: window for key in LENGTHS if config.get(key) is not None}
    kept["rope_scaling"] = None if kind == "default" else _older(scaling, model_type, base, window)
    if model_type == "mistral":
        # Transformers 4.57 multiplies by it where a scheme needs the head size, and has no default for it.
        kept["head_dim"] = base.head_dim
    if SLIDING in bases:
        kept["rope_local_base_freq"] = bases[SLIDING].theta
    if scaling.get(ORIGINAL) == window:
        kept[ORIGINAL] = window  # else it would look like what transformers fills in
    if "partial_rotary_factor" in full:
        kept["partial_rotary_factor"] = full["partial_rotary_factor"]
    return kept


def _older(scaling: Mapping[str, Any], model_type: str, base: Base, window: int) -> dict[str, Any]:
    """Return the scaling as transformers 4 wants it.

    Its Phi-3 refuses all but three keys. They lose the attention scale, which only LongRoPE's own formula of
    both windows gives back; where it does not, all keys stay, and that reader stops instead of computing
    something else.
    """
    kind = scaling["rope_type"]
    lists = {key: scaling[key] for key in ("short_factor", "long_factor") if key in scaling}
    formula = longrope_scale(window / base.original_length, base.original_length)
    if model_type in ONLY_LONGROPE and lists and math.isclose(scaling["attention_factor"], formula):
        return {"type": kind, **lists}
    return {**scaling, "type": kind}


def _read(
    fields: Mapping[str, Any],
    parameters: Mapping[str, Any],
    *,
    heads: tuple[int, int, int],
    window: int | None,
    lengths: tuple[int | None, int],
) -> Base:
    """Return the base that one set of rope parameters means, and refuse one that fails when it is used."""
    (query_heads, kv_heads, head_dim), (stated, trained) = heads, lengths
    original, guesses = original_length_of(fields, parameters, stated)
    share = parameters.get("partial_rotary_factor")
    base = Base(
        head_dim=head_dim,
        rotary_dim=head_dim if share is None else int(head_dim * share),
        theta=float(parameters["rope_theta"]),
        original_length=original,
        trained_length=trained,
        query_heads=query_heads,
        kv_heads=kv_heads,
        window=window,
        current=_current(parameters, original, trained),
        guesses=guesses,
    )
    for length in (original, trained):
        base.current.frequencies(base, target_length=trained, length=length)
    return base


def _same(one: Base, other: Base) -> bool:
    """Say whether two bases turn alike, at the ends of their windows and beyond them."""
    ends = {one.original_length, other.original_length, one.trained_length}
    lengths = ends | {end + 1 for end in ends}
    found = [
        [base.current.frequencies(base, target_length=base.trained_length, length=n) for n in lengths]
        for base in (one, other)
    ]
    return all(
        frequency_error(*pair) <= ALIKE and scale_error(*pair) <= ALIKE for pair in zip(*found, strict=True)
    )


def _current(parameters: Mapping[str, Any], original: int, trained: int) -> Scheme:
    """Return the scheme that these parameters mean."""
    kinds = {cls.hf_type: cls for cls in SCHEMES.values() if cls.hf_type is not None}
    kind = parameters["rope_type"]
    if kind not in kinds:
        raise RopeError(
            f"config.rope_type: must be one of {', '.join(sorted(set(kinds) - {DUAL_CHUNK}))}, got {kind!r}; "
            "start from a checkpoint without it, other types are not supported yet"
        )
    unknown = sorted(set(parameters) - _COMMON - kinds[kind].hf_keys)
    if unknown:
        raise RopeError(
            f"config.rope_parameters: must hold only what the {kind} scheme reads, got {', '.join(unknown)}; "
            "remove these keys if they have no effect"
        )
    with checked(kinds[kind], where=f"rope.{kinds[kind].name}."):
        return kinds[kind].from_hf(parameters, original_length=original, trained_length=trained)


def static_container(
    base: Base, frequencies: Frequencies, target_length: int, *, short: Frequencies | None = None
) -> dict[str, Any]:
    """Return longrope `rope_parameters` that give these frequencies at every length.

    That type is two lists of divisors and one attention factor, so it holds any frequencies that are the same
    for every head and position: equal lists make it static. Divisors may fall below 1, which no reader minds.
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


def longrope_scale(factor: float, original_length: float) -> float:
    """Return sqrt(1 + ln s / ln L), LongRoPE's attention scale, above a factor of 1 (2402.13753)."""
    return math.sqrt(1 + math.log(factor) / math.log(original_length)) if factor > 1 else 1.0
