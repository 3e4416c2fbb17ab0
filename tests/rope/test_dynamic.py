"""Dynamic NTK: nothing up to the original length, a theta of each length beyond; read and written for it."""

import pytest

from ropewalk.rope import RopeError, config_fields, make_scheme, read_base


@pytest.mark.parametrize(("length", "divisor"), [(1, 1), (8192, 1), (16384, 5), (32768, 13)])
def test_the_slowest_frequency_is_divided_by(make_base, length, divisor):
    """At n = s L the divisor is s^2 - s + 1, 13 at s = 4 (research/rope.md 4)."""
    base, scheme = make_base(), make_scheme("dynamic", factor=4)
    got = scheme.frequencies(base, target_length=32768, length=length)
    assert scheme.depends_on_length
    assert got.stretch(base) == pytest.approx(divisor, rel=1e-12)
    assert got.inv_freq[0, 0] == 1


def test_without_a_length_the_target_is_taken(make_base):
    base, scheme = make_base(), make_scheme("dynamic")
    got = scheme.frequencies(base, target_length=32768)
    assert got.fingerprint == scheme.frequencies(base, target_length=32768, length=32768).fingerprint
    assert (scheme.frequencies(base, target_length=8192).inv_freq[0] == base.unscaled()).all()


def test_it_is_written_with_the_window_that_transformers_computes_from(make_base):
    base, scheme = make_base(), make_scheme("dynamic")
    config = {"model_type": "llama", "hidden_size": 512, "num_attention_heads": 8, "head_dim": 64}
    config |= {"num_key_value_heads": 2}
    written = config_fields(config, {"full_attention": base}, scheme, target_length=32768)
    assert written["max_position_embeddings"] == 8192
    stated = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}
    assert written["rope_parameters"] == stated | {"original_max_position_embeddings": 8192}
    read = read_base(written)["full_attention"]
    assert read.current == make_scheme("dynamic", factor=4.0)
    assert read.original_length == 8192


def test_a_config_without_a_factor_is_refused():
    with pytest.raises(RopeError, match="must state factor, got no factor; complete"):
        make_scheme("dynamic").from_hf({}, original_length=8192, trained_length=8192)
