"""A scheme on a model type is the slow reference, whatever is done to the model around it."""

import copy

import pytest
import torch
from transformers import CONFIG_MAPPING
from world.slow import example, slow_logits

from ropewalk.rope import FULL, SCHEMES, families, install, make_scheme

KINDS = ["llama", "mistral", "qwen2", "qwen3", "phi3", "gemma3"]
# each scheme on two kinds, each kind with every sixth scheme and more
PAIRS = [(name, KINDS[(at + by) % 6]) for at, name in enumerate(sorted(SCHEMES)) for by in (0, 4)]
SHORT = {"max_position_embeddings": 32, "original_max_position_embeddings": 32}
TARGET = 128


@pytest.mark.parametrize("model_type", families.SUPPORTED)
def test_what_a_config_leaves_unsaid_is_what_its_class_says(model_type):
    """The tables of families.py against the installed transformers."""
    made = CONFIG_MAPPING[model_type]()
    switched = getattr(made, "use_sliding_window", None)
    assert (switched is False) == (model_type in families.SWITCHED)
    assert switched in (None, False)
    assert getattr(made, "sliding_window", None) == families.DEFAULT_WINDOW.get(model_type)
    original = getattr(made, "original_max_position_embeddings", None)
    assert original == families.DEFAULT_ORIGINAL.get(model_type)
    left_out = families.LEFT_OUT.get(model_type, {})
    assert {key: getattr(made, key) for key in left_out} == left_out
    by_layer = set(made.rope_parameters) & {FULL, families.SLIDING}
    assert bool(by_layer) == (model_type in families.BY_LAYER_TYPE)
    for layer_type, stated in made.rope_parameters.items() if by_layer else [(FULL, made.rope_parameters)]:
        known = families.DEFAULT_THETA.get((model_type, layer_type), stated["rope_theta"])
        assert stated["rope_theta"] == known
    declares = not by_layer and getattr(made, "layer_types", None) is not None
    assert declares == (model_type in families.DECLARE_LAYER_TYPES)


@pytest.mark.parametrize(("model_type", "older"), families.OLDER_TYPES)
def test_older_names_are_the_classes(model_type, older):
    half = [1.0] * (3072 // 32 // 2)
    stated = {"rope_type": older, "short_factor": half, "long_factor": half, "rope_theta": 1e4}
    stated |= {"original_max_position_embeddings": 4096, "factor": 1.0}
    made = CONFIG_MAPPING[model_type].from_dict({"rope_parameters": stated})
    assert made.rope_parameters["rope_type"] == families.OLDER_TYPES[model_type, older]


def tokens(*shape):
    return torch.randint(1, 64, shape, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def make(make_model):
    """Make a model of a kind, whose original window is 32 tokens, with a scheme on it."""

    def made(kind, name, **changes):
        short = {key: value for key, value in SHORT.items() if kind == "phi3" or "original" not in key}
        model = make_model(kind, **short | changes)
        pairs = 6 if kind == "phi3" else 8
        return install(model, make_scheme(name, **example(name, pairs)), target_length=TARGET)

    return made


@torch.no_grad()
def logits(model, ids, **more):
    return model(ids, use_cache=False, **more).logits


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_logits_are_the_slow_references(make, kind, name):
    model = make(kind, name).double()
    ids = tokens(2, 50)
    torch.testing.assert_close(logits(model, ids), slow_logits(model, ids), rtol=0, atol=1e-9)


@pytest.mark.parametrize(("name", "kind"), PAIRS[::2])
def test_casting_and_meta_initialisation_change_no_frequency(make, kind, name):
    model, ids = make(kind, name), tokens(1, 40)
    want, frequencies = logits(model, ids), live_frequencies(model)
    empty = copy.deepcopy(model).to("meta").to_empty(device="cpu")
    empty.load_state_dict(model.state_dict())
    for theirs, ours in zip(empty.buffers(), model.buffers(), strict=True):
        theirs.copy_(ours)
    torch.testing.assert_close(logits(empty, ids), want, rtol=0, atol=0)
    assert live_frequencies(empty.to(torch.bfloat16)) == frequencies == live_frequencies(model)
    assert logits(empty, ids).isfinite().all()


def live_frequencies(model):
    """Return the fingerprints of what the layers really turn by."""
    return [layer.self_attn.rotary.frequencies.fingerprint for layer in model.model.layers]
