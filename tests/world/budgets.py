"""Models, ranks and packs of published sizes, whose memory and cost are counted."""

from typing import Any

from ropewalk.train import Layout
from ropewalk.train.budget import Job, Shape
from ropewalk.train.settings import TrainSection

LLAMA: dict[str, Any] = {"model_type": "llama", "vocab_size": 128256, "tie_word_embeddings": False}
EIGHT_B = LLAMA | {
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
}
SEVENTY_B = LLAMA | {
    "num_hidden_layers": 80,
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
}


def job(
    length: int,
    *,
    world: int = 1,
    heads: int = 1,
    gather: int = 1,
    config: dict[str, Any] = EIGHT_B,
    arithmetic: dict[str, Any] | None = None,
    **train: Any,
) -> Job:
    """Make a job in bfloat16 at ZeRO 3, one pack a data rank and step."""
    layout = Layout(world=world, heads=heads, gather=gather)
    settings = {
        "steps": 1,
        "batch_tokens": length * layout.data,
        "learning_rate": 1e-5,
        "checkpoint_every": 1,
        "sequence": layout.sequence,
        "heads": heads,
        "zero_stage": 3,
        "dtype": "bfloat16",
        "loss_chunk": 4096,
    }
    section = TrainSection(**(settings | train))
    return Job(shape=Shape.of(config), train=section, layout=layout, length=length, **(arithmetic or {}))
