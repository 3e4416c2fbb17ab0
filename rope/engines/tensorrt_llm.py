"""What does TensorRT-LLM compute? It loads the config by transformers 4.57, and makes frequencies of its own.

So it knows `rope_scaling` and `rope_theta` only, and takes theta 10,000 where these do not say another.
"""

from dataclasses import replace

from ..families import SLIDING
from ..scheme import Frequencies
from ..schemes.yarn import scale_at
from .reader import ORIGINAL, CannotRead, Config, Given, Question, Reader, Reading, static, within
from .transformers import resolve_4

KEPT_WINDOW = ("default", "longrope", "llama3", "yarn")
"types whose max_position_embeddings is taken as it is; for all others it is multiplied by the factor"
NO_ORIGINAL = 1024
"what it takes for an original length that is stated nowhere"


def read(config: Config, question: Question) -> Reading:
    """Return what TensorRT-LLM makes of a config."""
    given = _given(config, question)
    if given.kind not in (*KEPT_WINDOW, "linear", "dynamic"):
        raise CannotRead(f"ValueError: Unsupported rotary scaling type: {given.kind}")
    factor = 1 if given.kind in KEPT_WINDOW else given.parameters.get("factor", 1)
    longest = int(-(-given.window * factor // 1))
    window = within(longest, question) or longest
    # The table of angles ends with max_position_embeddings.
    rows = given.window if given.window < window else None
    return given.reading(static(_frequencies(given, question)), window=window, rows=rows)


def _given(config: Config, question: Question) -> Given:
    """Return what it finds: the old name of the type first, an original length at the top level first."""
    given = resolve_4(config, question)
    stated = dict(given.parameters)
    if question.layer_type != SLIDING and config.get("rope_scaling") is not None:
        stated["rope_type"] = str(stated.get("type") or stated["rope_type"])
        if stated["rope_type"] == "default":
            raise CannotRead("ValueError: Unsupported rotary scaling type: default")
    stated[ORIGINAL] = given.top_original or stated.get(ORIGINAL) or NO_ORIGINAL
    return replace(given, parameters=stated)


def _frequencies(given: Given, question: Question) -> Frequencies:
    """Return the one set in force; no attention scale that is stated counts, but YaRN's mscale pair."""
    stated = given.parameters
    if given.kind == "linear":
        return given.divided(float(stated.get("factor", 1.0)))
    if given.kind == "dynamic":
        # A dynamic scaling without alpha is plain RoPE.
        return given.raised(stated.get("alpha", 1.0))
    if given.kind == "llama3":
        return replace(given, parameters={**LLAMA3, **stated}).llama3()
    if given.kind == "yarn":
        return _yarn(given)
    if given.kind == "longrope":
        # The long set too where the server was told no length.
        asked = question.max_length
        set_ = "short" if asked is not None and asked <= given.original else "long"
        return given.longrope(set_, honour=False)
    return given.plain()


LLAMA3 = {"factor": 1.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
"what it takes where these are not stated"


def _yarn(given: Given) -> Frequencies:
    """Return YaRN with whole ends of the ramp, and a scale that only the mscale pair changes."""
    stated = {"factor": 1.0, **given.parameters}
    factor = stated["factor"]
    over = scale_at(factor, stated.get("mscale_all_dim", 0.0))
    scale = scale_at(factor, stated.get("mscale", 1.0)) / over
    return replace(given, parameters=stated).yarn(scale, truncate=True)


READER = Reader(
    engine="tensorrt-llm",
    version="1.2.1",
    how="read",
    sources={
        "": "tensorrt_llm/_torch/attention_backend/interface.py, tensorrt_llm/functional.py",
        "window": "tensorrt_llm/_torch/models/modeling_utils.py",
    },
    read=read,
    max_length_flag="--max_seq_len",
)
