"""Every scheme on every kind of layer gives the same numbers however a pack is spread over ranks."""

import copy
from typing import Any

import pytest
import torch
import torch.distributed as dist
from transformers import AutoModelForCausalLM, Gemma3TextConfig, LlamaConfig, Phi3Config
from world.packs import VOCABULARY, MemoryPlan, read_step
from world.slow import example

from ropewalk.rope import SCHEMES, install, make_scheme
from ropewalk.train.attention.grouped import GroupedAttention
from ropewalk.train.attention.pairs import sdpa
from ropewalk.train.batch import Batches
from ropewalk.train.loss import TokenLoss
from ropewalk.train.mesh import Mesh
from ropewalk.train.model import check_same_frequencies, for_training

SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
SHAPE |= {
    "num_key_value_heads": 2,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
}
KINDS: dict[str, Any] = {
    "llama": LlamaConfig(**SHAPE),
    "phi3": Phi3Config(**SHAPE | {"partial_rotary_factor": 0.75, "original_max_position_embeddings": 32}),
    "gemma3": Gemma3TextConfig(
        **SHAPE,
        head_dim=16,
        sliding_window=12,
        layer_types=["sliding_attention", "full_attention"],
    ),
}

ERROR = {"llama": 1e-10, "phi3": 1e-10, "gemma3": 1e-6}
"what may differ: Phi-3 and Llama compute in float64, Gemma's norms in float32 whatever they are given"


def gradients(kind: str, names: list[str], sequence: int) -> dict[str, tuple[float, dict[str, torch.Tensor]]]:
    """Return each scheme's loss and gradients over two packs, on this rank's spans, added over the world."""
    world = dist.get_world_size() if dist.is_initialized() else 1
    mesh = Mesh.of_world(heads=sequence) if world > 1 else Mesh.alone()
    batches = Batches(plan=MemoryPlan(), layout=mesh.layout, packs_per_step=2, micro_batch=2)  # type: ignore[arg-type]
    found = {}
    for name in names:
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(copy.deepcopy(KINDS[kind]))
        knobs = example(name, 6 if kind == "phi3" else 8)
        install(model, make_scheme(name, **knobs), target_length=128)
        check_same_frequencies(model, mesh)
        module = TokenLoss(for_training(model.double(), gradient_checkpointing=True), chunk=24)
        loss = torch.zeros(())
        for batch in read_step(batches, 0, mesh.rank):
            attend = GroupedAttention(groups=batch.groups, kernel=sdpa, mesh=mesh)
            loss = module(batch.tokens, batch.positions, batch.lengths, batch.labels, attend)
            loss.backward()
        grads = {path: p.grad for path, p in module.named_parameters() if p.grad is not None}
        if world > 1:
            for grad in grads.values():
                dist.all_reduce(grad)
        found[name] = (mesh.sum([float(loss.detach())])[0], grads)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_float64_gradients_do_not_depend_on_the_layout(ranks: Any, kind: str) -> None:
    names = sorted(SCHEMES)
    wanted = gradients(kind, names, 1)
    losses = {round(loss, 9) for loss, _ in wanted.values()}
    assert len(losses) == len(names), "schemes that give the same loss would test nothing"
    for found in ranks(2)(gradients, kind, names, 2):
        for name, (loss, grads) in wanted.items():
            assert found[name][0] == pytest.approx(loss, rel=ERROR[kind]), name
            for path, grad in grads.items():
                torch.testing.assert_close(found[name][1][path], grad, rtol=ERROR[kind], atol=ERROR[kind])


def differ() -> str:
    """Install another theta on the second rank."""
    mesh = Mesh.of_world()
    model = AutoModelForCausalLM.from_config(KINDS["llama"])
    install(model, make_scheme("abf", theta=2e4 + mesh.rank), target_length=128)
    try:
        check_same_frequencies(model, mesh)
    except ValueError as error:
        return str(error)
    return ""


def test_ranks_that_would_turn_differently_are_refused(ranks: Any) -> None:
    for told in ranks(2)(differ):
        assert told.startswith("rope: every rank must turn q and k alike, got rank 1 ")
        assert "same model folder" in told


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_forward_is_transformers_own(kind: str) -> None:
    torch.manual_seed(0)
    stock = AutoModelForCausalLM.from_config(copy.deepcopy(KINDS[kind])).double()
    tokens = torch.randint(1, VOCABULARY, (1, 31))
    inputs, labels = tokens[:, :-1], tokens[:, 1:]
    logits = stock(inputs, use_cache=False).logits
    wanted = torch.nn.functional.cross_entropy(logits[0].double(), labels[0], reduction="sum")
    places = torch.arange(30)[None]
    attend = GroupedAttention(groups=[[(0, 30)]], kernel=sdpa)
    ours = TokenLoss(for_training(install(copy.deepcopy(stock)), gradient_checkpointing=False), chunk=8)
    found = ours(inputs, places, torch.full_like(places, 30), labels, attend)
    # Transformers takes angles in float32.
    assert float(found.detach()) == pytest.approx(float(wanted.detach()), rel=1e-6)
