"""Octaves count every token and every query-key pair of a group once, by distance."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ropewalk.data import DataSpec, Plan, beyond, coverage, open_plan, prepare


@pytest.fixture(params=["document", "pack"])
def plan(
    request: pytest.FixtureRequest, spec: Callable[..., DataSpec], tokenizer: Path, tmp_path: Path
) -> Plan:
    made = prepare(
        spec(code={"groups": request.param}), tokenizer_path=tokenizer, length=300, folder=tmp_path
    )
    return open_plan(made.folder)


def every_distance(plan: Plan) -> np.ndarray:
    """List the distance of every pair of the plan, one by one."""
    distances = []
    for index in range(len(plan)):
        filled = sum(segment.length for segment in plan[index].segments)
        for start, stop in plan.groups(index):
            if start < filled:
                distances += [q - k for q in range(start, stop) for k in range(start, q + 1)]
    return np.array(distances)


def test_pairs_and_tokens_are_those_counted_one_by_one(plan: Plan):
    distances = every_distance(plan)
    octaves = coverage(plan)
    assert [octave.start for octave in octaves[:4]] == [0, 1, 2, 4]
    for octave in octaves:
        inside = (distances >= octave.start) & (distances < octave.stop)
        assert octave.pairs == inside.sum()
    assert sum(octave.tokens for octave in octaves) == plan.manifest["report"]["tokens"]


def test_the_share_beyond_a_length(plan: Plan):
    distances = every_distance(plan)
    for length in (1, 64, 299, 300, 5000):
        assert beyond(plan, length) == pytest.approx((distances >= length).mean())
