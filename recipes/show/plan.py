"""What would a stage of a recipe do? Its plan in words, from arithmetic and config files alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from ...rope import FULL, AttentionScheme, Base, Scheme
from ...rope.engines import serving_warnings
from ...train.budget import UNKNOWN, Machine
from ...train.layout import Layout
from ...train.settings import Store
from ..language.check import ModelFacts, model_facts
from ..language.schema import Recipe
from .budget import budget_rows

RANKS_SHOWN, SPANS_SHOWN = 4, 2


def plan_rows(stage: Recipe, world: int, machine: Machine = UNKNOWN) -> Iterator[tuple[str, str]]:
    """Describe a stage row by row: what, and how much of it."""
    facts = model_facts(stage)
    yield "model", _model(stage, facts)
    yield from frequency_rows(stage.rope.scheme, facts.bases, stage.target_length)
    yield from (("warning", line) for line in (*serving_lines(stage, facts), *near_tasks(stage, facts)))
    train, layout = stage.train, stage.train.layout(world, facts.heads)
    packs = train.batch_tokens // stage.pack_length
    accumulation = packs // (layout.data * train.micro_batch)
    yield (
        "layout",
        f"{layout_words(layout)}, ZeRO {train.zero_stage}, {train.dtype}",
    )
    yield (
        "step",
        (
            f"{train.batch_tokens:,} tokens = {packs:,} packs of {stage.pack_length:,} = "
            f"{layout.data} data x {train.micro_batch} micro_batch x {accumulation:,} accumulation"
        ),
    )
    yield (
        "run",
        f"{train.steps:,} steps, {train.steps * train.batch_tokens:,} tokens, {train.steps * packs:,} packs",
    )
    if train.chunk is not None:
        yield "chunks", _chunks(train.chunk, train.store, stage.pack_length)
    yield (
        ("spans" if train.chunk is None else "first chunk"),
        _spans(layout, train.chunk or stage.pack_length),
    )
    schedule = train.schedule
    yield (
        "rate",
        (
            f"{train.learning_rate:g} peak, {schedule.kind}, {schedule.warmup:,} steps of warm-up, "
            + ("no decay" if schedule.kind == "constant" else f"down to {schedule.floor:g} of the peak")
        ),
    )
    yield from budget_rows(stage, facts, layout, machine)
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


def serving_lines(stage: Recipe, facts: ModelFacts) -> list[str]:
    """Say which of the engines that the recipe names would not serve exactly what is trained."""
    model_type = str(facts.config.get("model_type"))
    return serving_warnings(stage.rope.scheme, facts.bases, stage.target_length, stage.serve, model_type)


def near_tasks(stage: Recipe, facts: ModelFacts) -> list[str]:
    """Say which tasks see nothing of the longer window."""
    trained = 0 if stage.model.from_scratch else facts.trained_length
    return [
        f"eval.tasks.{name} reads at most {task.longest:,} tokens, inside the trained window of {trained:,}: "
        "it shows what is kept, not what is gained"
        for name, task in stage.tasks.items()
        if task.longest <= trained
    ]


def frequency_rows(
    scheme: Scheme, bases: Mapping[str, Base], target_length: int
) -> Iterator[tuple[str, str]]:
    """Describe a scheme, and what each layer type turns by."""
    yield "scheme", scheme.name + "".join(f" {name}={_short(value)}" for name, value in scheme.knobs.items())
    for layer_type, base in bases.items():
        full = layer_type == FULL
        turning, length = (scheme, target_length) if full else (base.current, base.trained_length)
        frequencies = turning.frequencies(base, target_length=length)
        if isinstance(turning, AttentionScheme):
            stretched = f"reach {turning.reach(base, target_length=length):.4g}"
        else:
            stretched = f"stretch {frequencies.stretch(base):.4g}"
        raised = turning.theta_for(base, length)
        theta = f"{base.theta:g}" if raised == base.theta else f"{base.theta:g} raised to {raised:.6g}"
        factor = f"factor {length / base.original_length:g}, " if base.stated_length else ""
        window = "" if base.window is None else f", window {base.window:,}"
        yield (
            "frequencies",
            f"{layer_type}: theta {theta}, original length {original_length(base)}{window}, "
            f"{factor}{stretched}, "
            f"attention scale {frequencies.attention_scale:.4g}, fingerprint {frequencies.fingerprint[:12]}",
        )


def original_length(base: Base) -> str:
    """Show the original length where it is known."""
    return "not stated" if base.guesses else f"{base.original_length:,}"


def _short(value: object) -> str:
    """Show a knob, a long vector by its ends."""
    if isinstance(value, tuple | list) and len(value) > 4:
        return f"[{value[0]}, {value[1]}, ... {value[-1]}] ({len(value)})"
    return str(value)


def layout_words(layout: Layout) -> str:
    """Say how ranks are arranged."""
    split = f" (heads {layout.heads} x gather {layout.gather})" if layout.gather > 1 else ""
    return f"world {layout.world} = data {layout.data} x sequence {layout.sequence}{split}"


def _chunks(chunk: int, store: Store, length: int) -> str:
    """Say how many chunks a pack goes through the model in, and where keys and values of the others wait."""
    split = "" if isinstance(store, str) else f"of {store.device_layers} layers on the device, of the others "
    place = f"{split}on the {store if isinstance(store, str) else 'host'}"
    return f"{math.ceil(length / chunk):,} of at most {chunk:,} tokens a pack; keys and values wait {place}"


def _spans(layout: Layout, length: int) -> str:
    """Say what of the first tokens, a pack's or a chunk's, the ranks hold: of many spans the first two."""
    shown = [_of_rank(layout, rank, length) for rank in range(min(layout.sequence, RANKS_SHOWN))]
    if layout.sequence > RANKS_SHOWN:
        shown += ["...", _of_rank(layout, layout.sequence - 1, length)]
    return ", ".join(shown)


def _of_rank(layout: Layout, rank: int, length: int) -> str:
    spans = layout.spans(rank, 0, length)
    first = " and ".join(f"{start:,}..{stop:,}" for start, stop in spans[:SPANS_SHOWN])
    more = f" and {len(spans) - SPANS_SHOWN} more" if len(spans) > SPANS_SHOWN else ""
    return f"rank {rank}: {first}{more}"
