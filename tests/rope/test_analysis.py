"""What `rope show` says about a scheme: against published numbers, or the slow obvious sum."""

import math

import numpy as np
import pytest

from ropewalk.rope import (
    Analysis,
    Base,
    Frequencies,
    analyse,
    attention_decay,
    base_lower_bound,
    critical_dimension,
    make_scheme,
)
from ropewalk.rope.analysis import first_negative, relative_positions
from ropewalk.rope.scheme import inverse_frequencies

# Men et al., 2405.14591, where 1K is 1000: the smallest base on a grid of theirs.
PUBLISHED_BOUNDS = [
    (1_000, 4.3e3, 0),
    (2_000, 1.6e4, 0),
    (4_000, 2.7e4, 0),
    (8_000, 8.4e4, 0),
    (16_000, 3.1e5, 0.04),
    (32_000, 6.4e5, 0.02),
    (64_000, 2.1e6, 0),
    (128_000, 7.8e6, 0),
]
FAR_BOUNDS = [(256_000, 3.6e7, 0.1), (512_000, 6.4e7, 0.02), (1_000_000, 5.1e8, 0.35)]


def look(name: str, base: Base, target_length: int) -> Analysis:
    """Analyse a scheme with its defaults."""
    frequencies = make_scheme(name).frequencies(base, target_length=target_length)
    return analyse(frequencies, base, target_length=target_length)


def slow_sums(inv_freq: np.ndarray, length: int) -> np.ndarray:
    """Add up cos(n theta_i) for every distance below `length`, the plain way, float64 [length]."""
    return np.cos(np.arange(length)[:, None] * inv_freq).sum(1)


@pytest.mark.parametrize(
    ("head_dim", "theta", "length", "dimension"),
    [(96, 1e4, 2048, 62), (128, 5e5, 8192, 70), (128, 1e4, 4096, 92)],
    ids=["Phi3-mini", "LLaMA3-8B", "LLaMA2"],
)
def test_critical_dimension_is_published(make_base, head_dim, theta, length, dimension):
    """LongRoPE2, 2502.20082: the 31st pair of Phi3-mini, the 35th of LLaMA3-8B; LLaMA2's by equation 7."""
    assert critical_dimension(make_base(head_dim=head_dim, theta=theta, original_length=length)) == dimension


@pytest.mark.parametrize("length", [3, 100, 2048, 131072])
@pytest.mark.parametrize("theta", [100.0, 1e4, 5e5])
def test_critical_dimension_splits_by_whole_turns(make_base, theta, length):
    base = make_base(head_dim=80, theta=theta, original_length=length)
    turned = int((length * base.unscaled() / (2 * math.pi) >= 1).sum())
    assert critical_dimension(base) == 2 * turned


