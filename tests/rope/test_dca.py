"""Dual chunk attention is that of its papers, in their numbers."""

from typing import Any

import numpy as np
import pytest
import torch

from ropewalk.rope import make_scheme


def test_figure_2_of_the_dca_paper(make_base):
    """2402.17463: chunks of 6, 10 tokens pretrained, window 4; the code's sizes for it are 9 and 3."""
    base = make_base(original_length=10)
    scheme: Any = make_scheme("dca", chunk=9, window=3)
    own, before, earlier = scheme.bands(base, target_length=24)
    places = torch.arange(12, 24)
    assert own.query(places).tolist() == [0, 1, 2, 3, 4, 5] * 2
    assert before.query(places).tolist() == [6, 7, 8, 9, 9, 9] * 2
    assert earlier.query(places).tolist() == [9] * 12
    assert [band.keys(13) for band in (own, before, earlier)] == [(12, 14), (6, 12), (0, 6)]


def test_qwens_sizes_and_temperature(make_base):
    """2501.15383: chunks of 262,144 less 8,192, 1/t = (0.1 ln s + 1)^2 at s times the trained length."""
    base = make_base(original_length=262144)
    scheme: Any = make_scheme("dca", chunk=262144, window=8192, log_scale=0.1)
    own, before, earlier = scheme.bands(base, target_length=1_010_000)
    places = torch.tensor([253_951, 253_952, 262_143, 262_144, 262_145, 507_903, 1_009_999])
    assert own.query(places).tolist() == [253_951, 0, 8_191, 8_192, 8_193, 253_951, 248_143]
    assert before.query(places).tolist() == [262_144, 253_952, *[262_143], *[262_144] * 4]
    assert earlier.query(places).unique().tolist() == [262_144]
    assert [band.keys(600_000) for band in (own, before, earlier)] == [
        (507_904, 600_001), (253_952, 507_904), (0, 253_952)
    ]  # fmt: skip
    assert scheme.score_scale(base, np.arange(262_144)) is None
    scale = scheme.score_scale(base, np.array([0, 262_143, 262_144, 1_048_575]))
    assert scale.tolist() == pytest.approx([1, 1, 1 + 0.2 / 262_144, 1.296477])
