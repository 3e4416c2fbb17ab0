"""LongRoPE: the factors are applied, switched and written as transformers reads them."""

import itertools
import json
import math

import numpy as np
import pytest
import torch

from ropewalk.rope import Factors, NotExpressible, RopeError, make_scheme, rotation_table, write_factors
from ropewalk.rope.schemes.longrope import LongRope

LONG = tuple(1 + 7 * pair / 31 for pair in range(32))
SHORT = tuple(1 + pair / 62 for pair in range(32))


# research/rope.md 1.1: sqrt(1 + ln s / ln L), "su" in microsoft/LongRoPE
@pytest.mark.parametrize(
    ("length", "factor", "scale"),
    [
        *((4096, 8, 1.118), (4096, 32, 1.190), (4096, 64, 1.225), (4096, 512, 1.323), (8192, 4, 1.074)),
        *((8192, 16, 1.144), (8192, 128, 1.240), (8192, 512, 1.301), (8192, 1, 1.0)),
    ],
)
def test_attention_scale_is_the_published_one(make_base, length, factor, scale):
    base = make_base(original_length=length)
    got = LongRope(factors=LONG).frequencies(base, target_length=length * factor)
    assert got.attention_scale == pytest.approx(scale, abs=5e-4)


def test_each_frequency_is_divided_by_its_own_factor(make_base):
    base = make_base()
    got = LongRope(factors=LONG).frequencies(base, target_length=65536)
    want = [10000 ** (-2 * pair / 64) / LONG[pair] for pair in range(32)]
    assert got.inv_freq[0].tolist() == pytest.approx(want, rel=1e-14)


@pytest.mark.parametrize(("length", "factors"), [(1, SHORT), (8192, SHORT), (8193, LONG), (65536, LONG)])
def test_short_factors_hold_up_to_the_original_length(make_base, length, factors):
    base, scheme = make_base(), LongRope(factors=LONG, short_factors=SHORT)
    assert scheme.depends_on_length
    got = scheme.frequencies(base, target_length=65536, length=length)
    divided = base.unscaled() / np.array(factors)
    np.testing.assert_allclose(got.inv_freq[0], divided, rtol=1e-15)
    # as in transformers, one attention scale for both
    assert got.attention_scale == pytest.approx(math.sqrt(1 + math.log(8) / math.log(8192)))


def test_without_a_length_the_target_decides(make_base):
    base, scheme = make_base(), LongRope(factors=LONG, short_factors=SHORT)
    marks = [scheme.frequencies(base, target_length=n).fingerprint for n in (8192, 65536)]
    lengths = [scheme.frequencies(base, target_length=n, length=n).fingerprint for n in (8192, 65536)]
    assert marks == lengths
    assert marks[0] != marks[1]


def test_one_list_holds_at_every_length(make_base):
    scheme = LongRope(factors=LONG)
    assert not scheme.depends_on_length
    at = [scheme.frequencies(make_base(), target_length=65536, length=n).fingerprint for n in (1, 65536)]
    assert at[0] == at[1]


def test_first_tokens_rotate_unscaled(make_base):
    """Microsoft's code gives them the cos and sin of plain RoPE, without the attention scale."""
    base = make_base()
    got = LongRope(factors=LONG, first_tokens=4).frequencies(base, target_length=65536)
    table = rotation_table(torch.tensor([[0, 3, 4, 9]]), got, torch.float64)
    for column, (position, divisors) in enumerate(((0, [1] * 32), (3, [1] * 32), (4, LONG), (9, LONG))):
        for pair in (0, 5, 31):
            angle = position * 10000 ** (-2 * pair / 64) / divisors[pair]
            want = math.cos(angle) * (1 if position < 4 else got.attention_scale)
            assert table.cos[0, 0, column, pair].item() == pytest.approx(want, abs=1e-12)


