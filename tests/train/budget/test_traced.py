"""Activations of real layer stacks at published widths, traced on fake tensors, against the arithmetic."""

from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker
from transformers import CONFIG_MAPPING, AutoModelForCausalLM
from world.budgets import EIGHT_B, SEVENTY_B, job

from ropewalk.rope import install, make_scheme, rotation
from ropewalk.train.attention.grouped import GroupedAttention
from ropewalk.train.attention.pairs import sdpa
from ropewalk.train.budget import Shape
from ropewalk.train.budget.activations import ends_kept, final_norm, layer_kept
from ropewalk.train.budget.memory import layer_phase, waiting
from ropewalk.train.loss import hidden_states

pytestmark = pytest.mark.filterwarnings("ignore:Expected a tensor", "ignore:.*checkpointing")
TOKENS = 1 << 17
"so many that a weight's gradient, which lives for a moment, is nothing beside them"
KINDS: dict[str, dict[str, Any]] = {
    "8b": EIGHT_B,
    "70b": SEVENTY_B,
    "qwen2": {
        "model_type": "qwen2",
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
    },
    "qwen3": EIGHT_B | {"model_type": "qwen3", "intermediate_size": 12288, "head_dim": 128},
    "phi3": {
        "model_type": "phi3",
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "pad_token_id": 0,
    },
    "gemma3": {
        "model_type": "gemma3_text",
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "sliding_window": TOKENS,
    },
}


def traced(
    config: dict[str, Any], layers: int, *, checkpointing: bool, monkeypatch: pytest.MonkeyPatch
) -> tuple[float, float]:
    """Return bytes a token after the decoder's forward, and at the worst moment of its backward.

    Gradients of weights are dropped when they are whole, as ZeRO does. q and k are turned in one piece, as
    on a GPU: the pieces of a CPU are thousands, each of which a trace would visit.
    """
    monkeypatch.setattr(rotation, "BLOCK", 1 << 50)
    fields = config | {"num_hidden_layers": layers, "vocab_size": 128, "max_position_embeddings": 8192}
    with FakeTensorMode(allow_non_fake_inputs=True):
        kind: Any = CONFIG_MAPPING[config["model_type"]]
        made = kind(**fields)
        model = install(AutoModelForCausalLM.from_config(made, dtype=torch.bfloat16), make_scheme("default"))
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        model.train()
        for parameter in model.parameters():
            parameter.register_post_accumulate_grad_hook(lambda one: setattr(one, "grad", None))
        places, tokens = torch.arange(TOKENS)[None], torch.zeros(1, TOKENS, dtype=torch.long)
        attend = GroupedAttention(groups=[[(0, TOKENS)]], kernel=sdpa)
        tracker = MemTracker()
        tracker.track_external(model)
        with tracker:
            lengths = torch.full_like(places[:, :1], TOKENS)
            hidden = hidden_states(model, tokens, places, lengths, attend)
            forward = held(tracker, "current")
            hidden.backward(torch.ones_like(hidden))
        return forward, held(tracker, "peak")


def held(tracker: MemTracker, when: str) -> float:
    """Return activations and temporaries, bytes a token."""
    [snapshot] = tracker.get_tracker_snapshot(when).values()
    named = {str(kind).split(".")[-1]: value for kind, value in snapshot.items()}
    return (named["ACT"] + named.get("TEMP", 0)) / TOKENS


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_what_a_layer_keeps_is_counted_to_the_byte(name: str, monkeypatch: pytest.MonkeyPatch):
    one, three = (
        traced(KINDS[name], layers, checkpointing=False, monkeypatch=monkeypatch)[0] for layers in (1, 3)
    )
    shape = Shape.of({"num_hidden_layers": 3, "vocab_size": 128} | KINDS[name])
    assert (three - one) / 2 == pytest.approx(layer_kept(shape, 2), abs=1)


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "computed again"])
@pytest.mark.parametrize("name", KINDS)
def test_the_peak_is_within_a_tenth(name: str, checkpointing: bool, monkeypatch: pytest.MonkeyPatch):
    _, peak = traced(KINDS[name], 4, checkpointing=checkpointing, monkeypatch=monkeypatch)
    config = {"vocab_size": 128} | KINDS[name] | {"num_hidden_layers": 4}
    asked = job(TOKENS, config=config, gradient_checkpointing=checkpointing)
    counted = waiting(asked) + ends_kept(asked.shape) + max(layer_phase(asked), final_norm(asked.shape, 2))
    assert counted == pytest.approx(peak, rel=0.1)
