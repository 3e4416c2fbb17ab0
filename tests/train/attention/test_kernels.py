"""Every kernel that runs here equals attention written out, and none leaks across groups."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ropewalk.train import TrainError
from ropewalk.train.attention.kernels import KERNELS, Groups, choose_kernel, flex, is_installed, sdpa

pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
GROUPS: Groups = [[(0, 7), (7, 40), (40, 64)], [(0, 64)], [(0, 1), (1, 63), (63, 64)]]


def draw(dtype: torch.dtype = torch.float64, width: int = 16) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = (3, 8, 64, width), (3, 2, 64, width), (3, 2, 64, width)
    q, k, v = (torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes)
    return q, k, v


def written_out(
    query: Tensor, key: Tensor, value: Tensor, groups: Groups, scale: float, window: int | None = None
) -> Tensor:
    """Full scores under a boolean mask: slow and obvious."""
    ids = torch.zeros(query.shape[0], query.shape[2], dtype=torch.long)
    for row, spans in enumerate(groups):
        for number, (start, stop) in enumerate(spans):
            ids[row, start:stop] = number
    mask = (ids[:, :, None] == ids[:, None, :]).tril().triu(1 - (window or 64))[:, None]
    ratio = query.shape[1] // key.shape[1]
    scores = query @ key.repeat_interleave(ratio, 1).mT * scale
    return scores.masked_fill(~mask, float("-inf")).softmax(-1) @ value.repeat_interleave(ratio, 1)


@pytest.mark.parametrize(
    ("kernel", "dtype", "error", "window"),
    [
        *((sdpa, torch.float64, 1e-12, window) for window in (None, 1, 10, 33, 64)),
        *((flex, torch.float32, 1e-5, window) for window in (None, 10)),
    ],
)
def test_equals_attention_written_out(
    kernel: Callable[..., Tensor], dtype: torch.dtype, error: float, window: int | None
) -> None:
    q, k, v = draw(dtype)
    want = written_out(q, k, v, GROUPS, 0.25, window)
    torch.testing.assert_close(kernel(q, k, v, GROUPS, 0.25, window=window), want, rtol=error, atol=error)


@pytest.mark.parametrize(("kernel", "dtype"), [(sdpa, torch.float64), (flex, torch.float32)])
def test_no_group_sees_another(kernel: Callable[..., Tensor], dtype: torch.dtype) -> None:
    q, k, v = draw(dtype)
    before = kernel(q, k, v, GROUPS, 0.25)
    k[0, :, 7:40], v[0, :, 7:40], q[0, :, 7:40] = 3.0, -5.0, 2.0
    changed = (kernel(q, k, v, GROUPS, 0.25) != before).any(dim=(1, 3))
    assert changed[0, 7:40].all()
    assert not changed[0, :7].any()
    assert not changed[0, 40:].any()
    assert not changed[1:].any()


def test_sdpa_has_the_gradients_of_attention_written_out() -> None:
    wanted, found = draw(), draw()
    for x in (*wanted, *found):
        x.requires_grad_()
    written_out(*wanted, GROUPS, 0.25).square().sum().backward()
    sdpa(*found, GROUPS, 0.25).square().sum().backward()
    for a, b in zip(wanted, found, strict=True):
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-10, atol=1e-10)


@pytest.mark.gpu
@pytest.mark.parametrize("name", sorted(KERNELS))
def test_gpu_kernels_equal_attention_written_out(name: str) -> None:
    if name == "flash":
        pytest.importorskip("flash_attn")
    q, k, v = (x.bfloat16() for x in draw(width=64))
    for window in (None, 10):
        exact = written_out(q.double(), k.double(), v.double(), GROUPS, 0.125, window)
        found = KERNELS[name](q.cuda(), k.cuda(), v.cuda(), GROUPS, 0.125, window).cpu().double()
        torch.testing.assert_close(found, exact, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("name", ["varlen", "flash", "cudnn", "flex"])
def test_cpu_refuses_what_cannot_train_there(name: str) -> None:
    with pytest.raises(TrainError, match=f"got {name}; leave it at auto"):
        choose_kernel(name, torch.device("cpu"))


def test_a_kernel_that_is_not_installed_is_refused() -> None:
    if is_installed("flash"):
        pytest.skip("flash-attn is here")
    with pytest.raises(TrainError, match="flash_attn, got flash without it; install"):
        choose_kernel("flash", torch.device("cuda"))


def test_auto_is_the_best_there_is() -> None:
    assert choose_kernel("auto", torch.device("cpu")) is sdpa
    best = "varlen" if is_installed("varlen") else "sdpa"
    assert choose_kernel("auto", torch.device("cuda")) is KERNELS[best]
