"""Every kernel that runs here equals attention written out, and none leaks across groups."""

import pytest
import torch
from torch import Tensor
from world.attention import written_out

from ropewalk.train import TrainError
from ropewalk.train.attention.grouped import GroupedAttention
from ropewalk.train.attention.kernels import KERNELS, Kernel, choose_kernel, flex, is_installed
from ropewalk.train.attention.pairs import Pair, sdpa
from ropewalk.train.attention.tiles import Groups

pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
GROUPS: Groups = [[(0, 7), (7, 40), (40, 64)], [(0, 64)], [(0, 1), (1, 63), (63, 64)]]
CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def draw(dtype: torch.dtype = torch.float64, width: int = 16) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = (3, 8, 64, width), (3, 2, 64, width), (3, 2, 64, width)
    q, k, v = (torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes)
    return q, k, v


def attend(kernel: Kernel, query: Tensor, key: Tensor, value: Tensor, window: int | None = None) -> Tensor:
    """Attend as a model's layer does, to [B, H, S, D]."""
    call = GroupedAttention(groups=GROUPS, kernel=kernel)
    return call(query, key, value, scaling=0.25, layer=0, window=window).transpose(1, 2)


@pytest.mark.parametrize(
    ("kernel", "dtype", "error", "window"),
    [
        *((sdpa, torch.float64, 1e-12, window) for window in (None, 1, 10, 33, 64)),
        *((flex, torch.float32, 1e-5, window) for window in (None, 10)),
    ],
)
def test_equals_attention_written_out(
    kernel: Kernel, dtype: torch.dtype, error: float, window: int | None
) -> None:
    q, k, v = draw(dtype)
    want = written_out(q, k, v, GROUPS, 0.25, window)
    torch.testing.assert_close(attend(kernel, q, k, v, window), want, rtol=error, atol=error)


@pytest.mark.parametrize(("kernel", "dtype"), [(sdpa, torch.float64), (flex, torch.float32)])
def test_no_group_sees_another(kernel: Kernel, dtype: torch.dtype) -> None:
    q, k, v = draw(dtype)
    before = attend(kernel, q, k, v)
    k[0, :, 7:40], v[0, :, 7:40], q[0, :, 7:40] = 3.0, -5.0, 2.0
    changed = (attend(kernel, q, k, v) != before).any(dim=(1, 3))
    assert changed[0, 7:40].all()
    assert not changed[0, :7].any()
    assert not changed[0, 40:].any()
    assert not changed[1:].any()


@pytest.mark.parametrize("window", [None, 1, 10])
def test_sdpa_has_the_gradients_of_attention_written_out(window: int | None) -> None:
    wanted, found = draw(), draw()
    for x in (*wanted, *found):
        x.requires_grad_()
    written_out(*wanted, GROUPS, 0.25, window).square().sum().backward()
    attend(sdpa, *found, window).square().sum().backward()
    for a, b in zip(wanted, found, strict=True):
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-10, atol=1e-10)


@pytest.mark.gpu
@pytest.mark.parametrize("name", sorted(KERNELS))
def test_gpu_kernels_equal_attention_written_out(name: str) -> None:
    if name == "flash":
        pytest.importorskip("flash_attn")
    q, k, v = (x.bfloat16() for x in draw(width=64))
    for window in (None, 10):
        exact = written_out(q.double(), k.double(), v.double(), GROUPS, 0.25, window)
        found = attend(KERNELS[name], q.cuda(), k.cuda(), v.cuda(), window).cpu().double()
        torch.testing.assert_close(found, exact, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("name", ["varlen", "flash", "cudnn", "flex"])
def test_cpu_refuses_what_cannot_train_there(name: str) -> None:
    with pytest.raises(TrainError, match=f"got {name}; leave it at auto"):
        choose_kernel(name, CPU, torch.bfloat16)


def test_a_kernel_that_is_not_installed_is_refused() -> None:
    if is_installed("flash"):
        pytest.skip("flash-attn is here")
    with pytest.raises(TrainError, match="flash_attn, got flash without it; install"):
        choose_kernel("flash", CUDA, torch.bfloat16)


def test_auto_takes_the_numbers_it_is_given() -> None:
    """Varlen takes 16 bit only."""
    assert choose_kernel("auto", CPU, torch.bfloat16) is sdpa
    assert choose_kernel("auto", CUDA, torch.bfloat16) is KERNELS["varlen"]
    assert choose_kernel("auto", CUDA, torch.float32) is sdpa


def test_all_kernels_but_flex_are_pairs() -> None:
    assert {name for name, kernel in KERNELS.items() if not isinstance(kernel, Pair)} == {"flex"}
    assert all(kernel.name == name for name, kernel in KERNELS.items() if isinstance(kernel, Pair))