def test_without_factors_it_is_the_start_of_the_search(make_base):
    base = make_base(head_dim=128, theta=5e5)
    got = LongRope().frequencies(base, target_length=8192 * 16)
    divisors = (base.unscaled() / got.inv_freq[0]).tolist()
    # LLaMA3-8B: the theoretical critical dimension is 70, pair 35 (2502.20082); NTK of another base before it
    assert divisors[35:] == pytest.approx([16] * 29)
    ratios = [after / before for before, after in itertools.pairwise(divisors[:36])]
    assert ratios == pytest.approx([16 ** (1 / 35)] * 35)


def test_a_file_is_taken_into_the_knobs(tmp_path, make_base):
    path = tmp_path / "found.json"
    facts = {"rotary_dim": 64, "original_length": 8192, "target_length": 65536, "theta": 1e4}
    write_factors(path, Factors(long=LONG, short=SHORT, first_tokens=8, attention_scale=1.5, **facts))
    scheme = make_scheme("longrope", factors=str(path))
    path.unlink()
    again = make_scheme("longrope", **json.loads(json.dumps(scheme.knobs)))
    assert again == scheme
    assert again == LongRope(
        factors=LONG,
        short_factors=SHORT,
        first_tokens=8,
        attention_scale=1.5,
        theta=1e4,
        original_length=8192,
    )
    assert scheme.frequencies(make_base(), target_length=65536).attention_scale == 1.5
    for other in ({"theta": 5e5}, {"original_length": 4096}, {"head_dim": 128}):
        with pytest.raises(RopeError, match="searched for this model"):
            again.frequencies(make_base(**other), target_length=65536)


def test_what_is_stated_beside_a_file_wins(tmp_path):
    write_factors(tmp_path / "a.json", Factors(long=LONG, short=SHORT, first_tokens=8, attention_scale=1.5))
    (tmp_path / "short.csv").write_text(",".join(["1.5"] * 32))
    stated = {"first_tokens": 2, "attention_scale": 1.25, "short_factors": tmp_path / "short.csv"}
    scheme = make_scheme("longrope", factors=tmp_path / "a.json", **stated)
    short = (1.5,) * 32
    assert scheme == LongRope(factors=LONG, short_factors=short, first_tokens=2, attention_scale=1.25)
    assert json.dumps(scheme.knobs)


def test_first_tokens_are_not_expressible(make_base):
    scheme = LongRope(factors=LONG, first_tokens=1)
    with pytest.raises(NotExpressible, match=r"first_tokens.*got 1; .*search without"):
        scheme.to_hf(make_base(), target_length=65536)


def test_both_lists_are_written(make_base):
    base = make_base()
    one = LongRope(factors=LONG).to_hf(base, target_length=65536)
    two = LongRope(factors=LONG, short_factors=SHORT).to_hf(base, target_length=65536)
    assert one["long_factor"] == one["short_factor"] == two["long_factor"] == list(LONG)
    assert two["short_factor"] == list(SHORT)
    read = [LongRope.from_hf(p, original_length=8192, trained_length=65536) for p in (one, two)]
    assert [scheme.short_factors for scheme in read] == [None, SHORT]
    assert one["original_max_position_embeddings"] == 8192
    assert one["factor"] == 8
    assert one["attention_factor"] == pytest.approx(math.sqrt(1 + math.log(8) / math.log(8192)))


def test_a_config_may_leave_factor_and_scale_out():
    """Phi-3's do: transformers takes the factor from the lengths, and the scale from the factor."""
    read = LongRope.from_hf(
        {"long_factor": list(LONG), "short_factor": list(SHORT)}, original_length=4096, trained_length=131072
    )
    assert (read.factor, read.factors, read.short_factors) == (32, LONG, SHORT)
    assert read.attention_scale is None


def test_a_config_without_both_lists_is_refused():
    with pytest.raises(RopeError, match="short_factor and long_factor, got factor, long_factor; complete"):
        LongRope.from_hf({"long_factor": list(LONG), "factor": 2}, original_length=4096, trained_length=8192)
