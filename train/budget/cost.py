"""What does an optimizer step cost? Causal FLOPs, what is computed again, and bytes a link, of one rank.

    model    6 N a token, and 12 D Q for each pair of a query and a key that it sees: S^2 / 2 of S tokens
    again    first pass and checkpointing 2 a weight each; attention's second forward, and the scores that its
             backward computes anew (half of a forward)

So a token of a pack of S tokens costs 6 N + 6 L H S, counted once (H = Q D); other tools count the whole
square and the recomputation, up to 2.67 times as many.
"""

from __future__ import annotations

from dataclasses import dataclass

from .activations import FLOAT32, result_kept
from .job import Job


@dataclass(frozen=True, kw_only=True)
class Cost:
    """FLOPs of all ranks; bytes that one rank receives (or sends, where that is more), a step."""

    flops: float
    recomputed: float
    all_to_all: float
    """Between the ranks that divide the heads."""
    gathered: float
    """Keys, values and their gradients, between the ranks that divide the tokens."""
    parameters: float
    """Weights and their gradients, between all ranks."""
    parameters_of_chunk: float
    """Of them what one chunk costs, both passes."""
    host: float
    """Between store and device, both ways."""


def cost_of(job: Job, *, squares: float | None = None) -> Cost:
    """Count a step; `squares` is the sum of a pack's squared document lengths, else it is one document."""
    chunk, whole = parameter_bytes(job)
    return Cost(
        flops=flops(job, squares),
        recomputed=recomputed(job, squares),
        all_to_all=all_to_all(job),
        gathered=gathered(job),
        parameters=whole,
        parameters_of_chunk=chunk,
        host=job.packs * sum(moved(job, window) for window in _host_windows(job)),
    )


def flops(job: Job, squares: float | None = None) -> float:
    """Count a step's causal FLOPs once, forward and backward, of all ranks."""
    packs = job.train.batch_tokens / job.length
    matrices = 6 * job.shape.parameters * job.length
    return packs * (matrices + 3 * attention_forward(job, squares))


def recomputed(job: Job, squares: float | None = None) -> float:
    """Count what is computed more than once in a step, of all ranks."""
    train, packs = job.train, job.train.batch_tokens / job.length
    passes = job.earlier + (job.length if train.gradient_checkpointing else 0)
    again = 0.5 + _second_forwards(job)
    return packs * (2 * job.shape.decoder * passes + again * attention_forward(job, squares))


def attention_forward(job: Job, squares: float | None = None) -> float:
    """Count one attention forward of a pack: two products of 2 D Q FLOPs for each pair."""
    pairs = sum(pairs_seen(job.length, window, squares) for window in job.shape.layer_windows)
    return 4 * job.shape.query_width * pairs


def pairs_seen(length: int, window: int | None, squares: float | None = None) -> float:
    """Count pairs of a query and a key; of documents from their squares, a bound where windows slide."""
    whole = (length**2 if squares is None else squares) / 2
    if window is None or window >= length:
        return whole
    return min(whole, window * length - window**2 / 2)


def _second_forwards(job: Job) -> float:
    """Say which part of attention's forward runs twice."""
    train = job.train
    if train.keep_attention:
        return 0.0
    if job.chunks > 1:
        return (job.earlier / job.length) ** 2
    return 1.0 if train.gradient_checkpointing else 0.0


def _forwards(job: Job) -> float:
    """Count how often a token passes forward through a layer."""
    return 1 + job.earlier / job.length + (1 if job.train.gradient_checkpointing else 0)


def all_to_all(job: Job) -> float:
    """Count what a rank receives from the others of its heads group: q, k, v, and what attention gave."""
    heads, shape = job.layout.heads, job.shape
    keys = max(shape.kv_heads, heads) * shape.head_dim
    once = job.width * (2 * shape.query_width + 2 * keys) * (heads - 1) / heads
    tokens = job.packs * job.length / job.layout.sequence
    return tokens * shape.layers * once * (_forwards(job) + 1)


def gathered(job: Job) -> float:
    """Count what a rank receives from the others of its gather group, and sends them of gradients."""
    gather = job.layout.gather
    others = (gather - 1) / gather
    met = [_met(job, window) for window in job.shape.layer_windows]
    a_token = 2 * job.kv_width * others
    return (
        job.packs
        * a_token
        * sum(job.width * (forward + backward) + FLOAT32 * backward for forward, backward in met)
    )


def _met(job: Job, window: int | None) -> tuple[float, float]:
    """Count the tokens whose keys a layer meets in forwards of a pack, and in its backward."""
    if job.chunks == 1:
        return job.length * (1 + _second_forwards(job)), job.length
    first, second = _prefix(job, window)
    again = second + job.length
    if job.train.keep_attention:  # only the last chunk, which has no first pass
        again = (job.chunks - 1) * job.seen(window) + job.length - job.earlier
    return first + job.earlier + again, second + job.length


def moved(job: Job, window: int | None) -> float:
    """Count what one layer writes to and reads from its store for a pack, on one rank."""
    first, second = _prefix(job, window)
    stored, train = (job.chunks - 1) * job.seen(window), job.train
    last = stored if train.keep_attention else second
    keys = 2 * job.kv_width * job.width * (stored + first + last + second)
    sums = 2 * job.kv_width * job.gradient_width * 2 * second
    results = 2 * job.earlier * result_kept(job.shape, job.width) / job.layout.heads
    total = keys + sums + (results if train.keep_attention else 0)
    return total / job.layout.gather


def _prefix(job: Job, window: int | None) -> tuple[int, int]:
    """Count the stored tokens that chunks meet, in the first pass and in the second, summed over chunks."""
    whole = [number * job.chunk for number in range(job.chunks)]
    if window is not None:
        blocks = -(-(window - 1) // job.block) * job.block
        back = blocks if window > job.chunk else job.seen(window)
        whole = [min(tokens, back) for tokens in whole]
    return sum(whole[:-1]), sum(whole)


def parameter_bytes(job: Job) -> tuple[float, float]:
    """Count weights gathered and gradients reduced: for a chunk of both passes, and in a step."""
    stage, world, count = job.train.zero_stage, job.layout.world, job.shape.parameters
    others = (world - 1) / world
    passes = job.packs / job.train.micro_batch
    gather = job.width * count * others if stage == 3 else 0.0
    reduce = FLOAT32 * count * others if stage >= 2 else 0.0
    second = 2 * gather + reduce
    once = 2 * FLOAT32 * count * others if stage < 2 else 0.0
    once += job.width * count * others if stage in (1, 2) else 0.0
    chunk = second + (gather if job.chunks > 1 else 0.0)
    return chunk, passes * (job.chunks * second + (job.chunks - 1) * gather) + once


def _host_windows(job: Job) -> list[int | None]:
    return [window for layer, window in enumerate(job.shape.layer_windows) if job.on_host(layer)]
