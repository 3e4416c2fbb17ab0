"""Who can serve a scheme: exactly, with a named difference, or not; and which config does it take?

Verdicts are computed: the config we would write is given to the engine's reader, and what it makes of it is
compared with the scheme. Only what is no frequency stands here as words.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..families import FULL, ONLY_LONGROPE
from ..hf import config_fields
from ..relative import AttentionScheme
from ..scheme import Base, NotExpressible, RopeError, Scheme
from ..schemes.yarn import scale_at
from .llama_cpp import LOADS_DIVISORS, gguf_with
from .llama_cpp import READER as LLAMA_CPP
from .reader import LAYOUTS, CannotRead, Config, Question, Reader, Reading
from .sglang import READER as SGLANG
from .tensorrt_llm import READER as TENSORRT_LLM
from .trained import Trained, differences
from .transformers import READER_4, READER_5
from .vllm import READER as VLLM

READERS = (READER_5, READER_4, VLLM, SGLANG, TENSORRT_LLM, LLAMA_CPP)
ENGINES: tuple[str, ...] = tuple(dict.fromkeys(reader.engine for reader in READERS))
VERDICTS = ("exact", "difference", "no")
"from best to worst"

BY_LENGTH = {
    "transformers": {
        "dynamic": "theta follows the longest sequence seen so far, cached keys keep an older one",
        "longrope": "the longest row of a batch chooses for all, keys cached before the switch keep the "
        "short factors (Phi-3's own class makes them anew)",
    },
    "vllm": {"dynamic": "one theta for all lengths", "longrope": "long factors at every length"},
    "sglang": {
        "dynamic": "one theta for all lengths",
        "longrope": "the longest request of a batch chooses for all, the token at original_length is not "
        "rotated when it is decoded, cached keys keep the short factors",
    },
    "tensorrt-llm": {"dynamic": "without alpha it is plain RoPE", "longrope": "one set for all lengths"},
    "llama.cpp": {
        "none": "the converter drops it without a word",
        "longrope": "the room the server has, not the sequence, chooses the factors",
    },
}
"what else happens where frequencies depend on the length, by engine and the kind of scaling it reads"
BY_ITSELF = {
    "llama.cpp": {
        "self-extend": "only llama-completion has it (--grp-attn-n, --grp-attn-w), the server has not"
    },
    "vllm": {"dca": "its rotary class is there, an attention backend for it is not"},
    "sglang": {"dca": "its rotary class is there, an attention backend for it is not"},
}
"what an engine has of a scheme that no config can express"


@dataclass(frozen=True, kw_only=True)
class Serving:
    """Whether an engine computes a scheme."""

    engine: str
    verdict: str
    "exact, difference or no"
    why: str
    "the named difference, or what stands in the way; empty if exact"
    config: Mapping[str, Any] | None
    "the rope of config.json as this engine wants it, for llama.cpp perhaps with `gguf`; None if not served"
    flags: tuple[str, ...] = ()
    "what the server must be told when it starts"
    how: str = "read"
    "run: the engine's own code was asked; read: our rules, which were read in its source"
    source: str = ""
    "version and file of the engine's rules"

    @property
    def rank(self) -> int:
        """Return the place of the verdict, 0 the best."""
        return VERDICTS.index(self.verdict)


def serving(
    scheme: Scheme, base: Base, *, target_length: int, engine: str, model_type: str = "llama"
) -> Serving:
    """Return how an engine would serve weights trained with a scheme, by the best config there is for it."""
    trained = Trained(bases={FULL: base}, scheme=scheme, target_length=target_length, told_by="scheme")
    return serving_of(trained, engine, model_type)


def serving_of(trained: Trained, engine: str, model_type: str) -> Serving:
    """Return how an engine would serve what was trained."""
    readers = [reader for reader in READERS if reader.engine == engine]
    if not readers:
        raise RopeError(f"engine: must be one of {', '.join(ENGINES)}, got {engine!r}; name one of them")
    fields = _fields(trained.bases[FULL], model_type)
    lengths = {"target_length": trained.target_length}
    try:
        written = config_fields(fields, trained.bases, trained.scheme, **lengths)
    except NotExpressible as error:
        why = BY_ITSELF.get(engine, {}).get(trained.scheme.name, str(error))
        return _answer(readers[0], "no", why)
    tried = []
    for config in _variants(written, trained):
        rope = {key: value for key, value in config.items() if key not in fields}
        tried.append([replace(judge(reader, config, trained), config=rope) for reader in readers])
    if engine == "llama.cpp":
        tried += ([served] for served in _as_gguf(written, trained, model_type))
    # Among equals the fewest differences count, and then the ordinary config, which comes first.
    best = min(tried, key=lambda answers: (_together(answers).rank, answers[0].why.count(";")))
    answer = _together(best)
    return replace(answer, config=None) if answer.verdict == "no" else answer


def _fields(base: Base, model_type: str) -> dict[str, Any]:
    """Return a config.json with a base's heads and without a rope."""
    return {
        "model_type": model_type,
        "hidden_size": base.head_dim * base.query_heads,
        "num_attention_heads": base.query_heads,
        "num_key_value_heads": base.kv_heads,
        "head_dim": base.head_dim,
    }


