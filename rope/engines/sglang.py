"""What does SGLang compute? It loads the config by transformers 5 and makes its own frequencies of it."""

from collections.abc import Callable
from dataclasses import replace

from ..scheme import Frequencies
from . import transformers as transformers_5
from .reader import CannotRead, Config, Given, Question, Reader, Reading, longrope_scale, needed, static
from .transformers import resolve
from .vllm import decimal, within


def read(config: Config, question: Question) -> Reading:
    """Return what SGLang makes of a config."""
    if "gemma3" in str(config.get("model_type")):
        return _gemma3(config, question)
    _, given, _ = resolve(config, question)
    kind, stated = str(given.parameters["rope_type"]), given.parameters
    extends = kind != "llama3" and "original_max_position_embeddings" not in stated
    longest = int(given.window * (stated.get("factor") or 1 if extends else 1))
    return Reading(
        kind=kind,
        theta=given.theta,
        rotary_dim=given.rotary_dim,
        window=within(longest, question) or longest,
        at=_frequencies(kind, given),
        factor=stated.get("factor"),
    )


def _gemma3(config: Config, question: Question) -> Reading:
    """Return what Gemma 3's class computes: it has transformers' frequencies, but no switch."""
    reading = transformers_5.read(config, question)
    window = within(reading.window, question) or reading.window
    at = static(reading.at(1)) if reading.kind == "longrope" else reading.at
    return replace(reading, window=window, at=at)


def _frequencies(kind: str, given: Given) -> Callable[[int], Frequencies]:
    if kind == "longrope":
        return _longrope(given)
    if kind == "default":
        return static(given.plain())
    if kind == "linear":
        return static(given.divided(decimal(given.parameters)))
    if kind == "dynamic":
        return static(_dynamic(given))
    if kind == "yarn":
        # attention_factor is no word of SGLang's; its own attn_factor multiplies.
        scale = given.mscale(honour=False) * given.parameters.get("attn_factor", 1)
        return static(given.yarn(float(scale)))
    if kind == "llama3":
        return static(given.llama3())
    raise CannotRead(f"ValueError: Unknown RoPE scaling type {kind}")


def _dynamic(given: Given) -> Frequencies:
    """Return, for every length, what `factor` times the window would need."""
    stated = given.parameters
    if "alpha" in stated:
        return given.grown(stated["alpha"])
    factor = needed(stated, "factor")
    return given.grown(factor * factor - (factor - 1))


def _longrope(given: Given) -> Callable[[int], Frequencies]:
    """Switch the whole batch when any of its positions is above the original length."""
    stated = given.parameters
    original = needed(stated, "original_max_position_embeddings")
    scale = longrope_scale(given.window / original, original)
    short, long = (
        given.divided(needed(stated, f"{name}_factor"), float(stated.get(f"{name}_mscale") or scale))
        for name in ("short", "long")
    )
    return lambda length: long if length - 1 > original else short


_ROTARY = "python/sglang/srt/layers/rotary_embedding"
READER = Reader(
    engine="sglang",
    version="0.5.23",
    how="read",
    sources={
        "": f"{_ROTARY}/factory.py",
        "window": "python/sglang/srt/utils/hf_transformers/common.py",
        "linear": f"{_ROTARY}/base.py",
        "dynamic": f"{_ROTARY}/rope_variant.py",
        "yarn": f"{_ROTARY}/yarn.py",
        "longrope": f"{_ROTARY}/rope_variant.py",
        "llama3": f"{_ROTARY}/rope_variant.py",
    },
    read=read,
    max_length_flag="--context-length",
)
