"""What would a stage need and cost? Memory and cost of its plan in words, by arithmetic."""

from __future__ import annotations

from collections.abc import Iterator

from ...rope.scheme import RopeError
from ...train.budget import (
    UNKNOWN,
    Cost,
    GpuMemory,
    HostMemory,
    Job,
    Machine,
    Shape,
    cost_of,
    gpu_memory,
    host_memory,
)
from ...train.budget.fit import (
    FLOPS,
    LINK,
    UNKNOWN_GPU,
    a_chunk,
    fit_problems,
    larger_chunk,
    propose,
)
from ...train.budget.memory import GIB
from ...train.layout import Layout
from ..language.check import ModelFacts, model_facts
from ..language.schema import Recipe

UNITS = ((1e18, "EFLOP"), (1e15, "PFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP"), (1e6, "MFLOP"))
SHOWN = GIB // 20
"""Bytes of a part that is worth its name: what is printed as 0.1 GiB."""


def job_of(stage: Recipe, facts: ModelFacts, layout: Layout) -> Job:
    """Gather what memory and cost are functions of; a config that says too little is a RopeError."""
    return Job(shape=Shape.of(facts.config), train=stage.train, layout=layout, length=stage.pack_length)


def budget_rows(
    stage: Recipe, facts: ModelFacts, layout: Layout, machine: Machine
) -> Iterator[tuple[str, str]]:
    """Say what a GPU and a host hold, what a step costs, and in which chunks it would fit."""
    try:
        job = job_of(stage, facts, layout)
    except RopeError as error:
        yield "memory", f"not known: {error}"
        return
    yield "memory", f"GPU {_memory(gpu_memory(job))}"
    yield "", f"host of {job.ranks} ranks {_memory(host_memory(job))}"
    yield "cost", _cost(job, cost_of(job))
    yield from (("traffic", line) for line in _traffic(job, cost_of(job)))
    yield from (("proposal", line) for line in _proposal(job, machine))


def too_large(stage: Recipe, world: int, machine: Machine) -> Iterator[str]:
    """Find what does not fit the machine, of a stage in which nothing else is wrong."""
    if machine == UNKNOWN:
        return
    facts = model_facts(stage)
    yield from fit_problems(job_of(stage, facts, stage.train.layout(world, facts.heads)), machine)


def _memory(memory: GpuMemory | HostMemory) -> str:
    parts = [f"{name} {_gib(value)}" for name, value in memory.parts.items() if value >= SHOWN]
    loading = f"; {_gib(memory.loading)} GiB while weights are loaded"
    told = f"{_gib(memory.training)} GiB" + (f": {', '.join(parts)}" if parts else "")
    return told + (loading if memory.loading > memory.training else "")


def _gib(value: int) -> str:
    return f"{value / GIB:,.1f}"


def _cost(job: Job, cost: Cost) -> str:
    chunk = "" if job.chunks == 1 else f", {job.chunks:,} chunks a pack"
    return (
        f"{_flops(cost.flops)} a step, causal and counted once (6 N + 6 L H S a token, "
        f"N {job.shape.parameters:,}); computed again {_flops(cost.recomputed)}{chunk}"
    )


def _flops(value: float) -> str:
    size, unit = next((pair for pair in UNITS if value >= pair[0]), UNITS[-1])
    return f"{value / size:.3g} {unit}"


def _traffic(job: Job, cost: Cost) -> Iterator[str]:
    """Say what a rank moves in a step, link by link."""
    layout, inside = job.layout, "inside a node"
    across = "across nodes"
    links = [
        ("all-to-all", cost.all_to_all, inside if layout.heads <= job.node else across),
        ("keys and values gathered", cost.gathered, inside if layout.sequence <= job.node else across),
        ("weights and gradients", cost.parameters, inside if layout.world <= job.node else across),
        ("store", cost.host, "to and from the host"),
    ]
    told = [f"{name} {value / GIB:,.4g} GiB {link}" for name, value, link in links if value]
    if told:
        yield "a rank and step: " + ", ".join(told)
    if cost.parameters_of_chunk and job.chunks > 1:
        traffic, compute = a_chunk(job)
        yield f"a rank and chunk: weights and gradients {traffic / GIB:,.3g} GiB, beside {_flops(compute)}"


def _proposal(job: Job, machine: Machine) -> Iterator[str]:
    size = f"{(machine.gpu_bytes or UNKNOWN_GPU) / GIB:.4g} GiB"
    size += " with a tenth to spare" if machine.gpu_bytes else ", which is assumed, with a tenth to spare"
    if changes := propose(job, machine):
        told = " ".join(f"train.{key}={value}" for key, value in changes.items())
        yield f"{told}, to fit a GPU of {size}"
    elif chunk := larger_chunk(job, machine):
        yield (
            f"train.chunk={chunk}, to fit {size}: a chunk's weights and gradients take longer at "
            f"{LINK / 1e9:g} GB/s than its compute at {FLOPS / 1e12:g} TFLOP/s"
        )
