"""What must a GPU and a host hold at once? Bytes by part, of the rank and the moment that need most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from .activations import (
    FLOAT32,
    ends_kept,
    final_norm,
    last_norm,
    layer_kept,
    layer_working,
    result_kept,
)
from .job import Job

LARGEST_BUCKET = 200_000_000
"""Elements of a gradient bucket, as train/engine.py asks for."""
LIVE = 1_000_000_000
"""Gathered elements that ZeRO 3 keeps at once: `stage3_max_live_parameters` of DeepSpeed 0.19.8, unset."""
SLAB = 2**28
"""Bytes that are pinned at once for the store; torch rounds larger ones up to a power of two."""
GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes by part."""

    loading: int
    """Weights before the first step, whole on each rank: they are read, rounded and moved before they are
    sharded."""

    @property
    def parts(self) -> Mapping[str, int]:
        """Give the parts that are held at once, without what is held only while weights are loaded."""
        return {name: value for name, value in asdict(self).items() if name != "loading"}

    @property
    def training(self) -> int:
        """Bytes while a step runs."""
        return sum(self.parts.values())

    @property
    def total(self) -> int:
        """Bytes at the worst moment: a step, or before the first one."""
        return max(self.training, self.loading)


@dataclass(frozen=True, kw_only=True)
class GpuMemory(Memory):
    weights: int
    gradients: int
    states: int
    """Float32 masters and both moments."""
    gathers: int
    """Weights of other ranks while they are used, and the bucket in which gradients are reduced."""
    activations: int
    logits: int
    """What the head needs beyond what a layer's backward needed at another moment."""
    blocks: int
    """Keys and values under way from and gradients to the store and other ranks."""
    store: int


@dataclass(frozen=True, kw_only=True)
class HostMemory(Memory):
    """Of all ranks of one host."""

    states: int
    store: int
    data: int


def gpu_memory(job: Job) -> GpuMemory:
    """Count what the GPU of one rank holds."""
    store, _ = store_bytes(job)
    working = job.tokens * max(layer_phase(job), final_norm(job.shape, job.width))
    return GpuMemory(
        weights=weights(job),
        gradients=gradients(job),
        states=0 if job.optimizer_on_host else states(job),
        gathers=gathers(job),
        activations=job.tokens * (waiting(job) + ends_kept(job.shape)) + working,
        logits=max(0, head(job) - working),
        blocks=blocks(job),
        store=store,
        loading=job.shape.parameters * job.width,
    )


def host_memory(job: Job) -> HostMemory:
    """Count what one host holds for its ranks; a host without a store or an optimizer needs little."""
    _, store = store_bytes(job)
    wide = FLOAT32 + (job.width if job.width < FLOAT32 else 0)
    of_optimizer = states(job) + FLOAT32 * sharded(job, 2) if job.optimizer_on_host else 0
    return HostMemory(
        states=job.ranks * of_optimizer,
        store=job.ranks * store,
        data=job.ranks * job.train.micro_batch * job.length * 5 * 8,
        loading=job.ranks * (wide * job.shape.parameters + of_optimizer),
    )


