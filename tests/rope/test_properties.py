"""What holds for every scheme on any model; a new file under rope/schemes/ is tested by existing."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ropewalk.rope import (
    FULL,
    SCHEMES,
    Base,
    NotExpressible,
    config_fields,
    make_scheme,
    read_base,
    rotate,
    rotation_table,
)

ALL = sorted(SCHEMES)
FACTORED = [name for name in ALL if "factor" in {field.name for field in dataclasses.fields(SCHEMES[name])}]
NEVER_UNSCALED = {"harpe": "has thetas of its own", "resonance": "rounds at every factor"}
MILLIONS = 8 * 2**20


@st.composite
def bases(draw) -> Base:
    length = draw(st.integers(256, 262_144))
    dim = draw(st.sampled_from((8, 16, 32, 64, 128, 256)))
    return Base(
        head_dim=dim,
        rotary_dim=draw(st.sampled_from((dim, dim // 2))) if dim > 8 else dim,
        theta=draw(st.floats(1e3, 1e9)),
        original_length=length,
        trained_length=length,
        query_heads=8,
        kv_heads=draw(st.sampled_from((1, 2, 8))),
        current=make_scheme("default"),
    )


FACTOR = st.integers(1, 512)
few = settings(max_examples=15, deadline=None)


@pytest.mark.parametrize("name", ALL)
@given(base=bases(), factor=FACTOR)
@few
def test_frequencies_are_positive_and_fall(name, base, factor):
    got = make_scheme(name).frequencies(base, target_length=base.original_length * factor)
    assert got.inv_freq.dtype == np.float64
    assert got.inv_freq.shape[0] in (1, base.kv_heads)
    assert got.inv_freq.shape[1] == base.rotary_dim // 2
    assert np.isfinite(got.inv_freq).all()
    assert (got.inv_freq > 0).all()
    assert (np.diff(got.inv_freq) <= 0).all()
    assert got.attention_scale > 0


@pytest.mark.parametrize("name", [name for name in ALL if name not in NEVER_UNSCALED])
@given(base=bases())
@few
def test_factor_one_changes_nothing(name, base):
    got = make_scheme(name).frequencies(base, target_length=base.original_length)
    assert (got.inv_freq == base.unscaled()).all()
    assert got.attention_scale == 1
    assert got.stretch(base) == 1


@pytest.mark.parametrize("name", FACTORED)
@given(base=bases(), factor=FACTOR)
@few
def test_a_stated_factor_is_the_derived_one(name, base, factor):
    target = base.original_length * factor
    derived = make_scheme(name).frequencies(base, target_length=target, length=target)
    stated = make_scheme(name, factor=float(factor)).frequencies(
        base, target_length=base.original_length, length=target
    )
    assert derived.fingerprint == stated.fingerprint


@pytest.mark.parametrize("name", ["linear", "ntk"])
@given(base=bases(), factor=FACTOR)
@few
def test_stretch_is_the_factor_where_the_slowest_frequency_is_divided_by_it(name, base, factor):
    got = make_scheme(name).frequencies(base, target_length=base.original_length * factor)
    assert got.stretch(base) == pytest.approx(factor, rel=1e-9)


@pytest.mark.parametrize("name", ALL)
@given(base=bases(), factor=FACTOR, share=st.floats(0, 1))
@few
def test_length_matters_only_where_the_scheme_says_so(name, base, factor, share):
    made, target = make_scheme(name), base.original_length * factor
    whole = made.frequencies(base, target_length=target)
    at = {length: made.frequencies(base, target_length=target, length=length) for length in (1, target)}
    assert at[target].fingerprint == whole.fingerprint
    if not made.depends_on_length:
        some = made.frequencies(base, target_length=target, length=1 + int(share * (target - 1)))
        assert some.fingerprint == at[1].fingerprint == whole.fingerprint
    elif factor > 1:
        assert at[1].fingerprint != whole.fingerprint


@pytest.mark.parametrize("name", ALL)
@given(base=bases(), factor=FACTOR)
@few
def test_written_and_read_back_it_is_the_same(name, base, factor):
    made, target = make_scheme(name), base.original_length * factor
    config = {"model_type": "llama", "hidden_size": base.head_dim * 8, "num_attention_heads": 8}
    config |= {"num_key_value_heads": base.kv_heads, "head_dim": base.head_dim}
    try:
        written = config_fields(config, {FULL: base}, made, target_length=target)
    except NotExpressible:
        return
    again = read_base(json.loads(json.dumps(written)))[FULL]
    kind = written["rope_parameters"]["rope_type"]
    for length in (base.original_length, target):
        want = made.frequencies(base, target_length=target, length=length)
        # the factor is written out, so another target length changes nothing
        for other in (target, 4 * target):
            got = again.current.frequencies(again, target_length=other, length=length)
            # divisors of a scheme without words of its own are rounded once
            within = 0 if made.hf_type in (None, kind) and kind != "longrope" else 1e-15
            np.testing.assert_allclose(got.inv_freq, want.inv_freq, rtol=within)
            assert got.attention_scale == want.attention_scale
    assert again.trained_length == made.hf_window(base, target_length=target)
    assert again.rotary_dim == base.rotary_dim
    # a scheme written as an ordinary theta leaves a model without a scheme
    assert again.original_length == (target if kind == "default" else base.original_length)


@pytest.mark.parametrize("name", ALL)
@given(base=bases(), factor=FACTOR, shift=st.integers(0, MILLIONS // 2), seed=st.integers(0, 99))
@few
def test_scores_depend_on_distance_only_and_norms_on_the_scale_only(name, base, factor, shift, seed):
    frequencies = make_scheme(name).frequencies(base, target_length=base.original_length * factor)
    generator = torch.Generator().manual_seed(seed)
    q, k = torch.randn(2, 1, base.kv_heads, 5, base.head_dim, dtype=torch.float64, generator=generator)
    positions = torch.randint(0, MILLIONS // 2, (1, 5), generator=generator)

    def turned(x, at):
        return rotate(x, rotation_table(at, frequencies, torch.float64), torch.float64)

    near = turned(q, positions) @ turned(k, positions).mT
    far = turned(q, positions + shift) @ turned(k, positions + shift).mT
    torch.testing.assert_close(near, far, rtol=0, atol=1e-6 * frequencies.attention_scale**2)
    norms = turned(q, positions)[..., : base.rotary_dim].norm(dim=-1)
    want = q[..., : base.rotary_dim].norm(dim=-1) * frequencies.attention_scale
    torch.testing.assert_close(norms, want, rtol=1e-12, atol=0)
