"""Is every value of a config that something is computed from of its type, and within bounds?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .families import FULL, SLIDING
from .knobs import LARGEST, LONGEST, MOST_CHANNELS, MOST_HEADS, MOST_LAYERS, Theta, Tokens, shown

LAYOUTS = ("rope_parameters", "rope_scaling")
"where a config states its rope, the newer layout first"
Width = Annotated[int, Field(ge=1, le=MOST_CHANNELS * MOST_HEADS)]
Channels = Annotated[int, Field(ge=1, le=MOST_CHANNELS)]
Heads = Annotated[int, Field(ge=1, le=MOST_HEADS)]
Layers = Annotated[int, Field(ge=1, le=MOST_LAYERS)]
Real = Annotated[float, Field(ge=0, le=LARGEST, allow_inf_nan=False)]
Reals = Annotated[list[Real], Field(min_length=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Object = dict[str, Any]
MOST = 2**20
"layers, labels, experts: of what a config class makes as many of as it is told"


class Values(BaseModel):
    """What an object of JSON must hold where it holds these keys; its other keys are not looked at."""

    model_config = ConfigDict(strict=True, extra="ignore")


class _Top(Values):
    model_type: str | None = None
    text_config: Object | None = None
    vocab_size: Annotated[int, Field(ge=1, le=LONGEST)] | None = None
    tie_word_embeddings: bool | None = None
    hidden_size: Width | None = None
    intermediate_size: Width | None = None
    attention_bias: bool | None = None
    mlp_bias: bool | None = None
    num_attention_heads: Heads | None = None
    num_key_value_heads: Heads | None = None
    head_dim: Channels | None = None
    num_hidden_layers: Layers | None = None
    max_position_embeddings: Tokens | None = None
    original_max_position_embeddings: Tokens | None = None
    sliding_window: Annotated[int, Field(ge=0, le=LONGEST)] | None = None
    use_sliding_window: bool | None = None
    layer_types: list[str] | None = None
    rope_theta: Theta | None = None
    rope_local_base_freq: Theta | None = None
    partial_rotary_factor: Share | None = None
    rope_parameters: Object | None = None
    rope_scaling: Object | None = None


class _Rope(Values):
    rope_type: str | None = None
    type: str | None = None
    rope_theta: Theta | None = None
    partial_rotary_factor: Share | None = None
    original_max_position_embeddings: Tokens | None = None
    factor: Annotated[Real, Field(gt=0)] | None = None
    attention_factor: Real | None = None
    attn_factor: Real | None = None
    beta_fast: Real | None = None
    beta_slow: Real | None = None
    low_freq_factor: Real | None = None
    high_freq_factor: Real | None = None
    mscale: Real | None = None
    mscale_all_dim: Real | None = None
    short_mscale: Real | None = None
    long_mscale: Real | None = None
    short_factor: Reals | None = None
    long_factor: Reals | None = None
    alpha: Real | None = None
    mixed_b: Real | None = None
    max_trained_positions: Tokens | None = None
    truncate: bool | None = None
    finetuned: bool | None = None
    full_attention: Object | None = None
    sliding_attention: Object | None = None


def wrong_fields(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the values of a config, each at its key."""
    yield from wrong_values(_Top, config, "config.")
    for key, count in config.items():
        if key.startswith("num_") and key not in _Top.model_fields and type(count) is int and count > MOST:
            yield f"config.{key}: must be less than or equal to {MOST}, got {shown(count)}; repair it"
    yield from _wrong_quotient(config)
    for layout in LAYOUTS:
        stated = config.get(layout)
        nested = stated if isinstance(stated, Mapping) else {}
        parts = {f"{layout}.{name}": nested.get(name) for name in (FULL, SLIDING)}
        for name, values in {layout: stated, **parts}.items():
            if isinstance(values, Mapping):
                yield from wrong_values(_Rope, values, f"config.{name}.")


def wrong_values(kind: type[Values], given: Mapping[str, Any], where: str) -> Iterator[str]:
    """Yield what is wrong with the values of one object, each at `where` and its key."""
    try:
        kind.model_validate({key: given[key] for key in kind.model_fields if key in given})
    except ValidationError as error:
        for problem in error.errors():
            key, *items = problem["loc"]
            at = "".join(f"[{item}]" for item in items)
            must = problem["msg"].partition("should ")[2].replace("a valid dictionary", "an object")
            must = must or "be there"
            got = "none" if problem["type"] == "missing" else shown(problem["input"])
            yield f"{where}{key}{at}: must {must.replace('a valid', 'a')}, got {got}; repair it"


def _wrong_quotient(config: Mapping[str, Any]) -> Iterator[str]:
    """Find heads of no channels, or of more than any has, where the width over their number says how many."""
    width, heads = config.get("hidden_size"), config.get("num_attention_heads")
    if config.get("head_dim") is not None or not isinstance(width, int) or not isinstance(heads, int):
        return
    if heads > 0 and not 1 <= width // heads <= MOST_CHANNELS:
        yield (
            f"config.hidden_size: must be 1 to {MOST_CHANNELS} times num_attention_heads {heads}, got "
            f"{shown(width)}; repair it"
        )
