"""What a comparison recipe becomes: recipes by factor, schemes at their stretch, cells, and refusals."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from ropewalk.recipes.jobs.comparison.plan import ComparisonPlan, plan_of
from ropewalk.recipes.jobs.comparison.recipe import read_comparison


def test_each_factor_is_composed_anew(recipe: Path):
    told = read_comparison(str(recipe), ["compare.factors=[2,4]"])
    lengths = {factor: own.target_length for factor, own in told.recipes.items()}
    assert lengths == {2: 128, 4: 256}
    for factor, own in told.recipes.items():
        assert own.eval.tasks["needles"].knobs["lengths"] == [lengths[factor]]


def test_what_is_prepared_is_every_factor_and_seed(recipe: Path):
    stages = plan_of(str(recipe), ["compare.factors=[2,4]", "compare.seeds=2", "data.seed=5"]).stages
    assert [(stage.target_length, stage.data.seed) for stage in stages] == [
        (128, 5),
        (128, 6),
        (256, 5),
        (256, 6),
    ]
    assert {stage.data.store for stage in stages} == {str(recipe.parent / "run" / "data")}
    assert [stage.target_length for stage in plan_of("tiny-base", []).stages] == [64, 128, 256, 512, 512]


def test_schemes_that_are_one_at_equal_stretch_share_their_cells(recipe: Path):
    schemes = "compare.schemes=[{kind: ntk}, {kind: abf}, {kind: linear}]"
    equal = read_comparison(str(recipe), [schemes])
    assert [one.same_as for one in equal.contenders[4]] == [None, "ntk", None]
    assert equal.contenders[4][1].setting == "as ntk"
    assert equal.count() == {4: (2, 4)}
    published = read_comparison(str(recipe), [schemes, "compare.stretch=published"])
    assert [one.same_as for one in published.contenders[4]] == [None, None, None]
    stretches = {one.label: one.stretch for one in published.contenders[4]}
    assert stretches["linear"] == pytest.approx(4)
    assert abs(stretches["abf"] - 4) > 0.1


def test_twins_that_are_not_both_trained_are_two(recipe: Path):
    schemes = "compare.schemes=[{kind: ntk}, {kind: abf, trained: false}]"
    [ntk, abf] = read_comparison(str(recipe), [schemes]).contenders[4]
    assert (ntk.same_as, abf.same_as) == (None, None)


def test_a_dry_run_counts_cells_and_tokens(recipe: Path):
    console = Console(record=True, width=200, quiet=False, file=io.StringIO())
    ComparisonPlan(str(recipe), []).show(1, console)
    shown = " ".join(console.export_text().split())
    # 2 tasks: 4 documents of 256 tokens, 1 depth x 2 prompts of 256; 3 steps of 512 tokens
    assert "2 cells training-free and 4 trained, each 1,536 tokens in 3 steps; each scores 1,536" in shown
    assert f"{4 * 1536:,} tokens trained, {6 * 1536:,} scored" in shown
    assert "a screening" in shown


BAD_INPUT = [
    ("compare=null", "got none", "compare-tiny"),
    ("compare.schemes=[{kind: yarn}]", "got 1", "add another"),
    ("compare.schemes=[{kind: yarn}, {kind: yarn}]", "yarn twice", "remove"),
    ("compare.schemes=[{kind: yarn}, {kind: yarm}]", "'yarm'", "yarn"),
    ("compare.schemes=[{kind: yarn}, {kind: ntk, beta: 4}]", "beta", "ntk has factor"),
    ("compare.schemes=[{kind: yarn}, {kind: ntk, factor: 4}]", "got 4", "stretch: published"),
    ("compare.schemes=[{kind: yarn}, {kind: dca, trained: true}]", "dca", "remove"),
    ("compare.schemes=[{kind: yarn}, {knob: 4}]", "got nothing", "kind"),
    ("compare.factors=[]", "got none", "[2, 4, 8]"),
    ("compare.factors=[1]", "got 1", "greater than 1"),
    ("compare.factors=[1.01]", "got 1.01", "round"),
    ("compare.factors=[4, 4]", "4.0 twice", "remove"),
    ("compare.learning_rates=[0]", "got 0", "greater than 0"),
    ("compare.seed=2", "'seed'", "seeds"),
    ("compare.stretch=same", "'same'", "equal"),
    ("stages=[{train: {steps: 2}}]", "got 1", "remove"),
    ("train.batch_tokens=300", "got 300", "use 256"),
    ("eval.tasks=null", "got none", "position_loss"),
    ("eval.tasks={}", "got none", "position_loss"),
    ("model.path=gone", "got gone", "correct the path"),
]


@pytest.mark.parametrize(("override", "value", "cure"), BAD_INPUT, ids=lambda part: str(part)[:60])
def test_bad_input(recipe: Path, override: str, value: str, cure: str):
    with pytest.raises(ValueError, match=re.escape(value)) as caught:
        ComparisonPlan(str(recipe), [override]).check(1)
    assert type(caught.value).__module__.startswith("ropewalk.")
    assert override.partition("=")[0].partition(".")[2].partition("[")[0] in str(caught.value)
    assert cure in str(caught.value)


def test_problems_of_the_section_and_of_the_rest_come_at_once(recipe: Path):
    wrong = ["compare.seed=2", "compare.factors=[]", "train.steps=x", "data.closes=eoss"]
    with pytest.raises(ValueError, match="compare") as caught:
        ComparisonPlan(str(recipe), wrong).check(1)
    keys = ("compare.seed", "compare.factors", "train.steps", "data.closes")
    assert all(f"{recipe}: {key}: " in str(caught.value) for key in keys)
