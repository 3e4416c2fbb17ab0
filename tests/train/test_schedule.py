"""The learning rate's published shape at its landmarks."""

import math

import pytest

from ropewalk.train.schedule import learning_rate

CURVE = {"peak": 2.0, "warmup": 10, "floor": 0.1, "steps": 111}


@pytest.mark.parametrize("kind", ["cosine", "linear", "constant"])
def test_landmarks(kind: str) -> None:
    rates = [learning_rate(step, kind=kind, **CURVE) for step in range(111)]  # type: ignore[arg-type]
    assert rates[10] == 2.0 == max(rates)
    assert rates[0] == pytest.approx(2.0 / 11)
    middle = {"cosine": 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 2)), "linear": 0.55, "constant": 1.0}[kind]
    assert rates[60] == pytest.approx(2.0 * middle)
    assert rates[110] == pytest.approx(2.0 if kind == "constant" else 0.2)


def test_one_step_run_uses_its_peak() -> None:
    assert learning_rate(0, peak=3.0, kind="cosine", warmup=0, floor=0.1, steps=1) == 3.0
