"""One GPU, ten minutes: parity of kernels, streamed against whole gradients, real steps at 32K to 1M tokens.

    python tests/benchmarks/gpu_window.py > window.json

Needs torch, transformers and a CUDA device; neither DeepSpeed nor data. Steps are those of a 1B Llama shape
in bfloat16 with float32 masters and fused AdamW on random tokens, one document a pack. FLOPs are causal and
without recompute: (6 N + 6 L H S) a token at S tokens (N parameters, L layers, H = heads x head_dim).
"""

import json
import sys
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from ropewalk.rope import install, make_scheme
from ropewalk.train.attention.grouped import GroupedAttention
from ropewalk.train.attention.kernels import KERNELS
from ropewalk.train.attention.pairs import Pair
from ropewalk.train.loss import TokenLoss
from ropewalk.train.mesh import Mesh
from ropewalk.train.model import for_training
from ropewalk.train.settings import TrainSection
from ropewalk.train.streaming import Streaming

SECONDS = 570.0
VOCABULARY = 32_768
SHAPE: dict[str, Any] = {
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
}
WAYS = {
    "whole": {},
    "whole, attention kept": {"keep_attention": True},
    "chunks of 16K": {"chunk": 16_384},
    "chunks of 16K, attention kept": {"chunk": 16_384, "keep_attention": True},
    "chunks of 16K, store on host": {"chunk": 16_384, "store": "host"},
}
DEVICE = torch.device("cuda", 0)


def written_out(query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None) -> Tensor:
    """Causal attention in float64 with its scores in full."""
    key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], 1) for x in (key, value))
    scores = query @ key.mT * scale
    seen = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    seen = seen if window is None else seen.triu(1 - window)
    return scores.masked_fill(~seen, -torch.inf).softmax(-1) @ value


def parity() -> dict[str, Any]:
    """Give each pair's worst error of output and gradients over the largest value."""
    found: dict[str, Any] = {}
    draw = [torch.randn(1, heads, 4096, 128, device=DEVICE) for heads in (8, 2, 2)]
    for window in (None, 700):
        exact = [x.double().requires_grad_() for x in draw]
        wanted = written_out(exact[0], exact[1], exact[2], 0.1, window)
        above = torch.randn_like(wanted)
        wanted.backward(above)
        for name, kernel in KERNELS.items():
            if not isinstance(kernel, Pair):
                continue
            ours = [x.bfloat16().requires_grad_() for x in draw]
            attend = GroupedAttention(groups=[[(0, 4096)]], kernel=kernel)
            try:
                out = attend(*ours, scaling=0.1, layer=0, window=window).transpose(1, 2)
                out.backward(above.bfloat16())
            except (ImportError, RuntimeError, NotImplementedError) as error:
                found[f"{name}, window {window}"] = f"{type(error).__name__}: {error}"[:200]
                continue
            pairs = [(out, wanted), *((a.grad, b.grad) for a, b in zip(ours, exact, strict=True))]
            errors = [float((a.double() - b).abs().max() / b.abs().max()) for a, b in pairs]  # type: ignore[union-attr]
            found[f"{name}, window {window}"] = errors
    return found