class TestRegions:
    def test_linear_interpolates_every_pair(self, make_base):
        base = make_base(original_length=4096)
        told = look("linear", base, 32768)
        assert told.factor == 8
        assert told.regions == [["interpolated"] * 32]
        assert not told.unseen.any()
        np.testing.assert_allclose(told.turns_target[0], told.turns_original, rtol=1e-12)

    def test_default_leaves_the_slow_pairs_unseen(self, make_base):
        base = make_base(original_length=4096)
        told = look("default", base, 8192)
        assert told.regions == [["kept"] * 32]
        assert told.unseen[0].tolist() == [i >= critical_dimension(base) / 2 for i in range(32)]
        np.testing.assert_allclose(told.turns_target[0], 2 * told.turns_original, rtol=1e-12)
        np.testing.assert_allclose(told.wavelength[0], 2 * math.pi / base.unscaled(), rtol=1e-12)

    def test_llama3_has_all_three(self, make_base):
        """By its own bounds (2407.21783): kept above 4 turns, divided by s below 1, blended between."""
        base = make_base(head_dim=128, theta=5e5)
        told = look("llama3", base, 65536)
        for turns, region in zip(told.turns_original.tolist(), told.regions[0], strict=True):
            assert region == ("kept" if turns >= 4 else "interpolated" if turns <= 1 else "blended")
        assert {"kept", "blended", "interpolated"} == set(told.regions[0])
        assert not told.unseen.any()

    def test_ntk_meets_unseen_angles_between(self, make_base):
        """Only the last pair is divided by the whole factor: others past the critical one turn further."""
        base = make_base(original_length=4096)
        told = look("ntk", base, 32768)
        assert told.regions[0] == ["kept", *["blended"] * 30, "interpolated"]
        assert told.unseen[0].nonzero()[0].tolist() == list(range(critical_dimension(base) // 2, 31))

    def test_rows_are_told_apart(self, make_base):
        base = make_base(original_length=4096)
        unscaled = base.unscaled()
        rows = Frequencies(inv_freq=np.stack((unscaled, unscaled / 8, unscaled * 2)))
        told = analyse(rows, base, target_length=32768)
        assert [set(row) for row in told.regions] == [{"kept"}, {"interpolated"}, {"faster"}]
        assert told.divisor[:, 5].tolist() == pytest.approx([1, 8, 0.5])
        alone = [analyse(Frequencies(inv_freq=row[None]), base, target_length=32768) for row in rows.inv_freq]
        assert told.positive_until == [one.positive_until[0] for one in alone]
        assert (told.unseen == np.concatenate([one.unseen for one in alone])).all()

    def test_rounding_is_no_change(self, make_base):
        """Wavelengths rounded to whole tokens, beyond the critical pair, stay interpolated and seen."""
        base = make_base(original_length=4096)
        told = look("resonance", base, 32768)
        assert set(told.regions[0][critical_dimension(base) // 2 :]) == {"interpolated"}
        assert not told.unseen.any()

    def test_reach_shrinks_what_is_used(self, make_base):
        """An attention scheme that folds 8 windows into one turns no pair further than pretraining did."""
        base = make_base(original_length=4096)
        unscaled = Frequencies(inv_freq=base.unscaled()[None])
        told = analyse(unscaled, base, target_length=32768, reach=8)
        assert not told.unseen.any()
        np.testing.assert_allclose(told.turns_target[0], told.turns_original, rtol=1e-12)
        assert told.positive_until == [first_negative(base.unscaled(), 4096)]


class TestDecay:
    def test_it_is_the_mean_of_turned_products(self, make_base):
        """The definition: q.k of equal random q and k, turned by their distance, over q.k unturned."""
        base = make_base(head_dim=32)
        frequencies = make_scheme("yarn").frequencies(base, target_length=65536)
        pairs = np.random.default_rng(0).standard_normal((2, 200_000, 16)).T @ [1, 1j]
        distances = np.array([0, 3, 1000, 60_000])
        for distance, got in zip(distances, attention_decay(frequencies, distances)[0], strict=True):
            turn = np.exp(-1j * distance * frequencies.inv_freq[0])[:, None]
            product = float((pairs * (pairs * turn).conj()).real.sum() / (np.abs(pairs) ** 2).sum())
            assert float(got) == pytest.approx(frequencies.attention_scale**2 * product, abs=4e-3)

    def test_rows(self):
        rows = Frequencies(inv_freq=np.random.default_rng(0).random((3, 8)), attention_scale=1.3)
        distances = np.array([1, 50, 7000])
        want = [
            [1.69 * sum(math.cos(n * w) for w in row) / 8 for n in (1, 50, 7000)] for row in rows.inv_freq
        ]
        got = attention_decay(rows, distances)
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)

    @pytest.mark.parametrize("theta", [1e4, 27_000.0, 5e5, 1.9e6])
    def test_first_negative_is_the_first_of_the_slow_sums(self, theta):
        inv_freq = inverse_frequencies(theta, 128)
        below = (slow_sums(inv_freq, 70_000) < 0).nonzero()[0]
        first = int(below[0])
        assert first_negative(inv_freq, 70_000) == first
        assert first_negative(inv_freq, first + 1) == first
        assert first_negative(inv_freq, first) is None


class TestRelativePositions:
    """As the last token sees them, against the formulas in the papers."""

    def test_frequency_schemes_have_distances(self, make_base):
        distances = np.array([0, 1, 30_000])
        got = relative_positions(make_scheme("yarn"), make_base(), distances, target_length=32768)
        assert (got == distances).all()

    def test_self_extend(self, make_base):
        """2401.01325: m - n within the window w, else floor(m/G) - floor(n/G) + w - floor(w/G)."""
        base, last = make_base(original_length=64), 199
        scheme = make_scheme("self-extend", group=5, window=13)
        got = relative_positions(scheme, base, np.arange(200), target_length=200)
        keys = range(199, -1, -1)
        assert got.tolist() == [
            last - n if last - n < 13 else last // 5 - n // 5 + 13 - 13 // 5 for n in keys
        ]

    def test_dca(self, make_base):
        """2402.17463: true distance in the chunk and to the nearest w before it, capped further away."""
        base, last, s, c = make_base(original_length=64), 199, 40, 30
        scheme = make_scheme("dca", chunk=s, window=s - c)
        got = relative_positions(scheme, base, np.arange(200), target_length=200)

        def query(chunks_apart: int) -> int:
            return [last % c, min(last % c + c, s)][chunks_apart] if chunks_apart < 2 else min(2 * c - 1, s)

        assert got.tolist() == [query(last // c - n // c) - n % c for n in range(199, -1, -1)]
        assert got.max() <= s


class TestBaseLowerBound:
    @pytest.mark.parametrize(("length", "published", "apart"), PUBLISHED_BOUNDS)
    def test_is_published(self, length, published, apart):
        assert base_lower_bound(128, length) == pytest.approx(published, rel=apart or 1e-12)

    @pytest.mark.slow
    @pytest.mark.parametrize(("length", "published", "apart"), FAR_BOUNDS)
    def test_is_published_far_out(self, length, published, apart):
        """At a million the published base holds, but is not the smallest on a grid of two digits."""
        bound = base_lower_bound(128, length) or 0
        assert bound == pytest.approx(published, rel=apart)
        assert slow_sums(inverse_frequencies(bound, 128), length).min() >= 0

    @pytest.mark.parametrize(("dim", "length"), [(64, 1024), (128, 4096), (96, 5500), (96, 5700)])
    def test_holds_and_no_smaller_one_does(self, dim, length):
        bound = base_lower_bound(dim, length) or 0
        assert slow_sums(inverse_frequencies(bound, dim), length).min() >= 0
        smaller = [m * 10.0**power for power in range(2, 6) for m in range(10, 100)]
        for theta in (theta for theta in smaller if theta < bound):
            assert slow_sums(inverse_frequencies(theta, dim), length).min() < 0

    def test_a_few_pairs_have_none(self):
        assert base_lower_bound(4, 1000) is None
