"""Is every value of a config that something is computed from of its type, and within bounds?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .knobs import LARGEST, MOST_CHANNELS, MOST_HEADS, MOST_LAYERS, Tokens, shown

LAYOUTS = ("rope_parameters", "rope_scaling")
"where a config states its rope, the newer layout first"
Width = Annotated[int, Field(ge=1, le=MOST_CHANNELS * MOST_HEADS)]
Channels = Annotated[int, Field(ge=1, le=MOST_CHANNELS)]
Heads = Annotated[int, Field(ge=1, le=MOST_HEADS)]
Layers = Annotated[int, Field(ge=1, le=MOST_LAYERS)]
Real = Annotated[float, Field(ge=0, le=LARGEST, allow_inf_nan=False)]
Reals = Annotated[list[Real], Field(min_length=1)]
Object = dict[str, Any]


class _Values(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")


class _Top(_Values):
    hidden_size: Width | None = None
    num_attention_heads: Heads | None = None
    num_key_value_heads: Heads | None = None
    head_dim: Channels | None = None
    num_hidden_layers: Layers | None = None
    max_position_embeddings: Tokens | None = None
    original_max_position_embeddings: Tokens | None = None
    sliding_window: Tokens | None = None
    use_sliding_window: bool | None = None
    layer_types: list[str] | None = None
    rope_theta: Real | None = None
    rope_local_base_freq: Real | None = None
    partial_rotary_factor: Real | None = None
    rope_parameters: Object | None = None
    rope_scaling: Object | None = None


class _Rope(_Values):
    rope_type: str | None = None
    type: str | None = None
    rope_theta: Real | None = None
    partial_rotary_factor: Real | None = None
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
    truncate: bool | None = None
    finetuned: bool | None = None
    full_attention: Object | None = None
    sliding_attention: Object | None = None


def wrong_fields(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the values of a config, each at its key."""
    yield from _wrong(_Top, config, "config")
    for layout in LAYOUTS:
        stated = config.get(layout)
        for name, values in ((layout, stated), *_by_layer_type(layout, stated)):
            if isinstance(values, Mapping):
                yield from _wrong(_Rope, values, f"config.{name}")


def _by_layer_type(layout: str, stated: Any) -> list[tuple[str, Any]]:
    nested = stated if isinstance(stated, Mapping) else {}
    return [(f"{layout}.{name}", nested.get(name)) for name in ("full_attention", "sliding_attention")]


def _wrong(values: type[_Values], given: Mapping[str, Any], where: str) -> Iterator[str]:
    """Check one object; keys that are not ours are not looked at."""
    try:
        values.model_validate({key: given[key] for key in values.model_fields if key in given})
    except ValidationError as error:
        for problem in error.errors():
            key, *items = problem["loc"]
            at = "".join(f"[{item}]" for item in items)
            must = problem["msg"].partition("should ")[2].replace("a valid dictionary", "an object")
            yield (
                f"{where}.{key}{at}: must {must.replace('a valid', 'a')}, got {shown(problem['input'])}; "
                "repair it"
            )
