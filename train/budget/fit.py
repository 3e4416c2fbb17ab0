"""Does it fit a machine, and in chunks of which size would it?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from ..layout import Layout
from .cost import flops, parameter_bytes, recomputed
from .job import Job
from .memory import GIB, GpuMemory, HostMemory, gpu_memory, host_memory

UNKNOWN_GPU = 80 * 10**9
"""Bytes of the GPU that proposals are made for where none is said."""
ROOM = 0.9
"""Part of a memory that is planned with: the rest is the kernels', the collectives' and fragments'."""
LEAST_TOKENS = 1024
"""Tokens a rank below which no chunk is proposed: each chunk gathers all weights."""

FLOPS, LINK = 4e14, 5e10
"""FLOPs a second of a GPU and bytes a second of its link that a chunk's compute and traffic are weighed by:
400 TFLOP/s and 50 GB/s, as of an H100 on InfiniBand."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Say what one GPU and one host have; None where it is not known."""

    gpu_bytes: int | None = None
    host_bytes: int | None = None

    @classmethod
    def of_gib(cls, gpu: float | None, host: float | None) -> Machine:
        bytes_of = [None if gib is None else int(gib * GIB) for gib in (gpu, host)]
        return cls(gpu_bytes=bytes_of[0], host_bytes=bytes_of[1])


UNKNOWN = Machine()


def fit_problems(job: Job, machine: Machine) -> Iterator[str]:
    """Say what does not fit, with what would help."""
    needs = gpu_memory(job), host_memory(job)
    for name, memory, there in zip(
        ("GPU", "host"), needs, (machine.gpu_bytes, machine.host_bytes), strict=True
    ):
        if there is None or memory.total <= there:
            continue
        yield (
            f"train: must fit the memory of a {name}, {there / GIB:.4g} GiB, got "
            f"{memory.total / GIB:.4g} GiB ({most_of(memory)}); {_cure(job, memory, machine)}"
        )


def most_of(memory: GpuMemory | HostMemory) -> str:
    """Name the part that is most of it."""
    if memory.loading > memory.training:
        return f"{memory.loading / GIB:.4g} of it while weights are loaded"
    name, value = max(memory.parts.items(), key=lambda part: part[1])
    return f"{value / GIB:.4g} of it {name}"


def _cure(job: Job, memory: GpuMemory | HostMemory, machine: Machine) -> str:
    if memory.loading > memory.training:
        return "use a smaller model, or fewer ranks on a host"
    if isinstance(memory, HostMemory):
        return "raise train.sequence over more hosts, or put layers on the device by train.store"
    if changes := propose(job, machine):
        return "set " + " ".join(f"train.{key}={value}" for key, value in changes.items())
    helps = ["raise the ranks"]
    helps += ["train.zero_stage"] if job.train.zero_stage < 3 else []
    helps += ["train.sequence"] if job.layout.sequence < job.layout.world else []
    return " or ".join(helps) + f"; no chunk of {LEAST_TOKENS} tokens a rank or more fits"


def propose(job: Job, machine: Machine) -> dict[str, Any]:
    """Find keys of `train` with which a GPU holds a step: the largest chunk, a pack halved till it fits, then
    the store on the host. Empty: none does, or what is set does."""
    there = (machine.gpu_bytes or UNKNOWN_GPU) * ROOM
    if gpu_memory(job).training <= there:
        return {}
    for changes in _changes(job):
        train = job.train.model_copy(update=changes)
        if gpu_memory(replace(job, train=train, layout=_split(job))).training <= there:
            return {key: value for key, value in changes.items() if value != getattr(job.train, key)}
    return {}


def larger_chunk(job: Job, machine: Machine) -> int | None:
    """Find the smallest doubled chunk whose weights and gradients take no longer than its compute,
    or the largest that fits; None where the present one is right or none larger fits."""
    there, found = (machine.gpu_bytes or UNKNOWN_GPU) * ROOM, None
    while waits_for_weights(job) and 2 * job.chunk < job.length:
        job = replace(job, train=job.train.model_copy(update={"chunk": 2 * job.chunk}))
        if gpu_memory(job).training > there:
            break
        found = job.chunk
    return found


def waits_for_weights(job: Job) -> bool:
    """Tell whether a chunk's weights and gradients take longer than its compute."""
    traffic, compute = a_chunk(job)
    return job.chunks > 1 and traffic / LINK > compute / FLOPS


def a_chunk(job: Job) -> tuple[float, float]:
    """Return a rank's bytes of weights and gradients, and its FLOPs, for a chunk of both passes."""
    visits = job.packs / job.train.micro_batch * job.chunks
    compute = (flops(job) + recomputed(job)) / job.layout.world / visits
    return parameter_bytes(job)[0], compute


def _changes(job: Job) -> Iterator[dict[str, Any]]:
    degree, least = job.layout.sequence, LEAST_TOKENS * job.layout.sequence
    for store in dict.fromkeys([str(job.train.store), "host"]):
        chunk = job.train.chunk or job.length // 2
        while chunk >= least:
            yield {"chunk": chunk - chunk % degree, "store": job.train.store if store != "host" else store}
            chunk //= 2


def _split(job: Job) -> Layout:
    """With a chunk no more ranks than kv heads divide the heads, unless the recipe says how many."""
    if job.train.heads is not None:
        return job.layout
    sequence, kv_heads = job.layout.sequence, job.shape.kv_heads
    heads = max(d for d in range(1, job.layout.heads + 1) if job.layout.heads % d == kv_heads % d == 0)
    return Layout(world=job.layout.world, heads=heads, gather=sequence // heads)
