"""Is every value in a folder's texts of a kind and size that readers can compute with?

What is no number, or beyond any model, is said here, and no reader is asked: some would stop with an error
that tells nothing, and some would take all memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..families import FULL, SLIDING
from .reader import LAYOUTS, ORIGINAL, Config

LARGEST_HEAD = 2**13
"channels; the readers' work grows with it"


@dataclass(frozen=True)
class Kind:
    """What a value must be."""

    says: str
    fits: Callable[[Any], bool]


def number(low: float, high: float, *, whole: bool = False) -> Kind:
    """Return numbers above `low` and up to `high`; NaN and infinity are none."""
    types = int if whole else (int, float)

    def fits(value: Any) -> bool:
        return isinstance(value, types) and not isinstance(value, bool) and low < value <= high

    return Kind(f"a {'whole ' * whole}number above {low:g} and up to {high:g}", fits)


def listed(item: Kind, most: int) -> Kind:
    """Return lists of one kind of value."""

    def fits(value: Any) -> bool:
        return isinstance(value, list | tuple) and 0 < len(value) <= most and all(map(item.fits, value))

    return Kind(f"a list of up to {most} values, each {item.says}", fits)


TEXT = Kind("text", lambda value: isinstance(value, str))
SWITCH = Kind("true or false", lambda value: isinstance(value, bool))
OBJECT = Kind("an object", lambda value: isinstance(value, Mapping))
COUNT = number(0, 2**20, whole=True)
TOKENS, THETA, RATIO = number(1, 2**40), number(1, 1e30), number(0, 1e9)
SHARED: dict[str, Kind] = {
    **dict.fromkeys((FULL, SLIDING, *LAYOUTS), OBJECT),
    "rope_theta": THETA,
    ORIGINAL: TOKENS,
    "partial_rotary_factor": number(0, 1),
}
"keys at the top level and in the layouts of the rope"
TOP: dict[str, Kind] = {
    **SHARED,
    **dict.fromkeys(("hidden_size", "vocab_size"), number(0, 2**24, whole=True)),
    **dict.fromkeys(("num_hidden_layers", "num_attention_heads", "num_key_value_heads"), COUNT),
    **dict.fromkeys(("use_sliding_window", "tie_word_embeddings"), SWITCH),
    "model_type": TEXT,
    "text_config": OBJECT,
    "head_dim": number(0, LARGEST_HEAD, whole=True),
    "max_position_embeddings": TOKENS,
    "rope_local_base_freq": THETA,
    "sliding_window": number(-1, 2**40),
    "layer_types": listed(TEXT, 2**16),
}
INSIDE: dict[str, Kind] = {
    **SHARED,
    **dict.fromkeys(("rope_type", "type"), TEXT),
    **dict.fromkeys(("factor", "attention_factor", "beta_fast", "beta_slow", "alpha", "attn_factor"), RATIO),
    **dict.fromkeys(("low_freq_factor", "high_freq_factor", "short_mscale", "long_mscale"), RATIO),
    **dict.fromkeys(("mscale", "mscale_all_dim", "mixed_b"), number(-1e9, 1e9)),
    **dict.fromkeys(("short_factor", "long_factor"), listed(RATIO, LARGEST_HEAD)),
    "truncate": SWITCH,
    "max_trained_positions": TOKENS,
}
OTHER_COUNT = number(-2, 2**20, whole=True)
"of what a config class makes as many of as it is told: layers, labels, experts"
OURS = {"scheme": TEXT, "knobs": OBJECT, "theta": THETA, "fingerprint": TEXT}
OURS |= dict.fromkeys(("original_length", "target_length"), number(1, 2**40, whole=True))
"what ropewalk.json must say of the rope"


def type_faults(config: Config) -> Iterator[str]:
    """Yield what is wrong with single values of config.json, whoever reads it."""
    counts = {k: OTHER_COUNT for k, v in config.items() if k.startswith("num_") and type(v) is int}
    yield from _wrong("config", config, counts | TOP)
    for layout in (name for name in LAYOUTS if isinstance(config.get(name), Mapping)):
        yield from _wrong(f"config.{layout}", config[layout], INSIDE)
        for layer_type in (FULL, SLIDING):
            if isinstance(nested := config[layout].get(layer_type), Mapping):
                yield from _wrong(f"config.{layout}.{layer_type}", nested, INSIDE)
    width, heads = config.get("hidden_size"), config.get("num_attention_heads")
    if (
        config.get("head_dim") is None
        and (isinstance(width, int) and isinstance(heads, int) and heads > 0)
        and not 1 <= width // heads <= LARGEST_HEAD
    ):
        yield (
            f"config.hidden_size: must be 1 to {LARGEST_HEAD} times num_attention_heads {heads}, got "
            f"{width}; repair it"
        )


def _wrong(where: str, values: Mapping[str, Any], kinds: Mapping[str, Kind]) -> Iterator[str]:
    for key, kind in kinds.items():
        if (value := values.get(key)) is not None and not kind.fits(value):
            yield _fault(f"{where}.{key}", kind, value)


def length_faults(tokenizer: Config | None, generation: Config | None) -> Iterator[str]:
    """Yield what is no number where the texts beside the config say one."""
    for file, values, key in (
        ("tokenizer_config.json", tokenizer, "model_max_length"),
        ("generation_config.json", generation, "max_length"),
    ):
        value, kind = (values or {}).get(key), number(0, 1e32)
        if value is not None and not kind.fits(value):
            yield _fault(f"{file} {key}", kind, value)


def our_faults(ours: Config) -> Iterator[str]:
    """Yield what is wrong with single values of ropewalk.json, all of which must be there."""
    if ours.get("format") != 1:
        yield (
            f"ropewalk.json: format must be 1, got {ours.get('format')!r}; read it with the ropewalk that "
            "wrote it"
        )
        return
    rope = ours.get("rope")
    if not isinstance(rope, Mapping):
        yield _fault("ropewalk.json rope", OBJECT, rope)
        return
    for key, kind in OURS.items():
        if not kind.fits(rope.get(key)):
            yield _fault(f"ropewalk.json rope.{key}", kind, rope.get(key))


def _fault(where: str, kind: Kind, value: Any) -> str:
    return f"{where}: must be {kind.says}, got {repr(value)[:60]}; repair it"
