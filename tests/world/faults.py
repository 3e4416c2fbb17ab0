"""A loss or gradient is no number or spikes, on one rank and at chosen steps, as a bad kernel gives it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed as dist

from ropewalk.train import engine as engines

FAULTY_RANK = 1


class KilledError(Exception):
    """Stand for a kill between two steps."""


@contextmanager
def faulty(engine: Any, kind: str) -> Iterator[None]:
    """Make the gradient of one parameter or the loss no number, or multiply it, on one rank for a block."""
    if dist.get_rank() != FAULTY_RANK % dist.get_world_size():
        yield
        return
    if kind == "gradient":
        *_, parameter = engine.module.parameters()
        hook = parameter.register_hook(lambda grad: torch.full_like(grad, torch.inf))
    else:
        factor = {"loss": torch.nan, "spike": 1e3}[kind]
        hook = engine.module.register_forward_hook(lambda module, given, loss: loss * factor)
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def faults_at(steps: dict[int, str]) -> Iterator[None]:
    """Spoil these steps of a stage (from 0), each by its kind, whenever the loop comes to them."""
    with patch("ropewalk.train.loop.accumulate", partial(spoilt, engines.accumulate, steps)):
        yield


def spoilt(
    accumulate: Callable[..., float], steps: dict[int, str], engine: Any, batches: Any, step: int, *rest: Any
) -> float:
    if steps.get(step) == "kill":  # on every rank: one alone would leave the others waiting
        raise KilledError
    if step not in steps:
        return accumulate(engine, batches, step, *rest)
    with faulty(engine, steps[step]):
        return accumulate(engine, batches, step, *rest)
