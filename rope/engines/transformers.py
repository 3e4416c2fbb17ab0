"""What does transformers compute? Version 5 and 4.57 by their rules, the installed one also by its own code.

Version 5 knows `rope_parameters`; every engine that loads configs by it starts from `resolve`. Version 4.57
knows `rope_theta` and `rope_scaling`, and every program that asks `config.rope_theta` reads like it.
"""

from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from typing import Any

from ..families import DEFAULT_THETA, FULL, ONLY_LONGROPE, SLIDING, SUPPORTED
from ..hf import longrope_scale
from ..scheme import Frequencies
from .installed import read as read_installed
from .installed import resolve as resolve_installed
from .reader import (
    OLDER_NAMES,
    ORIGINAL,
    CannotRead,
    Config,
    Given,
    Question,
    Reader,
    Reading,
    needed,
    static,
)

HEAD_DIM = {"qwen3": 128, "gemma3_text": 256}
"of config classes that do not take hidden_size / num_attention_heads where none is stated"
TOP_ORIGINAL = {"phi3": 4096}
"original_max_position_embeddings of config classes that always have one"
NEEDED = {
    "linear": {"factor"},
    "dynamic": {"factor"},
    "yarn": {"factor"},
    "longrope": {"short_factor", "long_factor"},
    "llama3": {"factor", "low_freq_factor", "high_freq_factor"},
}
"keys without which version 5 stops"


def read_5(config: Config, question: Question) -> Reading:
    """Return what transformers 5 makes of a config."""
    given = resolve(config, question)
    if given.kind not in FORMULAS:
        raise CannotRead(f"KeyError: {given.kind!r} is no rope_type of transformers")
    stated, nested = dict(given.parameters), str(config.get("model_type")) == "gemma3_text"
    # An original length at the top level wins, except over one that stands under a layer type.
    if given.top_original and not nested:
        stated[ORIGINAL] = given.top_original
    if nested:
        stated["truncate"] = True
    return given.reading(FORMULAS[given.kind](replace(given, parameters=stated)))


def resolve(config: Config, question: Question) -> Given:
    """Return what version 5's config class states of a layer type, defaults filled in."""
    model_type = str(config.get("model_type"))
    if model_type not in SUPPORTED or config.get("max_position_embeddings") is None:
        return resolve_installed(config, question)
    if model_type == "gemma3_text":
        stated = _gemma3(config, question.layer_type)
    else:
        stated = dict(config.get("rope_scaling") or config.get("rope_parameters") or {})
        # These models ask for one set; only where layers have types are those of each type filled in.
        layer_types = config.get("layer_types") or ((FULL,) if model_type.startswith("qwen") else ())
        if stated.keys() & set(layer_types):
            needed(stated, "rope_type")
        else:
            stated.setdefault("rope_theta", config.get("rope_theta", 1e4))
        if config.get("partial_rotary_factor") is not None:
            stated.setdefault("partial_rotary_factor", config["partial_rotary_factor"])
    stated.setdefault("rope_type", stated.get("type", "default"))
    if model_type in ONLY_LONGROPE:
        _phi3(stated)
    top = config.get(ORIGINAL, TOP_ORIGINAL.get(model_type))
    if stated["rope_type"] in ("llama3", "yarn", "longrope"):
        stated.setdefault(ORIGINAL, config["max_position_embeddings"])
        stated[ORIGINAL] = top if model_type in ONLY_LONGROPE else stated[ORIGINAL]
    if missing := NEEDED.get(stated["rope_type"], set()) - set(stated):
        kind = stated["rope_type"]
        raise CannotRead(
            f"KeyError: Missing required keys in `rope_parameters` for 'rope_type'='{kind}': {missing}"
        )
    given = _given(config, stated.get("rope_theta"), stated.get("partial_rotary_factor"), stated)
    return replace(given, top_original=top)


def _gemma3(config: Config, layer_type: str) -> dict[str, Any]:
    """Return the parameters of a layer type, which this config class keeps apart."""
    stated = dict((config.get("rope_parameters") or {}).get(layer_type) or {"rope_type": "default"})
    stated |= (config.get("rope_scaling") or {}) if layer_type == FULL else {}
    theta = {FULL: "rope_theta", SLIDING: "rope_local_base_freq"}[layer_type]
    stated.setdefault("rope_theta", config.get(theta, DEFAULT_THETA["gemma3_text", layer_type]))
    return stated


def _phi3(stated: dict[str, Any]) -> None:
    """Call the older names longrope, and refuse all others, as this config class does."""
    if stated["rope_type"] == "su" and ORIGINAL not in stated:
        # It fills in the original length before it knows that this is longrope, and misses it after.
        raise CannotRead(
            "KeyError: Missing required keys in `rope_parameters` for 'rope_type'='longrope': "
            f"{{'{ORIGINAL}'}}"
        )
    if stated["rope_type"] in OLDER_NAMES:
        stated["rope_type"] = "longrope"
    if stated["rope_type"] not in ("default", "longrope"):
        raise CannotRead(
            "ValueError: `rope_parameters`'s type field must be one of ['longrope'], got "
            f"{stated['rope_type']}"
        )


