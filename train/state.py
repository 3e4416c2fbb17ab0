"""Optimizer state per parameter, free of any layout: fp32 weight, exp_avg, exp_avg_sq, and one step count.

Read and written through DeepSpeed's per-parameter access, so world, ZeRO stage and sequence degree may
differ between the run that wrote it and the run that reads it. DeepSpeed is imported where an engine is at
hand, since its first import must find what `engine.load_deepspeed` sets.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import pad

from .engine import named_parameters
from .mesh import Mesh
from .shards import ShardWriter, read_tensor, shard_index

KINDS = ("fp32", "exp_avg", "exp_avg_sq")


def write_tensors(folder: Path, engine: Any, dtype: torch.dtype, mesh: Mesh) -> None:
    """Stream weights into `folder` and states into its `optimizer/`, each parameter by one rank in turn."""
    weights = ShardWriter(folder, f"rank-{mesh.rank:05d}")
    states = ShardWriter(folder / "optimizer", f"part-{mesh.rank:05d}")
    for number, (name, parameter) in enumerate(named_parameters(engine)):
        state = read_state(engine, parameter)
        if number % mesh.layout.world == mesh.rank:
            weights.add(name, state["fp32"].to(dtype))
            for kind, tensor in state.items():
                states.add(f"{name}.{kind}", tensor)
    weights.flush()
    states.flush()


def float32_weights(model: nn.Module, folder: Path | None) -> dict[str, Tensor]:
    """Take the weights of a float32 model by name, which an engine then rounds for its forwards.

    With a checkpoint the model is given the weights that it keeps beside the rounded ones. The tensors are
    the model's own: 4 bytes a parameter on the host of each rank until `load_states` has copied them.
    """
    index = shard_index(folder / "optimizer") if folder else {}
    weights = {}
    for name, parameter in model.named_parameters():
        assert parameter.dtype == torch.float32, f"{name} was rounded to {parameter.dtype} before its master"
        if index:
            parameter.data.copy_(read_tensor(index, f"{name}.fp32"))
        weights[name] = parameter.data
    return weights


def load_states(engine: Any, weights: Mapping[str, Tensor], folder: Path | None, step: int) -> None:
    """Fill the engine's masters with `weights`, and its moments from a checkpoint or with zeros.

    DeepSpeed makes masters of the weights it was given, after it has rounded them to bfloat16.
    `step` is AdamW's count, the updates so far.
    """
    seed_states(engine, step)
    index = shard_index(folder / "optimizer") if folder else {}
    for name, parameter in named_parameters(engine):
        moments = {kind: read_tensor(index, f"{name}.{kind}") for kind in KINDS[1:] if index}
        write_state(engine, parameter, {"fp32": weights[name], **moments})


def seed_states(engine: Any, step: int) -> None:
    """Create zero moments at `step`, which AdamW would otherwise only make at its first update.

    Per-parameter access needs them before: a resumed run fills them in, a fresh one may save at step 0.
    """
    zero_stage, optimizer = engine.zero_optimization_stage(), engine.optimizer
    base = optimizer if zero_stage == 0 else optimizer.optimizer
    for tensor in master_tensors(engine):
        base.state[tensor] = {
            "step": torch.tensor(float(step)),
            "exp_avg": torch.zeros_like(tensor),
            "exp_avg_sq": torch.zeros_like(tensor),
        }
    if zero_stage in (1, 2):
        optimizer._lazy_init_hp_params_optimizer_state()


def master_tensors(engine: Any) -> list[Tensor]:
    """List the fp32 tensors that the inner optimizer updates on this rank, flat ones beyond stage 0.

    Stage 3 hands them to it one after the other. Stage 1 in bfloat16 is a class of its own
    (`BF16_Optimizer`, DeepSpeed 0.19.8), with other names for the same things.
    """
    if engine.zero_optimization_stage() == 3:
        return list(engine.optimizer.fp32_partitioned_groups_flat)
    return [tensor for group in engine.optimizer.param_groups for tensor in group["params"]]


def read_state(engine: Any, parameter: nn.Parameter) -> dict[str, Tensor]:
    """Return the whole fp32 weight and moments of one parameter on the CPU; a collective."""
    from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

    if engine.zero_optimization_stage() == 0:
        state = engine.optimizer.state[parameter]
        tensors = [parameter, state["exp_avg"], state["exp_avg_sq"]]
    else:
        tensors = [safe_get_full_fp32_param(parameter)]
        tensors += [safe_get_full_optimizer_state(parameter, kind) for kind in KINDS[1:]]
    return {
        kind: tensor.detach().float().cpu().clone()  # type: ignore[union-attr]
        for kind, tensor in zip(KINDS, tensors, strict=True)
    }


def write_state(engine: Any, parameter: nn.Parameter, state: Mapping[str, Tensor]) -> None:
    """Set what `state` has of one parameter's fp32 weight and moments, from whole tensors of its shape."""
    from deepspeed import utils

    for kind, whole in state.items():
        value = whole.to(parameter.device)
        match engine.zero_optimization_stage(), kind:
            case 0, "fp32":
                parameter.data.copy_(value)
            case 0, _:
                engine.optimizer.state[parameter][kind].copy_(value)
            # The full setters slice past the end where the size is no multiple of the world
            # (DeepSpeed 0.19.8); the local ones take the padded partition.
            case 3, "fp32":
                utils.safe_set_local_fp32_param(parameter, local_partition(parameter, value))
            case 3, _:
                utils.safe_set_local_optimizer_state(parameter, local_partition(parameter, value), kind)
            case _, "fp32":
                utils.safe_set_full_fp32_param(parameter, value)
            case _:
                utils.safe_set_full_optimizer_state(parameter, value, kind)


def local_partition(parameter: nn.Parameter, value: Tensor) -> Tensor:
    """Cut this rank's padded slice of a ZeRO-3 parameter out of its whole value."""
    size = parameter.ds_tensor.numel()  # type: ignore[attr-defined]
    world, rank = dist.get_world_size(), dist.get_rank()
    flat = pad(value.flatten(), (0, size * world - value.numel()))
    return flat[rank * size : (rank + 1) * size].clone()
