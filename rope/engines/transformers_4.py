"""What does transformers 4.57 compute? It knows `rope_theta` and `rope_scaling`, not `rope_parameters`.

Every program that still pins transformers 4, and every one that asks `config.rope_theta`, reads like this.
"""

from dataclasses import replace
from typing import Any

from ..families import ONLY_LONGROPE, SLIDING
from ..scheme import Frequencies
from .reader import CannotRead, Config, Given, Question, Reader, Reading, longrope_scale, needed, static

DEFAULT_THETA = {"gemma3_text": 1e6, "gemma3": 1e6, "mixtral": 1e6}
"theta of config classes that do not take 10000 where none is stated"
DEFAULT_HEAD_DIM = {"qwen3": 128, "gemma3_text": 256}
DEFAULT_ORIGINAL = {"phi3": 4096}
KEEPS_NO_HEAD_DIM = ("mistral",)
"config classes that leave an unstated head_dim None, on which these formulas fail"
ASK_HEAD_DIM = ("dynamic", "yarn", "longrope")
PHI_KEYS = {"type", "short_factor", "long_factor"}


def read(config: Config, question: Question) -> Reading:
    """Return what transformers 4.57 makes of a config."""
    model_type = str(config.get("model_type"))
    stated = dict(config.get("rope_scaling") or {})
    theta = config.get("rope_theta", DEFAULT_THETA.get(model_type, 10000.0))
    if question.layer_type == SLIDING:
        stated, theta = {}, config.get("rope_local_base_freq", 10000.0)
    # Its config classes copy the old name over the new one, Mistral's does not.
    names = ("rope_type", "type") if model_type in KEEPS_NO_HEAD_DIM else ("type", "rope_type")
    kind = str(stated.get(names[0], stated.get(names[1])) if stated else "default")
    if model_type in ONLY_LONGROPE and stated and set(stated) != PHI_KEYS:
        raise CannotRead(
            f"ValueError: `rope_scaling` must be a dictionary with three fields, got {', '.join(stated)}"
        )
    given = _given(config, model_type, theta, stated | {"rope_type": kind})
    if kind not in FORMULAS:
        raise CannotRead(f"KeyError: {kind!r} is no rope_type of transformers 4.57")
    if kind in ASK_HEAD_DIM and model_type in KEEPS_NO_HEAD_DIM and config.get("head_dim") is None:
        raise CannotRead("TypeError: unsupported operand type(s) for *: 'NoneType' and 'float' (head_dim)")
    at = FORMULAS[kind](config, given)
    return Reading(
        kind=kind,
        theta=given.theta,
        rotary_dim=given.rotary_dim,
        window=given.window,
        at=at,
        factor=stated.get("factor"),
    )


def _given(config: Config, model_type: str, theta: Any, stated: dict[str, Any]) -> Given:
    if theta is None:
        raise CannotRead("TypeError: rope_theta is None")
    head_dim = config.get("head_dim") or DEFAULT_HEAD_DIM.get(model_type)
    head_dim = head_dim or needed(config, "hidden_size") // needed(config, "num_attention_heads")
    share = config.get("partial_rotary_factor")
    return Given(
        theta=float(theta),
        head_dim=head_dim,
        rotary_dim=head_dim if share is None else int(head_dim * share),
        window=int(needed(config, "max_position_embeddings")),
        parameters=stated,
    )


def _yarn(config: Config, given: Given) -> Any:
    original = given.parameters.get("original_max_position_embeddings") or given.window
    filled = replace(given, parameters={**given.parameters, "original_max_position_embeddings": original})
    return static(filled.yarn(filled.mscale()))


def _longrope(config: Config, given: Given) -> Any:
    """Choose by the longest position of the batch; the original length counts at the top level only."""
    stated = given.parameters
    at_top = config.get(
        "original_max_position_embeddings", DEFAULT_ORIGINAL.get(str(config.get("model_type")))
    )
    original = at_top or given.window
    factor = given.window / original if at_top else stated.get("factor")
    scale = stated.get("attention_factor")
    if scale is None:
        scale = longrope_scale(needed({**stated, "factor": factor}, "factor"), original)
    short = given.divided(needed(stated, "short_factor"), float(scale))
    long = given.divided(needed(stated, "long_factor"), float(scale))
    return lambda length: long if length > original else short


def _dynamic(config: Config, given: Given) -> Any:
    """Grow theta with the longest sequence seen, beyond max_position_embeddings."""
    factor, window = needed(given.parameters, "factor"), given.window

    def at(length: int) -> Frequencies:
        return given.grown(factor * max(length, window) / window - (factor - 1))

    return at


FORMULAS = {
    "default": lambda config, given: static(given.plain()),
    "linear": lambda config, given: static(given.divided(float(needed(given.parameters, "factor")))),
    "dynamic": _dynamic,
    "yarn": _yarn,
    "longrope": _longrope,
    "llama3": lambda config, given: static(given.llama3()),
}

READER = Reader(
    engine="transformers",
    version="4.57",
    how="run",
    sources={"": "src/transformers/modeling_rope_utils.py"},
    read=read,
)