def _given(config: Config, theta: Any, share: float | None, stated: dict[str, Any]) -> Given:
    if theta is None:
        raise CannotRead("TypeError: rope_theta is None")
    head_dim = config.get("head_dim") or HEAD_DIM.get(str(config.get("model_type")))
    head_dim = head_dim or needed(config, "hidden_size") // needed(config, "num_attention_heads")
    return Given(
        theta=float(theta),
        head_dim=head_dim,
        rotary_dim=head_dim if share is None else int(head_dim * share),
        window=int(needed(config, "max_position_embeddings")),
        parameters=stated,
    )


THETA_4 = {"gemma3_text": 1e6, "gemma3": 1e6, "mixtral": 1e6}
"theta of version 4's config classes that do not take 10000 where none is stated"
KEEPS_NO_HEAD_DIM = ("mistral",)
"version 4's config classes that leave an unstated head_dim None, on which these formulas fail"
ASK_HEAD_DIM = ("dynamic", "yarn", "longrope")
PHI_KEYS = {"type", "short_factor", "long_factor"}
WINDOWS = {
    "llama": 2048,
    "mistral": 131072,
    "qwen2": 32768,
    "qwen3": 32768,
    "gemma3_text": 131072,
    "phi3": 4096,
}
"max_position_embeddings of config classes where none is stated"


def read_4(config: Config, question: Question) -> Reading:
    """Return what transformers 4.57 makes of a config."""
    model_type, given = str(config.get("model_type")), resolve_4(config, question)
    if given.kind not in FORMULAS:
        raise CannotRead(f"KeyError: {given.kind!r} is no rope_type of transformers 4.57")
    if given.kind in ASK_HEAD_DIM and model_type in KEEPS_NO_HEAD_DIM and config.get("head_dim") is None:
        raise CannotRead("TypeError: unsupported operand type(s) for *: 'NoneType' and 'float' (head_dim)")
    factor = given.parameters.get("factor")
    return given.reading(FORMULAS[given.kind](_filled_4(given)), factor=factor)


def resolve_4(config: Config, question: Question) -> Given:
    """Return what version 4.57's config class states of a layer type."""
    model_type = str(config.get("model_type"))
    stated = dict(config.get("rope_scaling") or {})
    theta = config.get("rope_theta", THETA_4.get(model_type, 1e4))
    if question.layer_type == SLIDING:
        stated, theta = {}, config.get("rope_local_base_freq", 1e4)
    # Its config classes copy the old name over the new one, Mistral's does not.
    names = ("rope_type", "type") if model_type in KEEPS_NO_HEAD_DIM else ("type", "rope_type")
    kind = str(stated.get(names[0], stated.get(names[1])) if stated else "default")
    if model_type in ONLY_LONGROPE and stated:
        kind = _phi3_4(stated)
    window = {"max_position_embeddings": WINDOWS.get(model_type), **config}
    given = _given(window, theta, config.get("partial_rotary_factor"), stated | {"rope_type": kind})
    return replace(given, top_original=config.get(ORIGINAL, TOP_ORIGINAL.get(model_type)))


def _phi3_4(stated: Config) -> str:
    """Return the type that Phi-3's config class takes: three keys, and older names for longrope."""
    if set(stated) != PHI_KEYS:
        raise CannotRead(
            f"ValueError: `rope_scaling` must be a dictionary with three fields, got {', '.join(stated)}"
        )
    if stated["type"] not in (*OLDER_NAMES, "longrope"):
        raise CannotRead(f"ValueError: `rope_scaling`'s type field must be longrope, got {stated['type']}")
    return "longrope"


def _filled_4(given: Given) -> Given:
    """Return with the original length in force: YaRN's own, LongRoPE's at the top level, else the window."""
    stated = dict(given.parameters)
    if given.kind == "yarn":
        stated[ORIGINAL] = stated.get(ORIGINAL) or given.window
    if given.kind == "longrope":
        top = given.top_original
        stated[ORIGINAL] = top or given.window
        stated["factor"] = given.window / top if top else stated.get("factor")
        if stated.get("attention_factor") is None:
            needed(stated, "factor")
    return replace(given, parameters=stated)


def _longrope(given: Given) -> Callable[[int], Frequencies]:
    """Choose by the longest position of the batch."""
    stated, original = given.parameters, given.original
    scale = stated.get("attention_factor")
    if scale is None:
        scale = longrope_scale(stated.get("factor") or given.window / original, original)
    short, long = (given.divided(given.needed(f"{name}_factor"), float(scale)) for name in ("short", "long"))
    return lambda length: long if length > original else short


FORMULAS: dict[str, Callable[[Given], Callable[[int], Frequencies]]] = {
    "default": lambda given: static(given.plain()),
    "linear": lambda given: static(given.divided(float(given.needed("factor")))),
    # theta grows with the longest sequence seen, beyond max_position_embeddings
    "dynamic": lambda given: lambda length: given.grown(max(length, given.window) / given.window),
    "yarn": lambda given: static(given.yarn(given.yarn_scale())),
    "longrope": _longrope,
    "llama3": lambda given: static(given.llama3()),
}
"frequencies by length, of a kind that both versions have"

SOURCES = {"": "src/transformers/modeling_rope_utils.py"}
INSTALLED = ".".join(version("transformers").split(".")[:2])
READER_5 = Reader(engine="transformers", version=INSTALLED, how="read", sources=SOURCES, read=read_5)
READER_4 = Reader(engine="transformers", version="4.57", how="read", sources=SOURCES, read=read_4)
ASKED = replace(READER_5, how="run", read=read_installed)
"the same, by the installed code itself"
