"""The training loops that bench_step.py lets run beside each other, and what a rank measures of its own."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate as sums
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.nn.functional import all_gather
from torch.utils.data import DataLoader
from transformers import LlamaConfig, LlamaForCausalLM
from world.packs import MemoryPlan, Window

from ropewalk.rope import install
from ropewalk.train.attention.pairs import sdpa
from ropewalk.train.batch import Batches
from ropewalk.train.engine import accumulate, gradient_norm, load_deepspeed, make_engine, take_step
from ropewalk.train.loss import TokenLoss
from ropewalk.train.mesh import Mesh
from ropewalk.train.model import for_training
from ropewalk.train.settings import TrainSection
from ropewalk.train.streaming import Streaming

RANKS, VOCABULARY, STAGE, RATE = 2, 32768, 2, 1e-4
STEPS = 1000
Step = Callable[[], float]


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """A way to train: whose loop, and for ours what it switches on."""

    name: str
    loop: str = "ours"
    packs: int = 1
    """Packs that all ranks together take a step."""
    switches: dict[str, Any] = field(default_factory=dict)
    """Keys of `train`."""
    chunks: int | None = None
    """In how many chunks a pack goes through the model; None: whole, or in chunks of `size`."""
    size: int | None = None

    def keys(self, length: int) -> dict[str, Any]:
        """Give the keys of `train` for packs of `length` tokens."""
        chunk = length // self.chunks if self.chunks else self.size
        return self.switches | ({"chunk": chunk} if chunk else {})


CONTESTANTS = [
    Contestant(name="bare DeepSpeed", loop="bare", packs=RANKS),
    Contestant(name="accelerate Ulysses", loop="accelerate"),
    Contestant(name="ours"),
    Contestant(name="ours, attention kept", switches={"keep_attention": True}),
    Contestant(name="ours, in 4 chunks", chunks=4),
    Contestant(name="ours, in 4 chunks, attention kept", chunks=4, switches={"keep_attention": True}),
    Contestant(name="ours, in chunks of 1K", size=1024),
]


class OneDocument(MemoryPlan):
    """Packs of one document each."""

    def groups(self, index: int) -> list[tuple[int, int]]:
        return [(0, self.length)]

    def pack(self, index: int) -> Window:
        tokens = np.random.default_rng(index).integers(VOCABULARY, size=self.length)
        return Window(tokens, np.arange(self.length), np.append(tokens[1:], -100))

    def trained_tokens(self, index: int) -> int:
        return self.length - 1


def model_of() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=1 << 20,
        tie_word_embeddings=False,
        attn_implementation="sdpa",  # type: ignore[call-arg]
    )
    return LlamaForCausalLM(config)


def ours(length: int, switches: dict[str, Any]) -> Step:
    """Train as the loop does, from the reading of the pack to the updated weights."""
    told: dict[str, Any] = {"steps": STEPS, "batch_tokens": length, "checkpoint_every": STEPS}
    settings = TrainSection(**told, learning_rate=RATE, zero_stage=STAGE, sequence=RANKS, **switches)
    mesh = Mesh.of_world(heads=RANKS)
    plan = OneDocument(length=length, packs=STEPS)
    batches = Batches(plan=plan, layout=mesh.layout, packs_per_step=1, micro_batch=1)  # type: ignore[arg-type]
    model = for_training(install(model_of()), gradient_checkpointing=settings.gradient_checkpointing)
    engine = make_engine(TokenLoss(model, chunk=settings.loss_chunk), settings, accumulation=1)
    streaming, steps = Streaming.of(settings, mesh, sdpa), iter(range(STEPS))

    def step() -> float:
        loss = accumulate(engine, batches, next(steps), streaming)
        gradient_norm(engine, mesh)
        take_step(engine)
        return loss

    return step


def bare(length: int, switches: dict[str, Any]) -> Step:
    """Train transformers' model and its own loss in DeepSpeed's loop."""
    model = for_training(model_of(), gradient_checkpointing=True)
    config = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_clipping": 1.0,
        "zero_optimization": {"stage": STAGE} | buckets(model),
        "steps_per_print": 2**31,
    }
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.1)
    initialize = load_deepspeed().initialize
    engine, *_ = initialize(model=model, optimizer=optimizer, config=config, dist_init_required=False)
    plan, steps = OneDocument(length=length, packs=STEPS), iter(range(dist.get_rank(), STEPS, RANKS))

    def step() -> float:
        tokens = torch.as_tensor(plan.pack(next(steps)).tokens)[None]
        loss = engine(input_ids=tokens, labels=tokens, use_cache=False).loss
        engine.backward(loss)
        engine.step()
        return float(loss.detach())

    return step


def buckets(model: torch.nn.Module) -> dict[str, int]:
    """Give all the same: with its defaults DeepSpeed allocates 2 GB a step for the smallest model."""
    size = sum(p.numel() for p in model.parameters())
    return {"reduce_bucket_size": size, "allgather_bucket_size": size}


def accelerate_ulysses(length: int, switches: dict[str, Any]) -> Step:
    """Train as accelerate's guide to sequence parallelism has it."""
    load_deepspeed()
    os.environ["ACCELERATE_USE_DEEPSPEED"] = "true"
    from accelerate import Accelerator
    from accelerate.utils import DeepSpeedPlugin, DeepSpeedSequenceParallelConfig, ParallelismConfig

    model = for_training(model_of(), gradient_checkpointing=True)
    config = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": 1.0,
        "zero_optimization": {"stage": STAGE} | buckets(model),
        "steps_per_print": 2**31,
        "zero_allow_untested_optimizer": True,
    }
    handler = DeepSpeedSequenceParallelConfig(
        sp_seq_length=length, sp_seq_length_is_variable=False, sp_attn_implementation="sdpa"
    )
    accelerator = Accelerator(
        cpu=False,
        deepspeed_plugin=DeepSpeedPlugin(hf_ds_config=config),
        parallelism_config=ParallelismConfig(sp_backend="deepspeed", sp_size=RANKS, sp_handler=handler),
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.1)
    loader = DataLoader(rows(length), batch_size=1)  # type: ignore[arg-type]
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    batches = iter(loader)
    from deepspeed.utils import groups

    group = groups._get_sequence_parallel_group()
    loss_of = accelerator.unwrap_model(model).loss_function  # type: ignore[attr-defined]

    def step() -> float:
        batch = next(batches)
        labels = batch["shift_labels"]
        logits = model(batch["input_ids"], position_ids=batch["position_ids"], use_cache=False).logits
        loss = loss_of(logits=logits, labels=None, shift_labels=labels, vocab_size=VOCABULARY)  # type: ignore[operator]
        losses = torch.stack(all_gather(loss, group=group))
        counts = all_gather((labels != -100).sum(), group=group)
        loss = sum(one * count for one, count in zip(losses, counts, strict=True)) / sum(counts)
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())  # type: ignore[union-attr]

    return step


