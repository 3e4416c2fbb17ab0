"""Does it fit a machine, and in chunks of which size would it?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from .job import Job
from .memory import GIB, GpuMemory, HostMemory, gpu_memory, host_memory

UNKNOWN_GPU = 80 * 10**9
"""Bytes of the GPU that proposals are made for where none is said."""
ROOM = 0.9
"""Part of a memory that is planned with: the rest is the kernels', the collectives' and fragments'."""
LEAST_TOKENS = 1024
"""Tokens a rank below which no chunk is proposed: each chunk gathers all weights."""


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
    chunk = propose_chunk(job, machine)
    if chunk is not None:
        return f"set train.chunk={chunk}"
    if job.chunks > 1 and job.host_layers < job.shape.layers:
        return "set train.store=host, or raise train.sequence"
    return "raise the ranks, train.zero_stage or train.sequence"


def propose_chunk(job: Job, machine: Machine) -> int | None:
    """Find the largest chunk, a pack halved until it fits, with which a GPU holds a step; None: none does,
    or what is set does."""
    there = (machine.gpu_bytes or UNKNOWN_GPU) * ROOM
    if gpu_memory(job).training <= there:
        return None
    chunk = job.length // 2
    while chunk >= LEAST_TOKENS * job.layout.sequence:
        chunk -= chunk % job.layout.sequence
        train = job.train.model_copy(update={"chunk": chunk})
        layout = replace(job.layout, **_split(job))
        if gpu_memory(replace(job, train=train, layout=layout)).training <= there:
            return chunk
        chunk //= 2
    return None


def _split(job: Job) -> dict[str, int]:
    """With a chunk no more ranks than kv heads divide the heads, unless the recipe says how many."""
    if job.train.heads is not None:
        return {}
    heads = max(
        d for d in range(1, job.layout.heads + 1) if job.layout.heads % d == job.shape.kv_heads % d == 0
    )
    return {"heads": heads, "gather": job.layout.sequence // heads}
