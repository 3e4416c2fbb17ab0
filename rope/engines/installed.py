"""What does the installed transformers compute? Its own config class and rotary module are asked.

Both are loaded where they are asked, and not before: they bring torch, which no rule needs.
"""

from __future__ import annotations

import copy
import inspect
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..scheme import Frequencies
from .reader import ORIGINAL, CannotRead, Config, Given, Question, Reading


def read(config: Config, question: Question) -> Reading:
    """Return what the rotary module of a model with this config computes."""
    import torch

    resolved = _resolved(config)
    rotary = _rotary(resolved)
    by_layer = "layer_type" in inspect.signature(rotary.forward).parameters
    given = _given(resolved, question.layer_type if by_layer else None)
    layer, prefix = ({"layer_type": question.layer_type}, f"{question.layer_type}_") if by_layer else ({}, "")

    def at(length: int) -> Frequencies:
        # A new module each time: it remembers the longest sequence it has seen.
        with quiet():
            module = rotary(resolved)
            module(torch.zeros(1), torch.tensor([[length - 1]]), **layer)
        inv_freq = getattr(module, f"{prefix}inv_freq").numpy().astype(np.float64)
        scale = float(getattr(module, f"{prefix}attention_scaling"))
        return Frequencies(inv_freq=inv_freq[None], attention_scale=scale)

    return given.reading(at)


def resolve(config: Config, question: Question) -> Given:
    """Return what the config class of a model type states of a layer type."""
    resolved = _resolved(config)
    parameters = getattr(resolved, "rope_parameters", None) or {}
    return _given(resolved, question.layer_type if question.layer_type in parameters else None)


def _resolved(config: Config) -> Any:
    """Return the config of the language model, as its class makes it."""
    from transformers import CONFIG_MAPPING

    model_type = str(config.get("model_type"))
    if model_type not in CONFIG_MAPPING:
        raise CannotRead(f"KeyError: {model_type!r} is no model_type of transformers")
    with quiet():
        whole: Any = CONFIG_MAPPING[model_type].from_dict(copy.deepcopy(dict(config)))
        return whole.get_text_config(decoder=True)


def _rotary(resolved: Any) -> Any:
    """Return the class of the module that makes cos and sin for a config."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    if type(resolved) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise CannotRead(f"KeyError: no causal language model for {type(resolved).__name__}")
    code = sys.modules[MODEL_FOR_CAUSAL_LM_MAPPING[type(resolved)].__module__]
    found = [name for name in vars(code) if name.endswith("RotaryEmbedding") and "Vision" not in name]
    if not found:
        raise CannotRead(f"no rotary position encoding in {code.__name__}")
    return getattr(code, found[0])


def _given(resolved: Any, layer_type: str | None) -> Given:
    """Return what is stated of a layer type, None: of all."""
    parameters = getattr(resolved, "rope_parameters", None) or {}
    stated = dict(parameters if layer_type is None else parameters[layer_type] or {})
    if "rope_type" not in stated:
        raise CannotRead("KeyError: 'rope_type'")
    if stated.get("rope_theta") is None:
        raise CannotRead("TypeError: rope_theta is None")
    head_dim = getattr(resolved, "head_dim", None) or resolved.hidden_size // resolved.num_attention_heads
    share = stated.get("partial_rotary_factor")
    return Given(
        theta=float(stated["rope_theta"]),
        head_dim=head_dim,
        rotary_dim=head_dim if share is None else int(head_dim * share),
        window=int(resolved.max_position_embeddings),
        parameters=stated,
        top_original=getattr(resolved, ORIGINAL, None),
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' own warnings on a config off the screen: we say what is wrong ourselves."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