def _variants(written: dict[str, Any], trained: Trained) -> Iterator[dict[str, Any]]:
    """Yield the ordinary config, then with what single engines want beside it."""
    yield written
    base, target = trained.bases[FULL], trained.target_length
    stated = written["rope_parameters"].get(FULL, written["rope_parameters"])
    scale = trained.frequencies(FULL, target).attention_scale
    if stated["rope_type"] == "yarn":
        usual = scale_at(stated["factor"])
        yield with_rope(written, {"attn_factor": scale / usual})
        yield with_rope(written, {"mscale": (scale - 1) / (usual - 1)}) if usual > 1 else written
    if stated["rope_type"] == "longrope" and written["model_type"] in ONLY_LONGROPE:
        three = {key: stated[key] for key in ("short_factor", "long_factor")}
        yield written | {"rope_scaling": {"type": "longrope", **three}}
    if stated["rope_type"] == "longrope":
        yield written | {"original_max_position_embeddings": base.original_length}
        yield with_rope(written, {"short_mscale": scale, "long_mscale": scale})
    if stated["rope_type"] == "dynamic":
        trained_positions = {"max_trained_positions": base.original_length}
        yield with_rope(written, trained_positions, max_position_embeddings=target)


def with_rope(config: Config, more: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    """Return a config with more in both layouts of its rope."""
    layouts = {}
    for key in LAYOUTS:
        stated = config.get(key) or {}
        full = {FULL: {**stated[FULL], **more}} if FULL in stated else more
        layouts |= {key: {**stated, **full}} if stated else {}
    return {**config, **layouts, **fields}


AS_STARTED = Question()
"what a server does that is told nothing, in the layers that see everything"


def judge(reader: Reader, config: Config, trained: Trained, question: Question = AS_STARTED) -> Serving:
    """Compare what a reader makes of a config with what was trained."""
    try:
        reading, flags = started(reader, config, trained.target_length, question)
    except CannotRead as error:
        return _answer(reader, "no", f"an error: {error}")
    why = differences(reading, trained, question.layer_type)
    if reader.max_length_flag and reading.window < trained.target_length and question.layer_type == FULL:
        why.insert(0, f"room for {reading.window:,} of {trained.target_length:,} tokens")
    if isinstance(trained.scheme, AttentionScheme) and question.layer_type == FULL:
        why.insert(0, f"attends at plain distances, without {trained.scheme.name}")
    if trained.scheme.depends_on_length and question.layer_type == FULL:
        why.insert(0, BY_LENGTH[reader.engine].get(reading.kind, "one set of frequencies for all lengths"))
    verdict = "difference" if why else "exact"
    return replace(_answer(reader, verdict, "; ".join(why), reading.kind), flags=flags)


def started(
    reader: Reader, config: Config, target_length: int, question: Question
) -> tuple[Reading, tuple[str, ...]]:
    """Return what a reader computes when it is started for the target length, and how it is."""
    reading = reader.ask(config, question)
    if reading.window == target_length or not reader.max_length_flag:
        return reading, ()
    try:
        stretched = reader.ask(config, replace(question, max_length=target_length))
    except CannotRead:
        return reading, ()
    return stretched, (f"{reader.max_length_flag} {target_length}",)


def _as_gguf(written: dict[str, Any], trained: Trained, model_type: str) -> Iterator[Serving]:
    """Yield how a GGUF with divisors of its own serves the frequencies of the target length."""
    frequencies = trained.frequencies(FULL, trained.target_length)
    by_length = trained.scheme.depends_on_length
    if model_type not in LOADS_DIVISORS or len(frequencies.inv_freq) > 1:
        return
    gguf = gguf_with(trained.bases[FULL], frequencies)
    why = "the frequencies of the target length at every length" if by_length else ""
    served = _answer(LLAMA_CPP, "difference" if by_length else "exact", why)
    yield replace(served, config={"max_position_embeddings": trained.target_length, "gguf": gguf})


def _together(answers: Sequence[Serving]) -> Serving:
    """Return the answer for all versions of an engine, newest first: an older one's error is a difference."""
    worst = max(answers, key=lambda answer: answer.rank)
    if worst is answers[0] or answers[0].verdict == worst.verdict:
        return worst
    return replace(worst, verdict="difference", why=f"only {worst.source.partition(':')[0]}; {worst.why}")


def _answer(reader: Reader, verdict: str, why: str, kind: str = "") -> Serving:
    source = f"{reader.name}: {reader.source(kind)}"
    return Serving(engine=reader.engine, verdict=verdict, why=why, config=None, how=reader.how, source=source)


def serving_warnings(
    scheme: Scheme,
    bases: Mapping[str, Base],
    target_length: int,
    engines: Iterable[str],
    model_type: str = "llama",
) -> list[str]:
    """Return a line for each engine that would not serve exactly what is about to be trained."""
    trained = Trained(bases=bases, scheme=scheme, target_length=target_length, told_by="recipe")
    lines = []
    for engine in engines:
        answer = serving_of(trained, engine, model_type)
        if answer.verdict != "exact":
            says = "cannot serve" if answer.verdict == "no" else "serves otherwise than trained"
            lines.append(f"serve: {engine} {says}: {scheme.name}: {answer.why}")
    return lines
