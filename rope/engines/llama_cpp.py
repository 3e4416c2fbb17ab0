"""What does llama.cpp compute? What its converter keeps of the config in a GGUF file, read by its own rules.

A GGUF can hold any fixed frequencies, as divisors in `rope_freqs.weight`, for the model types that load it.
"""

from dataclasses import dataclass
from typing import Any

from ..families import SLIDING
from ..hf import longrope_scale
from ..scheme import Base, Frequencies
from ..schemes.yarn import scale_at
from .reader import ORIGINAL, Config, Given, Question, Reader, Reading, static
from .trained import todays
from .transformers import resolve

LOADS_DIVISORS = ("llama", "mistral")
"model types that load rope_freqs.weight, and whose converter bakes llama3 into it"
CONVERTS_LONGROPE = ("phi3", "phimoe", "minicpm")
"model types whose converter writes the long and short factors"


@dataclass(frozen=True, kw_only=True)
class Gguf:
    """What a GGUF file says of position, in llama.cpp's words."""

    scaling: str = "none"
    "rope.scaling.type"
    factor: float = 1.0
    "rope.scaling.factor"
    attn_factor: float = 1.0
    "rope.scaling.attn_factor"
    divisors: Any = None
    "rope_freqs.weight, else by length"
    long: Any = None
    short: Any = None
    original: int = 0


def read(config: Config, question: Question) -> Reading:
    """Return what the converter and llama.cpp make of a config."""
    # The converter reads config.json itself where transformers stops at an older name.
    given = resolve(todays(config), question)
    # No scaling is kept for the layers with a window.
    slides = question.layer_type == SLIDING
    return run(Gguf() if slides else convert(str(config.get("model_type")), given), given, question)


def convert(model_type: str, given: Given) -> Gguf:
    """Return what the converter writes; what it has no words for it drops without an error."""
    stated, kind = given.parameters, given.kind
    original = int(stated.get(ORIGINAL) or given.window)
    if kind in ("linear", "yarn") and stated.get("factor") is not None:
        return Gguf(scaling=kind, factor=stated["factor"])
    if kind == "llama3" and model_type in LOADS_DIVISORS:
        plain, blended = given.plain(), given.llama3()
        return Gguf(divisors=(plain.inv_freq / blended.inv_freq)[0].tolist())
    if kind == "longrope" and model_type in CONVERTS_LONGROPE:
        return Gguf(
            scaling="longrope",
            attn_factor=longrope_scale(given.window / original, original),
            long=given.needed("long_factor"),
            short=given.needed("short_factor"),
            original=original,
        )
    return Gguf(scaling="longrope" if kind in ("longrope", "su") else "none")


def run(gguf: Gguf, given: Given, question: Question) -> Reading:
    """Return what llama.cpp computes from a GGUF file."""
    window = question.max_length or given.window
    return given.reading(
        static(_frequencies(gguf, given, window)),
        kind=f"{gguf.scaling}, rope_freqs" if gguf.divisors else gguf.scaling,
        window=window,
        factor=None if gguf.factor == 1 else gguf.factor,
    )


def _frequencies(gguf: Gguf, given: Given, allocated: int) -> Frequencies:
    """Return the one set in force; long or short is chosen by the tokens the server has room for."""
    if gguf.scaling == "yarn":
        # The stated attention factor is overwritten by YaRN's own; the ramp's ends are always whole.
        return given.yarn(scale_at(gguf.factor) * gguf.attn_factor, truncate=True)
    divisors = gguf.divisors or (gguf.long if allocated > gguf.original else gguf.short)
    return given.divided(divisors or float(gguf.factor), gguf.attn_factor)


def gguf_with(base: Base, frequencies: Frequencies) -> dict[str, Any]:
    """Return the metadata and the tensor of a GGUF that holds any one set of frequencies."""
    return {
        "metadata": {
            "llama.rope.freq_base": base.theta,
            "llama.rope.scaling.type": "none",
            "llama.rope.scaling.attn_factor": frequencies.attention_scale,
        },
        "tensors": {"rope_freqs.weight": (base.unscaled() / frequencies.inv_freq[0]).tolist()},
    }


READER = Reader(
    engine="llama.cpp",
    version="(python 0.3.36)",
    how="read",
    sources={
        "": "conversion/base.py, src/llama-context.cpp",
        "none, rope_freqs": "conversion/llama.py",
        "longrope": "conversion/phi.py, src/llama-model.cpp",
        "yarn": "src/llama-context.cpp, ggml/src/ggml.c",
    },
    read=read,
    max_length_flag="--ctx-size",
)
