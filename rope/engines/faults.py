"""What is wrong with a config.json, whoever reads it? Each fault with what must hold and the cure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..families import FULL
from .reader import Config
from .trained import Trained

SCALED_FROM = ("linear", "yarn", "longrope")
"types whose factor is the new length over the original (llama3's is not: 8 x 8,192 serves 131,072)"
NEED_ORIGINAL = ("yarn", "longrope", "llama3")
NUMBERS = ("rope_theta", "max_position_embeddings", "original_max_position_embeddings", "factor")
NUMBERS += ("model_max_length",)
DEFAULT_THETA, ITS_WINDOW = 10_000, 4096
"theta of Llama 1 and 2, whose configs did not state it, and the longest window it was pretrained in"


def config_faults(config: Config, trained: Trained | None) -> Iterator[str]:
    """Yield what contradicts itself or is missing, before any reader is asked."""
    stated = stated_scaling(config)
    yield from _original(config, stated)
    if trained is None or trained.told_by == "config.json":
        yield from _factor(config, stated)
    if trained is not None:
        yield from _window(config, trained)


def type_faults(config: Config, tokenizer: Mapping[str, Any] | None) -> Iterator[str]:
    """Yield what is no number or no object where everything else relies on it."""
    parts: list[tuple[str, Any]] = [("config", config), ("tokenizer_config.json ", tokenizer)]
    for layout in ("rope_parameters", "rope_scaling"):
        stated = config.get(layout)
        parts += [(f"config.{layout}", stated)]
        parts += [(f"config.{layout}.{FULL}", stated.get(FULL))] if isinstance(stated, Mapping) else []
    for where, values in parts:
        if values is not None and not isinstance(values, Mapping):
            yield f"{where}: must be an object or null, got {values!r}; repair it"
            continue
        for key in NUMBERS:
            value = (values or {}).get(key)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
                yield f"{where}.{key}: must be a number, got {value!r}; repair it"


def tokenizer_faults(tokenizer: Mapping[str, Any] | None, window: int) -> Iterator[str]:
    """Yield it if the tokenizer would warn of prompts, or cut them, before the window ends."""
    told = (tokenizer or {}).get("model_max_length")
    if told is not None and told < window:
        yield (
            f"tokenizer_config.json model_max_length: must be at least the window of {window} tokens, got "
            f"{told:g}; write {window}"
        )


def stated_scaling(config: Config) -> dict[str, Any]:
    """Return what the config states of scaling on the layers that see everything, the newer layout first."""
    for layout in ("rope_parameters", "rope_scaling"):
        stated = config.get(layout)
        if isinstance(stated, Mapping) and stated:
            full = stated.get(FULL, stated)
            return dict(full or {}) | {"rope_type": (full or {}).get("rope_type", (full or {}).get("type"))}
    return {}


def theta_faults(config: Config) -> Iterator[str]:
    """Find a theta that is nowhere: every reader then takes a default of its own, mostly 10,000."""
    stated = stated_scaling(config)
    layouts = [config, *(config.get(name) or {} for name in ("rope_parameters", "rope_scaling"))]
    nested = [layout.get(FULL) or {} for layout in layouts[1:]]
    if any(layout.get("rope_theta") is not None for layout in [*layouts, *nested]):
        return
    original = stated.get("original_max_position_embeddings") or config.get("max_position_embeddings") or 0
    if original > ITS_WINDOW:
        yield (
            f"config.rope_theta: must be stated for a model pretrained on {original} tokens, got none, which "
            f"readers take as {DEFAULT_THETA}; write the base it was trained with, at the top level and in "
            "rope_parameters"
        )


def _original(config: Config, stated: Mapping[str, Any]) -> Iterator[str]:
    """Find an original length that readers fill with the extended one."""
    name, kind = "original_max_position_embeddings", stated.get("rope_type")
    if kind in NEED_ORIGINAL and stated.get(name) is None and config.get(name) is None:
        yield (
            f"config.{name}: must be stated for {kind}, got none, for which readers take "
            f"{config.get('max_position_embeddings')}, the extended one; write the window of pretraining"
        )


def _factor(config: Config, stated: Mapping[str, Any]) -> Iterator[str]:
    """Find a factor that leads to another window than the one stated."""
    original = stated.get("original_max_position_embeddings") or config.get(
        "original_max_position_embeddings"
    )
    factor, window = stated.get("factor"), config.get("max_position_embeddings")
    if stated.get("rope_type") not in SCALED_FROM or not (original and factor and window):
        return
    if abs(factor * original / window - 1) > 1e-3:
        yield (
            f"config.factor: must be max_position_embeddings / original_max_position_embeddings = {window} / "
            f"{original} = {window / original:g}, got {factor:g}; write max_position_embeddings "
            f"{round(factor * original)} if the factor is right, else factor {window / original:g}"
        )


def _window(config: Config, trained: Trained) -> Iterator[str]:
    """Find a max_position_embeddings other than what was trained needs."""
    wanted = trained.scheme.hf_window(trained.bases[FULL], target_length=trained.target_length)
    told = config.get("max_position_embeddings")
    if told != wanted:
        why = (
            " (dynamic grows from it: the extended length switches it off)"
            if wanted != trained.target_length
            else ""
        )
        yield f"config.max_position_embeddings: must be {wanted}{why}, got {told}; write {wanted}"
