"""Giving back what a finished engine holds, also where DeepSpeed keeps it for the whole process."""

import inspect
from typing import Any


def release(engine: Any) -> None:
    """Give back all that an engine holds; the caller keeps no name of it or of its model, and collects.

    `destroy` takes out DeepSpeed's hooks. What is left are cycles, which `gc.collect` finds.
    """
    module, stage = engine.module, engine.zero_optimization_stage()
    engine.destroy()
    if stage == 3:
        forget_modules({id(part) for part in module.modules()})
        forget_coordinators()


def forget_modules(own: set[int]) -> None:
    """Take the modules of these ids from the process's stack of modules in a forward.

    DeepSpeed 0.19.8 pushes each model once, when it wraps it, and pops it never. So too modules whose forward
    a checkpoint's recomputation breaks off.
    """
    from deepspeed.runtime.zero.parameter_offload import FWD_MODULE_STACK

    FWD_MODULE_STACK[:] = [other for other in FWD_MODULE_STACK if id(other) not in own]


def forget_coordinators() -> None:
    """Empty the cache of which parameters to let go at a place of the trace; engines at work fill it again.

    It is a cache on a method, so one for the process, whose keys are each coordinator and its modules; they
    hold the engine, its optimizer, masters and moments.
    """
    from deepspeed.runtime.zero.partitioned_param_coordinator import PartitionedParameterCoordinator

    method = vars(PartitionedParameterCoordinator)["_PartitionedParameterCoordinator__params_to_release"]
    cached = inspect.getclosurevars(method).nonlocals["func"]  # below the decorator that marks its time
    cached.cache_clear()
