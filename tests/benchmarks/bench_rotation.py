"""What does an exact rotation cost, and how exact is it? Beside transformers' own rotary, on CPU.

    make bench

The first table has the time of a model step, one table of angles and one turn of q and k in each layer, over
transformers' time for the same: ratios of times from one run, to be at most 1.2. The second has the largest
error of cos and sin over every position to 8M, to be at most 1e-6.
"""

import statistics
import sys
import time
from collections.abc import Callable

import mpmath
import torch
from torch import Tensor
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

from ropewalk.rope import Frequencies, make_scheme, read_base, rotate, rotation_table

LAYERS, QUERY_HEADS, KV_HEADS, WIDTH = 16, 8, 2, 128
LENGTHS = (4 << 10, 16 << 10, 64 << 10, 128 << 10)
MILLIONS = 8 << 20
SPAN = 1 << 16
"positions whose errors are measured at a time"


def model(theta: float) -> tuple[LlamaConfig, Frequencies]:
    """Describe a model of one grouped-query layer type, and its frequencies."""
    config = LlamaConfig(
        hidden_size=QUERY_HEADS * WIDTH,
        num_attention_heads=QUERY_HEADS,
        num_key_value_heads=KV_HEADS,
        head_dim=WIDTH,
        rope_parameters={"rope_type": "default", "rope_theta": theta},
    )
    base = read_base(config)["full_attention"]
    return config, make_scheme("default").frequencies(base, target_length=base.original_length)


def seconds(*steps: Callable[[], object], repeats: int) -> list[float]:
    """Time each step, in turn so that a busy machine slows all of them alike; medians."""
    for step in steps:
        step()
    took: list[list[float]] = [[] for _ in steps]
    for _ in range(repeats):
        for step, times in zip(steps, took, strict=True):
            began = time.perf_counter()
            step()
            times.append(time.perf_counter() - began)
    return [statistics.median(times) for times in took]


def heads(count: int, length: int, dtype: torch.dtype, trained: bool) -> Tensor:
    """Draw q or k as a projection leaves it: [1, heads, length, width], tokens outermost in memory."""
    return torch.randn(1, length, count, WIDTH, dtype=dtype).transpose(1, 2).requires_grad_(trained)


def step_times(length: int, dtype: torch.dtype, *, trained: bool) -> tuple[float, float]:
    """Return the seconds of all layers of a step, ours and transformers'."""
    config, frequencies = model(5e5)
    peer, positions = LlamaRotaryEmbedding(config), torch.arange(length)[None]
    q, k = (heads(count, length, dtype, trained) for count in (QUERY_HEADS, KV_HEADS))
    table, (cos, sin) = rotation_table(positions, frequencies), peer(q, positions)
    grads = [torch.randn_like(q), torch.randn_like(k)]

    def layer(turn: Callable[[], tuple[Tensor, Tensor]]) -> None:
        turned = turn()
        if trained:
            torch.autograd.grad(turned, (q, k), grads)

    own_table, own_layer, peer_table, peer_layer = seconds(
        lambda: rotation_table(positions, frequencies),
        lambda: layer(lambda: (rotate(q, table, dtype), rotate(k, table, dtype))),
        lambda: peer(q, positions),
        lambda: layer(lambda: apply_rotary_pos_emb(q, k, cos, sin)),
        repeats=max(3, LENGTHS[2] // length),
    )
    return own_table + LAYERS * own_layer, peer_table + LAYERS * peer_layer


def bench_time_beside_transformers() -> None:
    sys.stdout.write(
        f"\nrotation of {LAYERS} layers, {QUERY_HEADS} query and {KV_HEADS} kv heads of {WIDTH}, "
        f"{torch.get_num_threads()} threads: ours / transformers'\n"
    )
    for dtype in (torch.float32, torch.bfloat16):
        for length in LENGTHS:
            ratios = []
            for trained in (False, True):
                own, peer = step_times(length, dtype, trained=trained)
                ratios.append(f"{own / peer:.2f} ({own:.2f} s / {peer:.2f} s)")
            what = f"  {str(dtype)[6:]:8} {length >> 10:4d}K"
            sys.stdout.write(f"{what}: forward {ratios[0]}, with backward {ratios[1]}\n")
            sys.stdout.flush()


def bench_exact_to_eight_million() -> None:
    sys.stdout.write("\nlargest |cos - exact|, |sin - exact| at every position to 8M, and of transformers\n")
    for theta in (1e4, 5e5):
        config, frequencies = model(theta)
        peer, turns = LlamaRotaryEmbedding(config), fixed_point_turns(theta)
        worst = torch.zeros(4, dtype=torch.float64)
        for start in range(0, MILLIONS + 1, SPAN):
            positions = torch.arange(start, min(start + SPAN, MILLIONS + 1))
            table = rotation_table(positions[None], frequencies)
            own = errors(positions, turns, table.cos[0, 0], table.sin[0, 0])
            drift = (0.0, 0.0)
            if start // SPAN % 16 == 15:  # enough to see how far float32 angles drift
                cos, sin = peer(torch.zeros(()), positions[None])
                drift = errors(positions, turns, cos[0, :, : WIDTH // 2], sin[0, :, : WIDTH // 2])
            worst = worst.maximum(torch.tensor(own + drift, dtype=torch.float64))
        ours, theirs = (" ".join(f"{value:.1e}" for value in part.tolist()) for part in worst.split(2))
        sys.stdout.write(f"  theta {theta:g}: ours {ours}, transformers {theirs}\n")
        sys.stdout.flush()


def fixed_point_turns(theta: float) -> Tensor:
    """Return theta^(-2i/d) / 2 pi as 64-bit fractions of a turn, int64 [pairs].

    A whole position times such a fraction wraps around exactly as an angle does, so the product is reduced
    without error; at 8M the fraction's own rounding is worth 2^-42 of a turn.
    """
    with mpmath.workdps(40):
        exact = [mpmath.mpf(theta) ** (mpmath.mpf(-2 * i) / WIDTH) for i in range(WIDTH // 2)]
        whole = [int(mpmath.nint(speed / (2 * mpmath.pi) * 2**64)) for speed in exact]
    return torch.tensor([turn - 2**64 if turn >= 2**63 else turn for turn in whole], dtype=torch.int64)


def errors(positions: Tensor, turns: Tensor, cos: Tensor, sin: Tensor) -> tuple[float, float]:
    """Return the largest error of cos and of sin [N, pairs]."""
    angles = (positions[:, None] * turns).double() * (2 * torch.pi / 2**64)
    return float((cos - angles.cos()).abs().max()), float((sin - angles.sin()).abs().max())