def rows(length: int) -> list[dict[str, torch.Tensor]]:
    plan = OneDocument(length=length, packs=STEPS)
    at = torch.arange(length)
    tokens = (torch.as_tensor(plan.pack(index).tokens) for index in range(100))
    return [{"input_ids": own, "position_ids": at, "labels": own} for own in tokens]


LOOPS = {"ours": ours, "bare": bare, "accelerate": accelerate_ulysses}
RUNNING: list[Step] = []
"""On a rank: the loop that stands ready."""


def prepare(loop: str, length: int, switches: dict[str, Any]) -> None:
    """Make a rank's loop."""
    RUNNING[:] = [LOOPS[loop](length, switches)]


def timed() -> tuple[float, float, float]:
    """Take a step: the seconds until all ranks had, the seconds that this rank computed, the loss."""
    dist.barrier()
    began, computed = time.perf_counter(), time.process_time()
    loss = RUNNING[0]()
    dist.barrier()
    return time.perf_counter() - began, time.process_time() - computed, loss


def peak() -> int:
    """Take a step and return the most bytes it had allocated at once."""
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as seen:
        RUNNING[0]()
    events = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]  # type: ignore[union-attr]
    events.sort(key=lambda event: event.start_ns())
    return max(sums(event.nbytes() for event in events))  # type: ignore[attr-defined]
