"""What would this recipe do? Its checks and its plan, from arithmetic and config files alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from ropewalk.recipes.errors import RecipeError
from ropewalk.train.crosscheck import ModelFacts, missing_files, model_facts, problems_of
from ropewalk.train.layout import Layout
from ropewalk.train.recipe import stages

if TYPE_CHECKING:
    from ropewalk.train.recipe import Recipe

RANKS_SHOWN = 4


def check_all(recipe: Recipe, world: int, *, where: str) -> None:
    """Raise all problems that stand in the way of a real run: keys, model, world, files."""
    _raise(where, [*problems_of(recipe, world), *missing_files(recipe)])


def show_plan(recipe: Recipe, world: int | None, console: Console, *, where: str) -> None:
    """Check a recipe for `world` ranks (if none is given, the fewest it runs on); print each stage."""
    world = world or max(max(stage.train.sequence, stage.eval.sequence) for stage in stages(recipe))
    _raise(where, problems_of(recipe, world))
    for index, stage in enumerate(stages(recipe)):
        title = f"{where}, stage {index}" if recipe.stages else where
        table = Table(title=title, title_justify="left", show_header=False, box=None, pad_edge=False)
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        for name, text in plan_rows(stage, world):
            table.add_row(name, text)
        console.print(table)
    for missing in missing_files(recipe):
        console.print(f"not here yet: {missing}", markup=False)


def plan_rows(stage: Recipe, world: int) -> Iterator[tuple[str, str]]:
    """Describe a stage row by row: what, and how much of it."""
    facts = model_facts(stage)
    yield "model", _model(stage, facts)
    yield from _frequencies(stage, facts)
    train, layout = stage.train, Layout(world=world, sequence=stage.train.sequence)
    packs = train.batch_tokens // stage.target_length
    accumulation = packs // (layout.data * train.micro_batch)
    yield (
        "layout",
        f"world {world} = data {layout.data} x sequence {layout.sequence}, "
        f"ZeRO {train.zero_stage}, {train.dtype}",
    )
    yield (
        "step",
        (
            f"{train.batch_tokens:,} tokens = {packs:,} packs of {stage.target_length:,} = "
            f"{layout.data} data x {train.micro_batch} micro_batch x {accumulation:,} accumulation"
        ),
    )
    yield (
        "run",
        f"{train.steps:,} steps, {train.steps * train.batch_tokens:,} tokens, {train.steps * packs:,} packs",
    )
    yield "spans", _spans(layout, stage.target_length)
    schedule = train.schedule
    yield (
        "rate",
        (
            f"{train.learning_rate:g} peak, {schedule.kind}, {schedule.warmup:,} steps of warm-up, "
            + ("no decay" if schedule.kind == "constant" else f"down to {schedule.floor:g} of the peak")
        ),
    )
    yield "measures", ", ".join(stage.eval.tasks) or "nothing"
    yield "writes", f"{stage.run_dir} (recipe fingerprint {stage.fingerprint[:12]})"


def _model(stage: Recipe, facts: ModelFacts) -> str:
    config = facts.config
    base = next(iter(facts.bases.values()))
    origin = "from scratch" if stage.model.from_scratch else stage.model.path
    window = f"{stage.target_length:,} tokens"
    if not stage.model.from_scratch:
        window = f"{base.trained_length:,} -> {window} ({stage.target_length / base.trained_length:g}x)"
    return (
        f"{origin}: {config.get('model_type')}, {config.get('num_hidden_layers')} layers, "
        f"{base.query_heads} query and {base.kv_heads} kv heads of {base.head_dim}; {window}"
    )


def _frequencies(stage: Recipe, facts: ModelFacts) -> Iterator[tuple[str, str]]:
    knobs = "".join(f" {name}={value}" for name, value in stage.rope.scheme.knobs.items())
    yield "scheme", stage.rope.kind + knobs
    for layer_type, base in facts.bases.items():
        frequencies = stage.rope.scheme.frequencies(base, target_length=stage.target_length)
        yield (
            "frequencies",
            f"{layer_type}: theta {base.theta:g}, original length {base.original_length:,}, "
            f"factor {stage.target_length / base.original_length:g}, "
            f"stretch {frequencies.stretch(base):.4g}, attention scale {frequencies.attention_scale:.4g}, "
            f"fingerprint {frequencies.fingerprint[:12]}",
        )


def _spans(layout: Layout, length: int) -> str:
    shown = [
        f"rank {rank}: {_span(layout, rank, length)}" for rank in range(min(layout.sequence, RANKS_SHOWN))
    ]
    if layout.sequence > RANKS_SHOWN:
        shown += ["...", f"rank {layout.sequence - 1}: {_span(layout, layout.sequence - 1, length)}"]
    return ", ".join(shown)


def _span(layout: Layout, rank: int, length: int) -> str:
    start, stop = layout.span(rank, length)
    return f"{start:,}..{stop:,}"


def _raise(where: str, problems: list[str]) -> None:
    if problems:
        raise RecipeError("\n".join(f"{where}: {problem}" for problem in problems))
