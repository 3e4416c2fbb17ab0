"""What does the installed transformers 5 compute? Its own config class and frequency functions are asked."""

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import transformers
from transformers import CONFIG_MAPPING
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from ..scheme import Frequencies
from .reader import CannotRead, Config, Given, Question, Reader, Reading


def read(config: Config, question: Question) -> Reading:
    """Return what transformers 5 makes of a config."""
    resolved, given, key = resolve(config, question)
    kind = str(given.parameters["rope_type"])
    if kind != "default" and kind not in ROPE_INIT_FUNCTIONS:
        raise CannotRead(f"KeyError: {kind!r} is no rope_type of transformers")

    def at(length: int) -> Frequencies:
        if kind == "default":
            return given.plain()
        with quiet():
            inv_freq, scale = ROPE_INIT_FUNCTIONS[kind](resolved, torch.device("cpu"), length, key)
        return Frequencies(inv_freq=inv_freq.double()[None], attention_scale=float(scale))

    return Reading(
        kind=kind,
        theta=given.theta,
        rotary_dim=given.rotary_dim,
        window=given.window,
        at=at,
        factor=given.parameters.get("factor"),
    )


def resolve(config: Config, question: Question) -> tuple[Any, Given, str | None]:
    """Return the config object, what it states of a layer type, and that type's key if it has sets by type.

    Every engine that loads configs by transformers starts from this.
    """
    model_type = str(config.get("model_type"))
    if model_type not in CONFIG_MAPPING:
        raise CannotRead(f"KeyError: {model_type!r} is no model_type of transformers")
    with quiet():
        resolved: Any = CONFIG_MAPPING[model_type].from_dict(copy.deepcopy(dict(config)))
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
    )
    return resolved, given, question.layer_type if nested else None


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' own warnings on a config off the screen: we say what is wrong ourselves."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


READER = Reader(
    engine="transformers",
    version=".".join(transformers.__version__.split(".")[:2]),
    how="run",
    sources={"": "src/transformers/modeling_rope_utils.py"},
    read=read,
)
