"""Which steps are taken: rules of two numbers and those before, without a model."""

import json
import math
import random
import statistics
from pathlib import Path
from typing import Any

import pytest
from world.training import recipe

from ropewalk.train import TrainError
from ropewalk.train.guard import IN_A_ROW, LEAST, WINDOW, Guard, judge, spike
from ropewalk.train.mesh import Mesh
from ropewalk.train.metrics import StepRecord, keep_until, taken
from ropewalk.train.progress import Progress
from ropewalk.train.settings import TrainSection

NAN, INF = math.nan, math.inf


def settings(**rules: str) -> TrainSection:
    return recipe("run", "tokenizer", **rules).stage.train


def calm(steps: int) -> list[tuple[float, float]]:
    draw = random.Random(0)
    return [(draw.gauss(3.0, 0.1), draw.gauss(1.0, 0.2)) for _ in range(steps)]


def guard(rules: TrainSection, before: Any = (), **known: Any) -> Guard:
    return Guard(rules, Mesh.alone(), **({"before": before, "skipped": (), "avoided": {}} | known))


@pytest.mark.parametrize("step", [(NAN, 1.0), (INF, 1.0), (-INF, 1.0), (3.0, NAN), (3.0, INF), (NAN, INF)])
@pytest.mark.parametrize("rule", ["stop", "skip", "back"])
def test_what_is_no_number_follows_its_own_rule(step: tuple[float, float], rule: str) -> None:
    verdict = judge(settings(on_non_finite=rule, on_spike="stop"), step, calm(WINDOW))
    assert (verdict.answer, verdict.rule) == (rule, "on_non_finite")


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("known", [LEAST, WINDOW, 3 * WINDOW])
def test_a_spike_is_more_than_six_sigma_above_the_last_steps(place: int, known: int) -> None:
    before = calm(known)
    past = [step[place] for step in before[-WINDOW:]]
    limit = statistics.fmean(past) + 6 * statistics.stdev(past)
    for value, answer in [(limit * (1 + 1e-12), "skip"), (limit * (1 - 1e-12), "take"), (-limit, "take")]:
        step = (value, 1.0) if place == 0 else (3.0, value)
        assert judge(settings(on_spike="skip"), step, before).answer == answer


def test_with_too_few_steps_known_no_step_is_a_spike() -> None:
    assert spike((1e9, 1e9), calm(LEAST - 1)) == ""
    assert "loss 1e+09 above" in spike((1e9, 1.0), calm(LEAST))


def test_a_spike_is_taken_unless_a_recipe_says_otherwise() -> None:
    assert judge(settings(), (1e9, 1e9), calm(WINDOW)).answer == "take"


def test_only_taken_steps_count() -> None:
    one = guard(settings(on_spike="skip"), calm(WINDOW))
    before = list(one.before)
    assert one.judge(200, (50.0, 1.0)).answer == "skip"
    assert list(one.before) == before
    assert one.judge(201, (3.0, 1.0)).answer == "take"
    assert list(one.before) == [*before[1:], (3.0, 1.0)]


def test_a_step_that_the_run_went_back_from_is_skipped_when_it_comes_again() -> None:
    avoided: dict[int, str] = {}
    rules = settings(on_non_finite="back")
    assert guard(rules, avoided=avoided).judge(5, (NAN, 1.0)).answer == "back"
    again = guard(rules, avoided=avoided)
    assert [again.judge(step, (3.0, 1.0)).answer for step in (4, 5, 6)] == ["take", "skip", "take"]
    assert again.judge(5, (3.0, 1.0)).why == "loss nan"


@pytest.mark.parametrize("rule", ["skip", "back"])
def test_a_run_that_skips_step_after_step_ends(rule: str) -> None:
    one = guard(settings(on_non_finite=rule), skipped=[3])
    for step in range(5, 5 + IN_A_ROW):
        assert one.judge(step, (3.0, INF)).answer == rule
    with pytest.raises(TrainError, match=r"steps 5 to 13.*gradient norm inf;"):
        one.judge(5 + IN_A_ROW, (3.0, INF))


@pytest.mark.parametrize(
    ("rules", "step", "key", "value", "cure"),
    [
        ({}, (NAN, 1.0), "train.on_non_finite", "loss nan at step 7", "on_non_finite=skip"),
        ({}, (3.0, INF), "train.on_non_finite", "gradient norm inf at step 7", "learning_rate"),
        ({"on_spike": "stop"}, (30.0, 1.0), "train.on_spike", "loss 30 above", "on_spike=skip"),
    ],
)
def test_a_stop_says_why_and_what_then(rules: Any, step: Any, key: str, value: str, cure: str) -> None:
    with pytest.raises(TrainError, match=f"^{key}: ") as caught:
        guard(settings(**rules), calm(WINDOW)).judge(7, step)
    assert value in str(caught.value)
    assert cure in str(caught.value)


def record(step: int, stage: int, loss: float | None, *, skipped: bool = False) -> StepRecord:
    numbers = {"learning_rate": 0.1, "tokens": 1, "tokens_per_second": 1.0, "seconds": 1.0}
    return StepRecord(step=step, stage=stage, loss=loss, grad_norm=0.1 * step, skipped=skipped, **numbers)


def test_the_window_is_read_again_to_the_last_bit(tmp_path: Path) -> None:
    losses = [1 / 3, 2 / 3, 3.0, 0.1 + 0.2, 5.0]
    for place, loss in enumerate(losses, 1):
        record(place, int(place > 1), loss, skipped=place == 3).write(tmp_path)
    keep_until(tmp_path, 4)
    assert taken(tmp_path, 1) == [(2 / 3, 0.1 * 2), (0.1 + 0.2, 0.1 * 4)]
    assert taken(tmp_path, 0) == [(1 / 3, 0.1)]
    assert taken(tmp_path / "none", 0) == []


def test_lines_from_before_steps_could_be_skipped_are_read(tmp_path: Path) -> None:
    old = {"step": 1, "stage": 0, "loss": 2.5, "grad_norm": 0.5}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(old) + "\n")
    assert taken(tmp_path, 0) == [(2.5, 0.5)]


def test_evaluations_on_the_way_are_cut_with_the_steps(tmp_path: Path) -> None:
    (tmp_path / "evaluations.jsonl").write_text('{"step": 2}\n{"step": 4}\n{"step": 6')
    keep_until(tmp_path, 2)
    assert (tmp_path / "evaluations.jsonl").read_text() == '{"step": 2}\n'
    assert not (tmp_path / "metrics.jsonl").exists()


def test_progress_counts_the_updates_and_reads_what_knew_of_no_skipping() -> None:
    old = {"step": 7, "stage": 1, "stage_step": 3, "tokens": 700}
    assert Progress.of(old).updates == 7
    here = Progress.of(old).after(100, skipped=False).after(0, skipped=True)
    assert here == Progress(step=9, stage=1, stage_step=5, tokens=800, skipped=(9,))
    assert here.updates == 8
    assert Progress.of(json.loads(json.dumps(vars(here)))) == here
