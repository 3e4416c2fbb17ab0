"""Parameters from a config alone are those of the model that transformers makes of it."""

from typing import Any

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM
from world.budgets import EIGHT_B, SEVENTY_B

from ropewalk.rope.families import SUPPORTED
from ropewalk.rope.scheme import RopeError
from ropewalk.train.budget import Shape

HEADS = {"num_attention_heads": 8, "num_key_value_heads": 4}
SMALL = {"num_hidden_layers": 7, "hidden_size": 64, "intermediate_size": 96, "vocab_size": 130, **HEADS}
VARIANTS: list[dict[str, Any]] = [
    {"model_type": kind, "tie_word_embeddings": tied, "head_dim": 16, "pad_token_id": 0} | SMALL
    for kind in SUPPORTED
    for tied in (False, True)
]
VARIANTS += [
    {"model_type": "llama", "attention_bias": True, "mlp_bias": True} | SMALL,
    {"model_type": "qwen3", "attention_bias": True, "head_dim": 32} | SMALL,
    {"model_type": "gemma3_text", "attention_bias": True, "head_dim": 32} | SMALL,
]
for one in VARIANTS:
    if one["model_type"] == "phi3":
        one.pop("head_dim")


@pytest.mark.parametrize("config", [*VARIANTS, EIGHT_B, SEVENTY_B], ids=lambda config: config["model_type"])
def test_parameters_are_the_models(config: dict[str, Any]):
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[config["model_type"]](**config))
    shape = Shape.of(config)
    assert shape.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert shape.vectors == sum(p.numel() for p in model.parameters() if p.ndim < 2)


def test_parameters_of_published_models():
    assert Shape.of(EIGHT_B).parameters == 8_030_261_248
    assert Shape.of(SEVENTY_B).parameters == 70_553_706_496


def test_what_gemma_leaves_out_is_what_its_config_class_says():
    """Gemma-3-4B's published text config has neither heads nor vocabulary."""
    config = {
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "num_hidden_layers": 34,
        "sliding_window": 1024,
    }
    shape = Shape.of(config | {"model_type": "gemma3_text"})
    kind: Any = CONFIG_MAPPING["gemma3_text"]
    told = kind(**config)
    assert (shape.vocabulary, shape.tied) == (told.vocab_size, told.tie_word_embeddings)
    assert shape.windows == tuple(1024 if kind == "sliding_attention" else None for kind in told.layer_types)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(told)
    assert shape.parameters == model.num_parameters()


@pytest.mark.parametrize("key", ["intermediate_size", "vocab_size", "num_hidden_layers", "hidden_size"])
def test_what_is_not_stated_is_not_guessed(key: str):
    with pytest.raises(RopeError, match=f"config.{key}.*complete the config"):
        Shape.of({name: value for name, value in EIGHT_B.items() if name != key})


def test_an_unknown_kind_is_refused_by_name():
    with pytest.raises(RopeError, match="mixtral"):
        Shape.of(EIGHT_B | {"model_type": "mixtral"})
