"""What does SGLang compute? It loads the config by transformers 5 and makes its own frequencies of it."""

from collections.abc import Callable
from dataclasses import replace

from ..keys import DUAL_CHUNK
from ..scheme import Frequencies
from .reader import ORIGINAL, CannotRead, Config, Given, Question, Reader, Reading, static, within
from .transformers import read_5, resolve
from .vllm import SHARED, by_kind

WINDOWS = ("max_sequence_length", "seq_length", "max_seq_len", "model_max_length")
"names of the window that win over max_position_embeddings, the first that is stated"


def read(config: Config, question: Question) -> Reading:
    """Return what SGLang makes of a config."""
    if config.get(DUAL_CHUNK):
        raise CannotRead("no attention backend takes its queries for dual chunks, five times as wide")
    if "gemma3" in str(config.get("model_type")):
        return _gemma3(config, question)
    given = resolve(config, question)
    extends = given.kind != "llama3" and ORIGINAL not in given.parameters
    stated = next((config[key] for key in WINDOWS if config.get(key) is not None), given.window)
    longest = int(stated * (given.parameters.get("factor") or 1 if extends else 1))
    at = _longrope(given) if given.kind == "longrope" else static(by_kind(FORMULAS, given))
    return given.reading(at, window=within(longest, question) or longest)


def _gemma3(config: Config, question: Question) -> Reading:
    """Return what Gemma 3's class computes: it has transformers' frequencies, but no switch."""
    reading = read_5(config, question)
    window = within(reading.window, question) or reading.window
    at = static(reading.at(1)) if reading.kind == "longrope" else reading.at
    return replace(reading, window=window, at=at)


def _longrope(given: Given) -> Callable[[int], Frequencies]:
    """Switch the whole batch when any of its positions is above the original length."""
    short, long, original = given.longrope("short"), given.longrope("long"), given.original
    return lambda length: long if length - 1 > original else short


def _dynamic(given: Given) -> Frequencies:
    """Return, for every length, what `factor` times the window would need."""
    stated = given.parameters
    return given.raised(stated["alpha"]) if "alpha" in stated else given.grown(given.needed("factor"))


def _yarn(given: Given) -> Frequencies:
    """Return YaRN at its own scale: attention_factor is no word of SGLang's, its attn_factor multiplies."""
    return given.yarn(given.yarn_scale(honour=False) * given.parameters.get("attn_factor", 1))


FORMULAS = SHARED | {"dynamic": _dynamic, "yarn": _yarn}

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
