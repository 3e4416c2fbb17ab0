"""What does vLLM compute? It loads the config by transformers 5 and makes its own frequencies of it."""

from typing import Any

from ..scheme import Frequencies
from .reader import CannotRead, Config, Given, Question, Reader, Reading, longrope_scale, needed, static
from .transformers import resolve

KEPT_WINDOW = ("longrope", "llama3", "yarn")
"types whose max_position_embeddings is taken as it is; for all others it is multiplied by the factor"


def read(config: Config, question: Question) -> Reading:
    """Return what vLLM makes of a config."""
    _check_names(config)
    resolved, given, _ = resolve(config, question)
    stated = given.parameters
    kind = "longrope" if stated["rope_type"] == "su" else str(stated["rope_type"])
    # Gemma 3's window is never multiplied.
    extended = kind in KEPT_WINDOW or "gemma3" in str(config.get("model_type"))
    longest = _longest(given, question, 1.0 if extended else stated.get("factor") or 1.0)
    # Asked for nothing, it serves the original length where that stands at the top level.
    top = getattr(resolved, "original_max_position_embeddings", None) if kind == "longrope" else None
    window = within(longest, question) or int(top or longest)
    rows = _rows(kind, given)
    return Reading(
        kind=kind,
        theta=given.theta,
        rotary_dim=given.rotary_dim,
        window=window,
        at=static(_longrope(given, window) if kind == "longrope" else _frequencies(kind, given)),
        factor=stated.get("factor"),
        rows=rows if rows is not None and rows < window else None,
    )


def _check_names(config: Config) -> None:
    """Raise where the old and the new name of the type differ, as vLLM does."""
    for key in ("rope_parameters", "rope_scaling"):
        stated: Any = config.get(key) or {}
        new, old = stated.get("rope_type"), stated.get("type")
        if new and old and new != old and (old, new) != ("su", "longrope"):
            raise CannotRead(f"ValueError: Found conflicts between 'rope_type={new}' and 'type={old}'")


def within(longest: int, question: Question) -> int | None:
    """Return the tokens a server asks for, which an engine refuses beyond what it derives from the config."""
    if question.max_length is not None and question.max_length > longest:
        raise CannotRead(
            f"ValueError: {question.max_length} tokens asked for, {longest} derived from the config"
        )
    return question.max_length


def _rows(kind: str, given: Given) -> int | None:
    """Return how many positions have a row in its table, where that is not the window."""
    if kind == "yarn":
        stated = given.parameters
        return int(needed(stated, "original_max_position_embeddings") * needed(stated, "factor"))
    return given.window if kind == "dynamic" else None


def _longest(given: Given, question: Question, factor: float) -> int:
    """Return the most tokens it lets a server ask for."""
    window = min(given.window, question.tokenizer_length or given.window)
    return int(window * factor)


def _frequencies(kind: str, given: Given) -> Frequencies:
    """Return the one set that serves all lengths."""
    if kind == "default":
        return given.plain()
    if kind == "linear":
        return given.divided(decimal(given.parameters))
    if kind == "dynamic":
        return _dynamic(given)
    if kind == "yarn":
        return given.yarn(given.mscale())
    if kind == "llama3":
        return given.llama3()
    if kind == "ntk":
        raise CannotRead(
            "type ntk is vLLM's own and not followed here; write the theta it means as rope_theta"
        )
    raise CannotRead(f"ValueError: Unknown RoPE scaling type {kind}")


def decimal(stated: Any) -> float:
    """Return the factor of linear scaling, which must not be a whole number in JSON: 4.0, not 4."""
    factor = needed(stated, "factor")
    if not isinstance(factor, float):
        raise CannotRead(f"TypeError: 'int' object is not iterable (factor {factor}, not {float(factor)})")
    return factor


def _dynamic(given: Given) -> Frequencies:
    """Return one set, for max_position_embeddings / max_trained_positions (1 if not given)."""
    stated = given.parameters
    if "alpha" in stated:
        return given.grown(stated["alpha"])
    factor = needed(stated, "factor")
    return given.grown(
        factor * given.window / stated.get("max_trained_positions", given.window) - (factor - 1)
    )


def _longrope(given: Given, served: int) -> Frequencies:
    """Return the long set for every length of a server that serves beyond the original length."""
    stated = given.parameters
    original = needed(stated, "original_max_position_embeddings")
    regime = "long" if served > original else "short"
    scale = stated.get(f"{regime}_mscale") or longrope_scale(given.window / original, original)
    return given.divided(needed(stated, f"{regime}_factor"), float(scale))


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
