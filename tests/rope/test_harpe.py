"""HARPE: the published thetas on 32 heads, our quantiles of them elsewhere."""

import numpy as np
import pytest

from ropewalk.rope import NotExpressible, make_scheme

# 2412.07171, table of the chosen bases, in millions, heads 1 to 32
PAPER = """1.00 1.15 1.30 1.45 2.17 2.20 2.23 2.47 2.50 2.65 2.68 2.71 2.74 2.80 2.83 2.92
3.01 3.04 3.10 3.13 3.16 3.22 3.43 3.46 3.61 3.88 4.09 4.15 4.39 4.45 4.51 4.54"""
BASES = [float(text) * 1e6 for text in PAPER.split()]


def thetas(base, **knobs):
    """Return each head's theta, from its slowest frequency theta^(-(d - 2) / d)."""
    got = make_scheme("harpe", **knobs).frequencies(base, target_length=131072)
    assert got.inv_freq.shape == (base.kv_heads, base.rotary_dim // 2)
    return got.inv_freq[:, -1] ** (-base.rotary_dim / (base.rotary_dim - 2))


def test_thirty_two_heads_have_the_published_thetas(make_base):
    assert thetas(make_base(query_heads=32, kv_heads=32)).tolist() == pytest.approx(BASES, rel=1e-9)


@pytest.mark.parametrize("heads", [1, 2, 3, 4, 8, 16, 40, 64])
def test_other_numbers_of_heads_take_quantiles(make_base, heads):
    got = thetas(make_base(query_heads=heads, kv_heads=heads))
    want = np.interp((np.arange(heads) + 0.5) / heads, (np.arange(32) + 0.5) / 32, BASES)
    assert got.tolist() == pytest.approx(want.tolist(), rel=1e-9)


def test_quantiles_by_hand(make_base):
    assert thetas(make_base(query_heads=8, kv_heads=8))[0] == pytest.approx(1.225e6)
    assert thetas(make_base(query_heads=1, kv_heads=1))[0] == pytest.approx(2.965e6)


@pytest.mark.parametrize(
    ("knobs", "want"),
    [
        ({"bases": "ascending"}, [1e6, 2e6, 3e6, 4e6, 5e6]),
        ({"bases": "descending"}, [5e6, 4e6, 3e6, 2e6, 1e6]),
        ({"bases": "ascending", "lowest": 1e4, "highest": 5e4}, [1e4, 2e4, 3e4, 4e4, 5e4]),
        ({"bases": [7e5, 1e4, 2e6, 3e6, 9e6]}, [7e5, 1e4, 2e6, 3e6, 9e6]),
    ],
)
def test_uniform_and_stated_thetas(make_base, knobs, want):
    assert thetas(make_base(query_heads=5, kv_heads=5), **knobs).tolist() == pytest.approx(want)


def test_no_config_has_a_place_for_it(make_base):
    with pytest.raises(NotExpressible, match="got 2, one a kv head; no reader takes frequencies per head"):
        make_scheme("harpe").to_hf(make_base(), target_length=131072)