class Run:
    """A model, its float32 masters and the ways in which it takes a step."""

    def __init__(self, layers: int, length: int, dtype: torch.dtype = torch.bfloat16) -> None:
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=VOCABULARY, num_hidden_layers=layers, max_position_embeddings=8192, **SHAPE
        )
        with DEVICE:
            model = install(LlamaForCausalLM(config), make_scheme("yarn"), target_length=length)
        torch.nn.Module.to(model, dtype)
        self.module = TokenLoss(for_training(model, gradient_checkpointing=True), chunk=4096)
        self.weights = list(self.module.parameters())
        self.length, self.layers = length, layers
        tokens = torch.randint(VOCABULARY, (1, length + 1), device=DEVICE)
        self.tokens, self.labels = tokens[:, :-1], tokens[:, 1:]

    def gradients(self, **way: Any) -> float:
        """Run forward and backward of one pack; return its token-mean loss in nats."""
        settings = TrainSection(
            steps=1, batch_tokens=self.length, learning_rate=1e-5, checkpoint_every=1, **way
        )
        streaming = Streaming.of(settings, Mesh.alone(), KERNELS["varlen"])
        groups, total = [[(0, self.length)]], 0.0
        for visit in streaming.visits(self.length, groups):
            span = slice(*visit.chunk)
            positions = torch.arange(*visit.chunk, device=DEVICE)[None]
            lengths = torch.full_like(positions[:, :1], self.length)
            labels = None if visit.first_pass else self.labels[:, span]
            with torch.set_grad_enabled(not visit.first_pass):
                attend = streaming.attention(groups, visit)
                loss = self.module(self.tokens[:, span], positions, lengths, labels, attend)
            if not visit.first_pass:
                (loss / self.length).backward()
                total += float(loss.detach()) / self.length
                streaming.leave(visit)
        return total

    def optimizer(self) -> torch.optim.AdamW:
        self.masters = [weight.detach().float().requires_grad_() for weight in self.weights]
        return torch.optim.AdamW(self.masters, lr=1e-5, fused=True)

    def step(self, optimizer: torch.optim.AdamW) -> None:
        for master, weight in zip(self.masters, self.weights, strict=True):
            assert weight.grad is not None
            master.grad, weight.grad = weight.grad.float(), None
        optimizer.step()
        for master, weight in zip(self.masters, self.weights, strict=True):
            weight.data.copy_(master.data)
            master.grad = None

    def flops(self) -> float:
        """Causal FLOPs of a step."""
        parameters = sum(weight.numel() for weight in self.weights)
        return (6 * parameters + 6 * self.layers * SHAPE["hidden_size"] * self.length) * self.length


def streamed_against_whole(length: int = 32_768) -> dict[str, float]:
    """Give each way's distance from the whole pack's gradients over their norm, two layers."""
    run, found = Run(2, length), {}
    run.gradients()
    whole = [weight.grad.double() for weight in run.weights if weight.grad is not None]
    size = torch.stack([grad.norm() for grad in whole]).norm()
    for name, way in WAYS.items():
        for weight in run.weights:
            weight.grad = None
        run.gradients(**way)
        apart = [(w.grad.double() - g).norm() for w, g in zip(run.weights, whole, strict=True)]  # type: ignore[union-attr]
        found[name] = float(torch.stack(apart).norm() / size)
    return found


def matrix_rate() -> float:
    """Measure the device's bfloat16 matrix products, FLOP a second."""
    a = torch.randn(8192, 8192, device=DEVICE, dtype=torch.bfloat16)
    for _ in range(20):
        a @ a
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(50):
        a @ a
    torch.cuda.synchronize()
    return 50 * 2 * 8192**3 / (time.perf_counter() - began)


def windows(rate: float, until: float) -> Iterator[dict[str, Any]]:
    """Time a second step of each way at each length until the time is up."""
    for length in (32_768, 65_536, 131_072, 262_144, 524_288, 1_048_576):
        for name, way in WAYS.items():
            if time.perf_counter() > until:
                return
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            row: dict[str, Any] = {"tokens": length, "way": name}
            try:
                run = Run(16, length)
                optimizer = run.optimizer()
                seconds = 0.0
                for _ in range(2):
                    began = time.perf_counter()
                    row["loss"] = run.gradients(**way)
                    run.step(optimizer)
                    torch.cuda.synchronize()
                    seconds = time.perf_counter() - began
                row |= {"tokens_per_second": length / seconds, "mfu": run.flops() / seconds / rate}
            except torch.OutOfMemoryError:
                row["error"] = "out of memory"
            row["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
            yield row


def main() -> None:
    if not torch.cuda.is_available():
        sys.exit("gpu_window: needs a CUDA device, got none; run it where there is one")
    until = time.perf_counter() + SECONDS
    told: dict[str, Any] = {"device": torch.cuda.get_device_name(), "torch": torch.__version__}
    told["parity"], told["streamed against whole"] = parity(), streamed_against_whole()
    told["matrix_flops_per_second"] = matrix_rate()
    told["windows"] = list(windows(told["matrix_flops_per_second"], until))
    json.dump(told, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
