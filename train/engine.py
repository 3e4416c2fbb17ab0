"""The DeepSpeed engine, told nothing of sequence parallelism.

To it every rank is a data rank, so it averages gradients over the world at every ZeRO stage alike, and
`world * sum(local losses) / tokens of the step` has exactly the gradient of the global token mean.
"""

import math
import os
from collections.abc import Iterator
from fnmatch import fnmatch
from types import ModuleType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .batch import Batch, Batches
from .mesh import Mesh
from .settings import TrainSection
from .streaming import Streaming, Visit

LARGEST_BUCKET = 200_000_000
"""Elements of a gradient bucket: 0.8 GB in float32."""


def load_deepspeed() -> ModuleType:
    """Import DeepSpeed; on CPU without the C++ operator that it compiles when it takes over a process group.

    Only its tensor-parallel inference calls that one. So training needs no compiler, and waits neither for a
    build nor on the lock of one that was killed.
    """
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # read at the first import
    import deepspeed
    import deepspeed.ops

    if os.environ.get("DS_ACCELERATOR") == "cpu":
        deepspeed.ops.__dict__["__compatible_ops__"] = {}  # else it probes what could be compiled here
    return deepspeed


def make_engine(module: nn.Module, settings: TrainSection, *, accumulation: int) -> Any:
    """Wrap `module` for training and move it to this rank's device; torch.distributed must be initialised.

    In bfloat16 DeepSpeed rounds the parameters first, and leaves buffers as they are.
    """
    optimizer = torch.optim.AdamW(
        parameter_groups(module, settings),
        lr=settings.learning_rate,
        betas=settings.optimizer.betas,
        eps=settings.optimizer.eps,
    )
    engine, *_ = load_deepspeed().initialize(
        model=module,
        optimizer=optimizer,
        config=deepspeed_config(settings, accumulation, sum(p.numel() for p in module.parameters())),
        dist_init_required=False,
    )
    return engine


