"""Kernels that repeat their numbers: what cuBLAS finds in the environment, before it can have started."""

import os

import pytest
import torch
import torch.distributed as dist

from ropewalk.train import TrainError
from ropewalk.train.mesh import join_world, use_deterministic_kernels

NAME = "CUBLAS_WORKSPACE_CONFIG"
CUDA = torch.device("cuda", 0)


class TouchedError(Exception):
    """Stand for the first use of a device."""


@pytest.mark.parametrize(("given", "found"), [(None, ":4096:8"), (":16:8", ":16:8"), (":0:0", ":0:0")])
def test_a_workspace_is_chosen_before_a_device_is_touched(
    monkeypatch: pytest.MonkeyPatch, given: str | None, found: str
) -> None:
    def touch(_: int) -> None:
        raise TouchedError(os.environ.get(NAME))

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", touch)
    monkeypatch.setattr(dist, "is_initialized", lambda: False)
    # first set, so that what the body sets is undone
    monkeypatch.setenv(NAME, given or "")
    if given is None:
        monkeypatch.delenv(NAME)
    with pytest.raises(TouchedError, match=f"^{found}$"):
        join_world()


def test_without_a_gpu_the_environment_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(NAME, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    join_world()
    assert NAME not in os.environ


@pytest.mark.parametrize("value", [":0:0", None])
def test_bad_input(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    """Torch would stop at the first product."""
    monkeypatch.setenv(NAME, value or "")
    if value is None:
        monkeypatch.delenv(NAME)
    with pytest.raises(TrainError, match=rf"{NAME}: .*, got {value}; remove it .*train.deterministic=false"):
        use_deterministic_kernels(True, CUDA)
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(("wanted", "device"), [(True, torch.device("cpu")), (False, CUDA)])
def test_it_binds_nobody_else(monkeypatch: pytest.MonkeyPatch, wanted: bool, device: torch.device) -> None:
    monkeypatch.setenv(NAME, ":0:0")
    try:
        use_deterministic_kernels(wanted, device)
        assert torch.are_deterministic_algorithms_enabled() is wanted
    finally:
        torch.use_deterministic_algorithms(False)
