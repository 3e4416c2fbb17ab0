"""What is wrong with a config.json, whoever reads it, and the fewest changes that cure a reader of it?"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..families import BY_LAYER_TYPE, DEFAULT_ORIGINAL, FULL
from ..keys import LENGTHS
from ..original import guess_original
from ..scheme import listed
from .reader import LAYOUTS, ORIGINAL, Config, Question, Reader
from .serving import READERS, judge
from .trained import Trained

Change = tuple[tuple[str, ...], Any]
"where a value goes, and the value"
SCALED_FROM = ("yarn", "longrope")
"""types whose factor is the new length over the original (llama3's need not be: 8 x 8,192 serves 131,072; nor
linear's, whose angles ask for no original length: Gemma 3's 8 takes 32,768 to 131,072)"""
NEED_ORIGINAL = ("yarn", "longrope", "llama3")
DEFAULT_THETA, ITS_WINDOW = 10_000, 4096
"theta of Llama 1 and 2, whose configs did not state it, and the longest window it was pretrained in"


def config_faults(config: Config, trained: Trained | None) -> Iterator[str]:
    """Yield what contradicts itself or is missing, before any reader is asked."""
    stated = stated_scaling(config)
    yield from _lengths(config)
    yield from _original(config, stated)
    if trained is None or (trained.told_by == "config.json" and not trained.bases[FULL].guesses):
        yield from _factor(config, stated)
    if trained is not None:
        yield from _window(config, trained)


def beside_faults(tokenizer: Config | None, generation: Config | None, window: int) -> Iterator[str]:
    """Yield it if the texts beside the config would warn of prompts, or cut them, before the window ends."""
    for file, key, values in (
        ("tokenizer_config.json", "model_max_length", tokenizer),
        ("generation_config.json", "max_length", generation),
    ):
        longest = (values or {}).get(key)
        if longest is not None and longest < window:
            yield (
                f"{file} {key}: must be at least the window of {window} tokens, got {longest:g}; "
                f"write {window}"
            )


def inexpressible(ours: Config | None) -> Iterator[str]:
    """Yield it if what was trained is a scheme that stands in ropewalk.json alone."""
    if reason := (ours or {}).get("rope", {}).get("not_expressible"):
        yield (
            f"ropewalk.json: the scheme must be one that a Hugging Face config can say, got {reason}; run it "
            "with ropewalk (evaluate, rope.install), which reads this file: other readers compute another"
        )


def stated_scaling(config: Config) -> dict[str, Any]:
    """Return what the config states of scaling on the layers that see everything, the newer layout first."""
    for layout in LAYOUTS:
        stated = config.get(layout)
        if isinstance(stated, Mapping) and stated:
            full = stated.get(FULL, stated) or {}
            return dict(full) | {"rope_type": full.get("rope_type", full.get("type"))}
    return {}


def theta_faults(config: Config) -> Iterator[str]:
    """Find a theta that is nowhere, where readers take 10,000; of Gemma 3 all take its class's own."""
    if config.get("model_type") in BY_LAYER_TYPE:
        return
    stated = stated_scaling(config)
    layouts = [config, *(config.get(name) or {} for name in LAYOUTS)]
    nested = [layout.get(FULL) or {} for layout in layouts[1:]]
    if any(layout.get("rope_theta") is not None for layout in [*layouts, *nested]):
        return
    window = config.get("max_position_embeddings") or 0
    least = stated.get(ORIGINAL) or config.get(ORIGINAL) or round(window / (stated.get("factor") or 1))
    if least > ITS_WINDOW:
        yield (
            f"config.rope_theta: must be stated for a model pretrained on {least} tokens, got none, which "
            f"readers take as {DEFAULT_THETA}; write the base it was trained with, at the top level and in "
            "rope_parameters"
        )