def sharded(job: Job, from_stage: int) -> int:
    """Elements of all parameters that one rank has, where DeepSpeed shards them from a ZeRO stage on."""
    shards = job.layout.world if job.train.zero_stage >= from_stage else 1
    return -(-job.shape.parameters // shards)


def weights(job: Job) -> int:
    """Count a rank's weights; at ZeRO 3 vectors stay whole."""
    if job.train.zero_stage < 3:
        return job.width * job.shape.parameters
    matrices = job.shape.parameters - job.shape.vectors
    return job.width * (-(-matrices // job.layout.world) + job.shape.vectors)


def gradients(job: Job) -> int:
    """Count the float32 sums of a step's gradients."""
    return 0 if job.optimizer_on_host else FLOAT32 * sharded(job, 2)


def states(job: Job) -> int:
    """Count masters and moments; at ZeRO 0 the weights are their own masters."""
    copies = 2 if job.train.zero_stage == 0 else 3
    return copies * FLOAT32 * sharded(job, 1)


def gathers(job: Job) -> int:
    """Count the bucket, or the largest gradient if that is more, its float32 copy, and live weights."""
    shape = job.shape
    largest = max(shape.embedding, shape.hidden * shape.intermediate)
    bucket = max(min(shape.parameters, LARGEST_BUCKET), largest)
    wide = FLOAT32 if job.width < FLOAT32 else 0
    shards = job.train.zero_stage == 3 and job.layout.world > 1
    return bucket * (job.width + wide) + (min(shape.parameters, LIVE) * job.width if shards else 0)


def keeps_results(job: Job) -> bool:
    """Say whether a checkpointed layer keeps what its attention gave."""
    return job.train.keep_attention or job.chunks > 1


def waiting(job: Job) -> int:
    """Bytes a token that all layers keep until their backward."""
    shape, width = job.shape, job.width
    if not job.train.gradient_checkpointing:
        return shape.layers * layer_kept(shape, width, job.layout.heads)
    kept = result_kept(shape, width) if keeps_results(job) else 0
    return shape.layers * (width * shape.hidden + kept)


def layer_phase(job: Job) -> int:
    """Bytes a token of the one layer whose backward runs, beside what waits."""
    shape, width, heads = job.shape, job.width, job.layout.heads
    working = layer_working(shape, width, heads)
    if not job.train.gradient_checkpointing:
        return working
    again = layer_kept(shape, width, heads)
    return working + again - (result_kept(shape, width) if keeps_results(job) else 0)


def head(job: Job) -> int:
    """Count the loss: logits of `loss_chunk` tokens and their softmax, both in float32, and gradients made
    beside them, the weight's in float32."""
    shape, width = job.shape, job.width
    rows = min(job.train.loss_chunk, job.tokens)
    logits = 2 * FLOAT32 * rows * shape.vocabulary
    hidden = job.tokens * (last_norm(shape, width) + width * shape.hidden)
    return logits + FLOAT32 * shape.embedding + hidden


def blocks(job: Job) -> int:
    """Count the keys, values and gradients of the block that attention meets, and of the next one."""
    whole = job.layout.gather == 1 and job.chunks == 1
    if whole:
        return 0
    elements = 2 * job.train.micro_batch * job.block * job.kv_width
    comes = 2 * job.width if job.layout.gather > 1 or job.host_layers else 0
    summed = 2 * FLOAT32 if job.host_layers else 0
    return elements * (comes + job.width + FLOAT32 + summed)


def store_bytes(job: Job) -> tuple[int, int]:
    """Count what one rank stores on its device and, with what pinning rounds up to, on the host."""
    device, host = 0, 0
    for window, layers, on_host in _kinds(job):
        counted = [(size, count * layers) for size, count in _tensors(job, window)]
        if on_host:
            host += sum(pinned(size, count) for size, count in counted)
        else:
            device += sum(size * count for size, count in counted)
    return device, host


def pinned(size: int, count: int) -> int:
    """Count the bytes pinned for tensors of one size: slabs, or a power of two for each larger one."""
    size = -(-size // 256) * 256
    if not size or not count:
        return 0
    if size > SLAB:
        return count * (1 << (size - 1).bit_length())
    return -(-count // (SLAB // size)) * SLAB


def _kinds(job: Job) -> list[tuple[int | None, int, bool]]:
    """Count the layers of each sliding window and place."""
    each = [(window, job.on_host(layer)) for layer, window in enumerate(job.shape.layer_windows)]
    return [(window, each.count((window, host)), host) for window, host in dict.fromkeys(each)]


def _tensors(job: Job, window: int | None) -> list[tuple[int, int]]:
    """List size and number of what one layer stores: keys and values, their gradients, results."""
    before = job.chunks - 1
    seen, rows = job.seen(window), job.train.micro_batch
    pieces = -(-seen // job.block)
    elements = 2 * rows * seen // pieces // job.layout.gather * job.kv_width
    stored = [(elements * width, before * pieces) for width in (job.width, job.gradient_width)]
    if job.train.keep_attention:
        tokens = rows * job.chunk // job.layout.gather
        heads = job.shape.query_heads // job.layout.heads
        stored += [
            (tokens * heads * job.shape.head_dim * job.width, before),
            (tokens * heads * FLOAT32, before),
        ]
    return stored
