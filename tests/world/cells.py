"""A cell of the covering array: what it says of model, packs, layout and memory, and the model it trains."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM
from world.packs import VOCABULARY, PacksOf

from ropewalk.rope import install, make_scheme
from ropewalk.train import Layout
from ropewalk.train.batch import Batches
from ropewalk.train.settings import OptimizerSection, TrainSection

PACKS, STEPS, LENGTH = 4, 3, 64
HEADS = 8
FACTORS: dict[str, Sequence[Any]] = {
    "data": [1, 2],
    "heads": [1, 2, 4],
    "gather": [1, 2, 4],
    "stage": [0, 1, 2, 3],
    "chunk": [None, 16, 24],
    "store": ["device", "host", "divided"],
    "keep": [False, True],
    "packs": ["masked", "unmasked", "one", "skipping"],
    "kv": ["above", "equal", "below"],
    "micro_steps": ["one", "several"],
    "checkpointing": [True, False],
    "model": ["llama", "qwen2", "qwen3", "mistral", "phi3", "gemma3"],
}
TOKENS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": 0}
OWN: dict[str, dict[str, Any]] = {
    "qwen3": {"head_dim": 8},
    "mistral": {"sliding_window": 48},
    "phi3": {"partial_rotary_factor": 0.75, "original_max_position_embeddings": 32},
    "gemma3_text": {
        "head_dim": 8,
        "query_pre_attn_scalar": 8,
        "sliding_window": 12,
        "layer_types": ["sliding_attention", "full_attention"],
    },
}
WINDOWS: dict[str, list[int | None]] = {"mistral": [48, 48], "gemma3": [12, None]}
"""Of each layer, tokens; the others have none."""


def legal(cell: Any) -> bool:
    """At most four ranks; a store is of chunks; kv heads are not fewer than one rank."""
    world = cell.get("data", 1) * cell.get("heads", 1) * cell.get("gather", 1)
    stored_whole = "chunk" in cell and cell["chunk"] is None and cell.get("store", "device") != "device"
    return world <= 4 and not stored_whole and not (cell.get("heads") == 1 and cell.get("kv") == "below")


@dataclass(frozen=True, kw_only=True)
class Way:
    """What a cell says of model, packs, layout and memory."""

    data: int = 1
    heads: int = 1
    gather: int = 1
    stage: int = 2
    chunk: int | None = None
    store: str = "device"
    keep: bool = False
    packs: str = "masked"
    kv: str = "above"
    micro_steps: str = "several"
    checkpointing: bool = True
    model: str = "llama"
    dtype: str = "float32"

    @property
    def world(self) -> int:
        return self.data * self.heads * self.gather

    @property
    def kv_heads(self) -> int:
        return {"above": 2 * self.heads, "equal": self.heads, "below": self.heads // 2}[self.kv]

    @property
    def settings(self) -> TrainSection:
        """Set a clip that acts, and an eps that makes Adam's steps smooth.

        Else weights whose gradient is rounding noise would move by a whole learning rate either way.
        """
        return TrainSection(
            steps=STEPS,
            batch_tokens=LENGTH * PACKS,
            micro_batch=PACKS // self.data if self.micro_steps == "one" else 1,
            sequence=self.heads * self.gather,
            chunk=self.chunk,
            store={"device_layers": 1} if self.store == "divided" else self.store,  # type: ignore[arg-type]
            keep_attention=self.keep,
            zero_stage=self.stage,  # type: ignore[arg-type]
            optimizer=OptimizerSection(eps=1e-4, clip=0.1),
            learning_rate=1e-2,
            checkpoint_every=STEPS,
            loss_chunk=24,
            dtype=self.dtype,  # type: ignore[arg-type]
            gradient_checkpointing=self.checkpointing,
        )

    def batches(self, layout: Layout) -> Batches:
        plan: Any = PacksOf(kind=self.packs)
        return Batches(plan=plan, layout=layout, packs_per_step=PACKS, micro_batch=self.settings.micro_batch)


def model_of(way: Way, dtype: torch.dtype) -> Any:
    """Draw a small model in float32, always the same, with scores wide enough that attention chooses.

    In float64 its norms are computed in float64 too.
    """
    name = "gemma3_text" if way.model == "gemma3" else way.model
    config = AutoConfig.for_model(
        name,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        num_key_value_heads=way.kv_heads,
        vocab_size=VOCABULARY,
        max_position_embeddings=32,
        initializer_range=0.1,
        **TOKENS,
        **OWN.get(name, {}),
    )
    torch.manual_seed(0)
    model = install(AutoModelForCausalLM.from_config(config), make_scheme("yarn"), target_length=48)
    nn.Module.to(model, dtype)
    if dtype == torch.float64:
        for norm in model.modules():
            if type(norm).__name__.endswith("RMSNorm"):
                norm.forward = exact_norm(norm)
    return model


def exact_norm(norm: Any) -> Any:
    """Give what a norm computes, in the dtype of its input: transformers rounds to float32."""
    gemma = type(norm).__name__.startswith("Gemma")
    eps = norm.eps if gemma else norm.variance_epsilon

    def forward(x: Tensor) -> Tensor:
        scaled = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)
        return scaled * (1 + norm.weight if gemma else norm.weight)

    return forward
