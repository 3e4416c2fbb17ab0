"""Optimizer state per parameter, free of any layout: fp32 weight, exp_avg, exp_avg_sq, and one step count.

Read and written through DeepSpeed's per-parameter access, so world, ZeRO stage and sequence degree may
differ between the run that wrote it and the run that reads it.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import pad

KINDS = ("fp32", "exp_avg", "exp_avg_sq")


def seed_states(engine: Any, step: int) -> None:
    """Create zero moments at `step`, which AdamW would otherwise only make at its first update.

    Per-parameter access needs them before: a resumed run fills them in, a fresh one may save at step 0.
    """
    base = base_optimizer(engine)
    for tensor in master_tensors(engine):
        base.state[tensor] = {
            "step": torch.tensor(float(step)),
            "exp_avg": torch.zeros_like(tensor),
            "exp_avg_sq": torch.zeros_like(tensor),
        }
    if engine.zero_optimization_stage() in (1, 2):
        engine.optimizer._lazy_init_hp_params_optimizer_state()


def base_optimizer(engine: Any) -> torch.optim.Optimizer:
    return engine.optimizer if engine.zero_optimization_stage() == 0 else engine.optimizer.optimizer


def master_tensors(engine: Any) -> list[Tensor]:
    """List the flat fp32 tensors that the inner optimizer updates on this rank."""
    stage = engine.zero_optimization_stage()
    if stage == 3:
        return list(engine.optimizer.fp32_partitioned_groups_flat)
    if stage in (1, 2):
        return list(engine.optimizer.single_partition_of_fp32_groups)
    return [p for group in engine.optimizer.param_groups for p in group["params"]]


def read_state(engine: Any, parameter: nn.Parameter) -> dict[str, Tensor]:
    """Return the whole fp32 weight and moments of one parameter on the CPU; a collective."""
    from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

    if engine.zero_optimization_stage() == 0:
        state = engine.optimizer.state[parameter]
        found = [parameter.detach(), state["exp_avg"], state["exp_avg_sq"]]
    else:
        found = [safe_get_full_fp32_param(parameter)]
        found += [safe_get_full_optimizer_state(parameter, kind) for kind in KINDS[1:]]
    whole = {}
    for kind, tensor in zip(KINDS, found, strict=True):
        assert tensor is not None, kind
        whole[kind] = tensor.detach().float().cpu().clone()
    return whole


def write_state(engine: Any, parameter: nn.Parameter, state: dict[str, Tensor]) -> None:
    """Set the fp32 weight and moments of one parameter from whole tensors of its shape."""
    from deepspeed.utils import (
        safe_set_full_fp32_param,
        safe_set_full_optimizer_state,
        safe_set_local_fp32_param,
        safe_set_local_optimizer_state,
    )

    state = {kind: value.to(parameter.device) for kind, value in state.items()}
    match engine.zero_optimization_stage():
        case 0:
            parameter.data.copy_(state["fp32"])
            for kind in KINDS[1:]:
                engine.optimizer.state[parameter][kind].copy_(state[kind])
        case 3:
            # The full setters slice past the end where the size is no multiple of the world
            # (DeepSpeed 0.19.8); the local ones take the padded partition.
            mine = {kind: local_partition(parameter, value) for kind, value in state.items()}
            safe_set_local_fp32_param(parameter, mine["fp32"])
            for kind in KINDS[1:]:
                safe_set_local_optimizer_state(parameter, mine[kind], kind)
        case _:
            safe_set_full_fp32_param(parameter, state["fp32"])
            for kind in KINDS[1:]:
                safe_set_full_optimizer_state(parameter, state[kind], kind)


def local_partition(parameter: nn.Parameter, value: Tensor) -> Tensor:
    """Cut this rank's padded slice of a ZeRO-3 parameter out of its whole value."""
    size = parameter.ds_tensor.numel()  # type: ignore[attr-defined]
    world, rank = dist.get_world_size(), dist.get_rank()
    flat = pad(value.flatten(), (0, size * world - value.numel()))
    return flat[rank * size : (rank + 1) * size].clone()