def _lengths(config: Config) -> Iterator[str]:
    """Find another name of the window that says less, at which engines would stop."""
    window = config.get("max_position_embeddings") or 0
    for key in LENGTHS:
        value = config.get(key)
        if isinstance(value, int) and value < window:
            yield (
                f"config.{key}: must be max_position_embeddings {window} where it is stated, got {value}, of "
                f"which vLLM and SGLang would serve no more; write {window}, or delete it"
            )


def _original(config: Config, stated: Mapping[str, Any]) -> Iterator[str]:
    """Find an original length that readers fill with the extended one."""
    kind, model_type = stated.get("rope_type"), str(config.get("model_type"))
    somewhere = stated.get(ORIGINAL) or config.get(ORIGINAL) or DEFAULT_ORIGINAL.get(model_type)
    window = config.get("max_position_embeddings")
    if kind in NEED_ORIGINAL and window and not somewhere:
        yield (
            f"config.{ORIGINAL}: must be stated for {kind}, got none, which readers take as the first of "
            f"{listed(guess_original(model_type, window, stated.get('factor')))}; write the window of "
            "pretraining"
        )


def _factor(config: Config, stated: Mapping[str, Any]) -> Iterator[str]:
    """Find a factor that leads to another window than the one stated."""
    original = stated.get(ORIGINAL) or config.get(ORIGINAL)
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
    window = config.get("max_position_embeddings")
    if window != wanted:
        grows = " (dynamic grows from it: the extended length switches it off)"
        why = grows if wanted != trained.target_length else ""
        yield f"config.max_position_embeddings: must be {wanted}{why}, got {window}; write {wanted}"


def cure(
    config: Config, wanted: Mapping[str, Any], trained: Trained, reader: Reader, question: Question
) -> list[Change]:
    """Return the fewest changes towards `wanted` that serve a reader as well as all of them.

    No other reader may end worse than it is now; where that cannot be, there is no cure.
    """
    kept, here = list(_changes(config, wanted)), [other.name for other in READERS].index(reader.name)
    allowed = ranks(config, trained, question)
    allowed[here] = ranks(changed(config, kept), trained, question)[here]

    def harmless(changes: list[Change]) -> bool:
        after = ranks(changed(config, changes), trained, question)
        return all(rank <= most for rank, most in zip(after, allowed, strict=True))

    if not harmless(kept):
        return []
    for change in list(kept):
        fewer = [other for other in kept if other is not change]
        kept = fewer if harmless(fewer) else kept
    return kept


def ranks(config: Config, trained: Trained, question: Question) -> list[int]:
    """Return every reader's verdict on a config, 0 the best."""
    return [judge(reader, config, trained, question).rank for reader in READERS]


def _changes(config: Config, wanted: Mapping[str, Any]) -> Iterator[Change]:
    """Yield what to write, whole layouts first: they are the first to be given up."""
    missing = [key for key, value in wanted.items() if isinstance(value, Mapping) and not config.get(key)]
    for key in [*missing, *(key for key in wanted if key not in missing)]:
        value = wanted[key]
        there = config.get(key)
        if isinstance(value, Mapping) and isinstance(there, Mapping) and not set(there) - set(value):
            yield from (((key, *path), new) for path, new in _changes(there, value))
        elif text(there) != text(value):
            yield (key,), value


def changed(config: Config, changes: Sequence[Change]) -> dict[str, Any]:
    """Return a config with values written into it."""
    new = copy.deepcopy(dict(config))
    for path, value in changes:
        place = new
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
    return new


def written(changes: Sequence[Change]) -> str:
    """Return changes as a person would write them."""
    return ", ".join(f"{'.'.join(path)} = {short(value)}" for path, value in changes)


def text(value: Any) -> str:
    """Return a value as JSON, in which 4 and 4.0 differ."""
    return json.dumps(value, sort_keys=True)


def short(value: Any) -> str:
    """Return a value as JSON, a long list as its size."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f'"{key}": {short(inner)}' for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple) and len(value) > 4:
        return f"[{len(value)} numbers]"
    return json.dumps(value)
