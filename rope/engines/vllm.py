"""What does vLLM compute? It loads the config by transformers 5 and makes its own frequencies of it.

Whether that is what was trained is decided in serving.py.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ..keys import DUAL_CHUNK, LENGTHS
from ..scheme import Frequencies
from .reader import LAYOUTS, CannotRead, Config, Given, Question, Reader, Reading, static, within
from .transformers import resolve

KEPT_WINDOW = ("longrope", "llama3", "yarn")
"types whose max_position_embeddings is taken as it is; for all others it is multiplied by the factor"


def read(config: Config, question: Question) -> Reading:
    """Return what vLLM makes of a config."""
    _check_names(config)
    if config.get(DUAL_CHUNK):
        raise CannotRead("TypeError: no attention backend since 0.11 takes dual_chunk_attention_config")
    given = resolve(config, question)
    if given.kind == "su":
        given = replace(given, parameters={**given.parameters, "rope_type": "longrope"})
    # Gemma 3's window is never multiplied.
    extended = given.kind in KEPT_WINDOW or "gemma3" in str(config.get("model_type"))
    factor = 1.0 if extended else given.parameters.get("factor") or 1.0
    stated = _stated_window(config, given)
    longest = int(min(stated, question.tokenizer_length or stated) * factor)
    # Asked for nothing, it serves the original length where that stands at the top level.
    top = given.top_original if given.kind == "longrope" else None
    window = within(longest, question) or int(top or longest)
    rows = _rows(given)
    if given.kind == "longrope":
        # One set for every length: the long one where it serves beyond the original length.
        frequencies = given.longrope("long" if window > given.original else "short")
    else:
        frequencies = by_kind(FORMULAS, given)
    rows = rows if rows is not None and rows < window else None
    return given.reading(static(frequencies), window=window, rows=rows)


def _stated_window(config: Config, given: Given) -> int:
    """Return the smallest of all names of the window, or the one that wins over them."""
    smallest = min([given.window, *(config[key] for key in LENGTHS if config.get(key) is not None)])
    return config.get("model_max_length") or smallest


def _check_names(config: Config) -> None:
    """Raise where the old and the new name of the type differ, as vLLM does."""
    for key in LAYOUTS:
        stated: Any = config.get(key) or {}
        new, old = stated.get("rope_type"), stated.get("type")
        if new and old and new != old and (old, new) != ("su", "longrope"):
            raise CannotRead(f"ValueError: Found conflicts between 'rope_type={new}' and 'type={old}'")


def _rows(given: Given) -> int | None:
    """Return how many positions have a row in its table, where that is not the window."""
    if given.kind == "yarn":
        return int(given.original * given.needed("factor"))
    return given.window if given.kind == "dynamic" else None


def _dynamic(given: Given) -> Frequencies:
    """Return one set, for max_position_embeddings / max_trained_positions (1 if not given)."""
    stated = given.parameters
    if "alpha" in stated:
        return given.raised(stated["alpha"])
    return given.grown(given.window / stated.get("max_trained_positions", given.window))


def _ntk(given: Given) -> Frequencies:
    raise CannotRead(
        f"type {given.kind} is vLLM's own and not followed here; write the theta it means as rope_theta"
    )


Formulas = dict[str, Callable[[Given], Frequencies]]
SHARED: Formulas = {"default": Given.plain, "linear": Given.linear, "llama3": Given.llama3}
"what SGLang computes alike"
FORMULAS = SHARED | {"dynamic": _dynamic, "yarn": lambda given: given.yarn(given.yarn_scale()), "ntk": _ntk}


def by_kind(formulas: Formulas, given: Given) -> Frequencies:
    """Return the frequencies of the stated kind, which an engine must know."""
    if given.kind not in formulas:
        raise CannotRead(f"ValueError: Unknown RoPE scaling type {given.kind}")
    return formulas[given.kind](given)


_ROTARY = "vllm/model_executor/layers/rotary_embedding"
READER = Reader(
    engine="vllm",
    version="0.33",
    how="read",
    sources={
        "": f"{_ROTARY}/__init__.py",
        "window": "vllm/config/model.py",
        "linear": f"{_ROTARY}/linear_scaling_rope.py",
        "dynamic": f"{_ROTARY}/dynamic_ntk_scaling_rope.py",
        "yarn": f"{_ROTARY}/yarn_scaling_rope.py",
        "longrope": f"{_ROTARY}/phi3_long_rope_scaled_rope.py",
        "llama3": f"{_ROTARY}/llama3_rope.py",
    },
    read=read,
    max_length_flag="--max-model-len",
)
