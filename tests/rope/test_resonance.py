"""Resonance: whole wavelengths after whatever scaling, and the same in what is written."""

import math

import numpy as np
import pytest
import torch

from ropewalk.rope import NotExpressible, make_scheme, rotation_table

KINDS = ["default", "linear", "ntk", "abf", "yarn", "llama3", "dynamic", "longrope", "harpe"]


@pytest.mark.parametrize("kind", KINDS)
def test_wavelengths_are_the_nearest_whole_ones(make_base, kind):
    base, inner = make_base(), make_scheme(kind)
    for length in (100, 32768):
        scaled = inner.frequencies(base, target_length=32768, length=length)
        scheme = make_scheme("resonance", of={"kind": kind})
        got = scheme.frequencies(base, target_length=32768, length=length)
        for row, rounded in zip(scaled.inv_freq.tolist(), got.inv_freq.tolist(), strict=True):
            want = [2 * math.pi / round(2 * math.pi / value) for value in row]
            assert rounded == pytest.approx(want, rel=1e-14)
        assert got.attention_scale == scaled.attention_scale
    assert scheme.depends_on_length == inner.depends_on_length


def test_angles_repeat_exactly(make_base):
    got = make_scheme("resonance").frequencies(make_base(), target_length=65536)
    period = round(2 * math.pi / got.inv_freq[0, 12].item())
    table = rotation_table(torch.tensor([[5, 5 + 1000 * period]]), got, torch.float64)
    assert table.cos[0, 0, 0, 12].item() == pytest.approx(table.cos[0, 0, 1, 12].item(), abs=1e-8)


def test_first_tokens_stay_unscaled(make_base):
    base = make_base()
    inner = {"kind": "longrope", "factors": [2.0] * 32, "first_tokens": 4}
    got = make_scheme("resonance", of=inner).frequencies(base, target_length=16384)
    assert got.first_tokens == 4
    assert got.first_inv_freq is not None
    assert (got.first_inv_freq[0] == base.unscaled()).all()


def test_it_is_written_as_divisors_that_may_be_below_one(make_base):
    base, scheme = make_base(), make_scheme("resonance", of={"kind": "yarn", "factor": 8})
    written = scheme.to_hf(base, target_length=65536)
    assert written["rope_type"] == "longrope"
    assert written["short_factor"] == written["long_factor"]
    # the first wavelength, 2 pi tokens, becomes 6
    assert written["long_factor"][0] == pytest.approx(6 / (2 * math.pi))
    assert written["attention_factor"] == pytest.approx(0.1 * math.log(8) + 1)
    read = make_scheme("longrope").from_hf(written, original_length=8192, trained_length=65536)
    assert make_scheme("longrope", **read.knobs) == read
    got = read.frequencies(base, target_length=65536).inv_freq
    want = scheme.frequencies(base, target_length=65536).inv_freq
    np.testing.assert_allclose(got, want, rtol=1e-14)


def test_both_regimes_of_longrope_are_written_rounded(make_base):
    base = make_base()
    inner = {"kind": "longrope", "factors": [3.3] * 32, "short_factors": [1.1] * 32}
    scheme = make_scheme("resonance", of=inner)
    written = scheme.to_hf(base, target_length=65536)
    for key, length in (("short_factor", 8192), ("long_factor", 65536)):
        want = scheme.frequencies(base, target_length=65536, length=length).inv_freq[0]
        got = base.unscaled() / np.array(written[key])
        np.testing.assert_allclose(got, want, rtol=1e-14)


@pytest.mark.parametrize(
    ("inner", "word"),
    [
        ({"kind": "dynamic"}, "got dynamic, .*static"),
        ({"kind": "harpe"}, "got 2 rows; .*install"),
        ({"kind": "longrope", "first_tokens": 3}, "got 3 first tokens unscaled; .*install"),
    ],
)
def test_what_no_config_holds_is_not_written(make_base, inner, word):
    with pytest.raises(NotExpressible, match=word):
        make_scheme("resonance", of=inner).to_hf(make_base(), target_length=65536)
