"""Schemes replace one another from the unscaled frequencies, when asked to; they never stack."""

import pytest
import torch

from ropewalk.rope import RopeError, install, installed, layer_fingerprint, make_scheme

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "rope_theta": 1e4,
}
CARRIES_LLAMA3 = {
    "rope_parameters": LLAMA3 | {"original_max_position_embeddings": 64},
    "max_position_embeddings": 256,
}
LENGTHS = {"kind": "longrope", "factors": [2.0] * 8, "short_factors": [1.0] * 8}


def installed_with(model, given, **more):
    knobs = {"target_length": 1024} | given | more
    lengths = ("target_length", "original_length", "replace")
    where = {name: knobs.pop(name) for name in lengths if name in knobs}
    return install(model, make_scheme(knobs.pop("kind"), **knobs), **where)


def tokens(*shape):
    return torch.randint(1, 64, shape, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def logits(model, ids):
    return model(ids, use_cache=False).logits


def test_as_it_is_keeps_the_scheme_the_model_carries(make_model):
    model = make_model(**CARRIES_LLAMA3)
    before = logits(model, tokens(2, 200))
    install(model)
    torch.testing.assert_close(logits(model, tokens(2, 200)), before, rtol=0, atol=1e-4)
    assert installed(model).scheme == make_scheme(
        "llama3", factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0
    )
    assert installed(model).target_length == 256
    assert installed(model).bases["full_attention"].original_length == 64


def test_a_carried_scheme_is_not_replaced_unasked(make_model):
    model = make_model(**CARRIES_LLAMA3)
    with pytest.raises(RopeError, match=r"got llama3 .*rope\.replace"):
        install(model, make_scheme("yarn"), target_length=1024)
    with pytest.raises(RopeError, match=r"call rope\.install"):
        installed(model)


def test_it_is_replaced_from_the_unscaled_frequencies(make_model):
    carried = install(make_model(**CARRIES_LLAMA3), make_scheme("yarn"), target_length=512, replace=True)
    plain = install(make_model(max_position_embeddings=64), make_scheme("yarn"), target_length=512)
    assert installed(carried).fingerprint == installed(plain).fingerprint
    assert carried.config.rope_parameters == plain.config.rope_parameters


def test_an_installed_scheme_is_replaced_likewise(make_model):
    model = install(make_model(), make_scheme("abf"), target_length=1024)
    with pytest.raises(RopeError, match=r"got abf .*rope\.replace"):
        install(model, make_scheme("yarn"), target_length=2048)
    assert installed(model).scheme == make_scheme("abf")
    install(model, make_scheme("yarn"), target_length=2048, replace=True)
    fresh = install(make_model(), make_scheme("yarn"), target_length=2048)
    assert installed(model).fingerprint == installed(fresh).fingerprint
    assert torch.equal(logits(model, tokens(1, 40)), logits(fresh, tokens(1, 40)))


def test_the_same_scheme_again_is_no_change(make_model):
    model = install(make_model(), make_scheme("yarn"), target_length=1024)
    mark = installed(model).fingerprint
    install(model, make_scheme("yarn"), target_length=1024)
    install(model)
    assert installed(model).fingerprint == mark
    assert installed(model).target_length == 1024


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (LENGTHS, LENGTHS | {"short_factors": [1.5] * 8}),
        ({"kind": "dynamic"}, {"kind": "default"}),
        ({"kind": "self-extend"}, {"kind": "self-extend", "target_length": 2048}),
        ({"kind": "dca"}, {"kind": "dca", "original_length": 128}),
        ({"kind": "linear"}, {"kind": "linear", "original_length": 128}),
    ],
    ids=lambda given: given["kind"],
)
def test_another_scheme_is_known_by_all_its_lengths(make_model, first, then):
    """Also where the frequencies of the target's length, or the knobs, are the same."""
    model = installed_with(make_model(), first)
    mark, before = installed(model).fingerprint, layer_fingerprint(model)
    with pytest.raises(RopeError, match=rf"got {first['kind']} .*rope\.replace"):
        installed_with(model, then)
    assert installed(model).fingerprint == mark
    installed_with(model, then, replace=True)
    assert installed(model).fingerprint != mark
    assert layer_fingerprint(model) != before
    installed_with(model, then)


def test_a_config_of_dynamic_carries_it(make_model):
    config = install(make_model(), make_scheme("dynamic"), target_length=1024).config
    assert config.max_position_embeddings == 256
    with pytest.raises(RopeError, match=r"got dynamic .*rope\.replace"):
        install(make_model(config=config), make_scheme("default"))
    same = install(make_model(config=config), make_scheme("dynamic"), target_length=1024)
    assert installed(same).target_length == 1024


def test_lengths_are_overridden(make_model):
    model = install(make_model(), make_scheme("linear"), target_length=1024, original_length=128)
    assert model.config.rope_parameters["factor"] == 8
    install(model, make_scheme("linear"), target_length=1024, original_length=512, replace=True)
    assert model.config.rope_parameters["factor"] == 2