def parameter_groups(module: nn.Module, settings: TrainSection) -> list[dict[str, Any]]:
    """Split parameters into decayed and exempt ones (vectors, and names that match `no_decay`)."""
    decayed, exempt = [], []
    for name, parameter in module.named_parameters():
        spared = parameter.ndim < 2 or any(fnmatch(name, pattern) for pattern in settings.optimizer.no_decay)
        (exempt if spared else decayed).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": settings.optimizer.weight_decay},
        {"params": exempt, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def deepspeed_config(settings: TrainSection, accumulation: int, parameters: int) -> dict[str, Any]:
    """Write every key whose default would change numbers: clipping is 1.0 where unset.

    A bucket larger than the model is allocated all the same, 2 GB anew at each step with DeepSpeed's default.
    """
    bucket = min(parameters, LARGEST_BUCKET)
    return {
        "train_micro_batch_size_per_gpu": settings.micro_batch,
        "gradient_accumulation_steps": accumulation,
        "gradient_clipping": settings.optimizer.clip,
        "zero_optimization": {
            "stage": settings.zero_stage,
            "reduce_bucket_size": bucket,
            "allgather_bucket_size": bucket,
        },
        # Without the update at once stage 1 would keep each gradient twice, and sum in bfloat16 what one
        # backward adds to it in several parts.
        "bf16": {"enabled": settings.dtype == "bfloat16", "immediate_grad_update": True},
        "communication_data_type": "fp32",
        "data_types": {"grad_accum_dtype": "fp32"},
        "steps_per_print": 2**31,
        "wall_clock_breakdown": False,
    }


def accumulate(engine: Any, batches: Batches, step: int, streaming: Streaming) -> float:
    """Run forward and backward of a step's chunks; return the global token-mean loss in nats.

    Each loss is divided by the token count of the whole step, so unequal chunks, micro-batches and ranks
    weigh as their tokens do. The engine is told which backward is the last; it would count them itself.
    """
    mesh, tokens = streaming.mesh, batches.trained_tokens(step)
    planned = list(planned_visits(batches, step, streaming))
    total = 0.0
    streaming.begin()
    for number, (packs, visit) in enumerate(planned):
        batch = batches.read(packs, streaming.spans(visit), mesh.device)
        if visit.first_pass:
            with torch.no_grad():
                forward(engine, batch, streaming, visit)
            continue
        local = forward(engine, batch, streaming, visit)
        last = number + 1 == len(planned)
        engine.set_gradient_accumulation_boundary(is_boundary=last)
        engine.backward(local * (mesh.layout.world / tokens), scale_wrt_gas=False)
        total += float(local.detach())
        if not last:
            engine.step()
        streaming.leave(visit)
    return mesh.sum([total])[0] / tokens


def planned_visits(batches: Batches, step: int, streaming: Streaming) -> Iterator[tuple[list[int], Visit]]:
    """Yield this rank's packs and the chunk of them that is next, in the order of all data ranks."""
    layout = streaming.mesh.layout
    shares = [batches.micro_batches(step, data_rank) for data_rank in range(layout.data)]
    for together in zip(*shares, strict=True):
        groups = batches.groups([pack for packs in together for pack in packs])
        for visit in streaming.visits(batches.plan.length, groups):
            yield together[streaming.mesh.data_rank], visit


def forward(engine: Any, batch: Batch, streaming: Streaming, visit: Visit) -> Tensor:
    """Return the sum of the losses of this rank's part of a chunk; in a first pass the head is left out."""
    attend = streaming.attention(batch.groups, visit)
    labels = None if visit.first_pass else batch.labels
    loss = engine(batch.tokens, batch.positions, batch.lengths, labels, attend)
    layers = engine.module.model.config.num_hidden_layers
    assert sorted(attend.layers) == list(range(layers)), (
        f"{len(attend.layers)} of {layers} layers came through ropewalk's attention"
    )
    return loss


def gradient_norm(engine: Any, mesh: Mesh) -> float:
    """Return the norm of the averaged gradients before clipping, the same on every rank; a collective.

    Each rank squares, in float64, what no other does; so it is no number where one gradient is none. It is
    infinite, as in DeepSpeed, where its square is to float32.
    """
    squares = [torch.linalg.vector_norm(grad, dtype=torch.float64) ** 2 for grad in own_gradients(engine)]
    total = mesh.sum([float(torch.stack(squares).sum()) if squares else 0.0])[0]
    return math.inf if total > torch.finfo(torch.float32).max else math.sqrt(total)


def own_gradients(engine: Any) -> list[Tensor]:
    """List this rank's share of the averaged gradients, each with zeros for padding.

    DeepSpeed 0.19.8 holds them whole at stage 0, in one flat tensor a group at stage 1 with bfloat16 weights,
    and else cut up.
    """
    optimizer = engine.optimizer
    if engine.zero_optimization_stage() == 0:
        grads = [p.grad for p in engine.module.parameters() if p.grad is not None]
        return grads[dist.get_rank() :: dist.get_world_size()]
    if hasattr(optimizer, "fp32_groups_gradient_flat_partition"):
        return list(optimizer.fp32_groups_gradient_flat_partition)
    return [grad for group in optimizer.averaged_gradients.values() for grad in group]


def take_step(engine: Any) -> None:
    """Clip the gradients and update the weights."""
    engine.step()
    assert engine.was_step_applied(), "DeepSpeed dropped a step whose gradients are finite"


def drop_step(engine: Any) -> None:
    """Give up the gradients; weights, moments and AdamW's count stay as they are.

    Stages 1 to 3 are given a gradient that is no number, and drop the step by their own rule for an overflow;
    stage 0 has none.
    """
    optimizer = engine.optimizer
    if engine.zero_optimization_stage() == 0:
        engine.zero_grad()
        engine.micro_steps += 1  # as a step does: the next micro-batch begins a new one
        return
    if hasattr(optimizer, "fp32_groups_gradients_flat"):
        for grads in optimizer.fp32_groups_gradients_flat:
            grads.fill_(math.nan)
    else:
        # In place of what is held there, not into it: ZeRO-3 would add to the padding of its own buffers.
        # The dictionary stays, DeepSpeed has linked the parameters to it and reads their gradients there.
        nothing = torch.full((1,), math.nan, device=engine.device)
        optimizer.averaged_gradients.update({key: [nothing] for key in optimizer.averaged_gradients})
    engine.step()
    assert not engine.was_step_applied(), "DeepSpeed took a step that was to be dropped"


def full_gradients(engine: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield what was accumulated for each parameter, whole, in float32 on the host; a collective."""
    from deepspeed.utils import safe_get_full_grad

    for name, parameter in named_parameters(engine):
        gradient = safe_get_full_grad(parameter)
        if gradient is not None:
            yield name, gradient.float().cpu()


def set_learning_rate(engine: Any, rate: float) -> None:
    for group in engine.optimizer.param_groups:
        group["lr"] = rate


def named_parameters(engine: Any) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield the model's parameters under the names of its own checkpoint."""
    yield from engine.module.model.named_parameters()
