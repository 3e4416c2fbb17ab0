"""What does the installed transformers compute? Its own config class and frequency functions are asked."""

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..scheme import Frequencies
from .reader import ORIGINAL, CannotRead, Config, Given, Question, Reading


def read(config: Config, question: Question) -> Reading:
    """Return what the installed transformers makes of a config."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    resolved, given, nested = _resolved(config, question)
    if given.kind != "default" and given.kind not in ROPE_INIT_FUNCTIONS:
        raise CannotRead(f"KeyError: {given.kind!r} is no rope_type of transformers")

    def at(length: int) -> Frequencies:
        if given.kind == "default":
            return given.plain()
        layer_type = question.layer_type if nested else None
        with quiet():
            inv_freq, scale = ROPE_INIT_FUNCTIONS[given.kind](resolved, None, length, layer_type)
        return Frequencies(inv_freq=inv_freq.numpy().astype(np.float64)[None], attention_scale=float(scale))

    return given.reading(at)


def resolve(config: Config, question: Question) -> Given:
    """Return what the config class of a model type states of a layer type."""
    return _resolved(config, question)[1]


def _resolved(config: Config, question: Question) -> tuple[Any, Given, bool]:
    # Loaded where it is asked, and not before: it brings torch, which no rule needs.
    from transformers import CONFIG_MAPPING

    model_type = str(config.get("model_type"))
    if model_type not in CONFIG_MAPPING:
        raise CannotRead(f"KeyError: {model_type!r} is no model_type of transformers")
    with quiet():
        whole: Any = CONFIG_MAPPING[model_type].from_dict(copy.deepcopy(dict(config)))
        resolved = whole.get_text_config(decoder=True)
    parameters = getattr(resolved, "rope_parameters", None) or {}
    nested = question.layer_type in parameters
    stated = dict(parameters[question.layer_type] if nested else parameters)
    if stated.get("rope_theta") is None:
        raise CannotRead("TypeError: rope_theta is None")
    head_dim = getattr(resolved, "head_dim", None) or resolved.hidden_size // resolved.num_attention_heads
    share = stated.get("partial_rotary_factor")
    given = Given(
        theta=float(stated["rope_theta"]),
        head_dim=head_dim,
        rotary_dim=head_dim if share is None else int(head_dim * share),
        window=int(resolved.max_position_embeddings),
        parameters=stated,
        top_original=getattr(resolved, ORIGINAL, None),
    )
    return resolved, given, nested


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' own warnings on a config off the screen: we say what is wrong ourselves."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
