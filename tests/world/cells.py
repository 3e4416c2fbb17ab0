"""A cell of the covering array: a model trained in one layout, and the same by plain torch on one rank.

The plain way knows none of what is tested: whole packs, attention written out, whole logits, autograd in
float64 and torch's AdamW.
"""

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import AutoConfig, AutoModelForCausalLM
from world.attention import written_out
from world.packs import VOCABULARY, PacksOf

from ropewalk.rope import install, make_scheme
from ropewalk.train import Layout
from ropewalk.train.attention.grouped import GroupedAttention
from ropewalk.train.attention.pairs import Given, Keyed, Pair, sdpa
from ropewalk.train.batch import Batches
from ropewalk.train.engine import (
    accumulate,
    full_gradients,
    gradient_norm,
    make_engine,
    named_parameters,
    parameter_groups,
    planned_visits,
    take_step,
)
from ropewalk.train.loss import TokenLoss, hidden_states
from ropewalk.train.mesh import Mesh, in_world
from ropewalk.train.model import for_training
from ropewalk.train.release import release
from ropewalk.train.settings import OptimizerSection, TrainSection
from ropewalk.train.state import seed_states
from ropewalk.train.streaming import Streaming, Visit

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


@dataclass
class Counted:
    """SDPA that counts the tiles it is given; and what the store and its visits came to."""

    forward: int = 0
    backward: int = 0
    wanted: Counter[str] = field(default_factory=Counter)

    def kernel(self) -> Pair:
        return Pair("sdpa", self._forward, self._backward)

    def _forward(self, tiles: Sequence[Keyed], causal: bool, scale: float) -> list[tuple[Tensor, Tensor]]:
        self.forward += len(tiles)
        return sdpa.forward(tiles, causal, scale)

    def _backward(
        self, given: Sequence[Given], tiles: Sequence[Keyed], causal: bool, scale: float
    ) -> list[Keyed]:
        self.backward += len(tiles)
        return sdpa.backward(given, tiles, causal, scale)

    def expect(self, way: Way, streaming: Streaming, visits: Sequence[tuple[Any, Visit]]) -> None:
        """Count what visits must cost: how often each runs attention forward and backward."""
        first = [visit.chunk for _, visit in visits if visit.first_pass]
        for groups, visit in visits:
            reaches = [
                streaming.attention(groups, visit).reach(window)
                for window in WINDOWS.get(way.model, [None, None])
            ]
            tiles = sum(len(one.squares) + sum(len(b.tiles) for b in one.blocks) for one in reaches)
            if visit.first_pass:
                again = 1
            elif streaming.store is None:
                again = 2 if way.checkpointing and not way.keep else 1
            else:
                again = 0 if way.keep and visit.chunk in first else 1
            self.wanted["forward"] += again * tiles
            self.wanted["backward"] += 0 if visit.first_pass else tiles
            self.wanted["first passes"] += visit.first_pass


@dataclass
class Found:
    """What one rank found in a cell."""

    exact_loss: float
    exact: dict[str, Tensor]
    losses: list[float]
    norms: list[float]
    gradients: dict[str, Tensor]
    weights: dict[str, Tensor]
    counted: Counted
    written: int
    """Bytes that went into the store."""
    on_host: int
    """Bytes of host memory that the store took."""
    left: int
    """Bytes in the store at the end."""


def run(way: Way) -> Found:
    """Run a cell on this rank: our modules in float64, and three steps of the engine."""
    mesh = Mesh.of_world(heads=way.heads, gather=way.gather)
    loss, exact = in_float64(way, mesh)
    counted = Counted()
    streaming = Streaming.of(way.settings, mesh, counted.kernel())
    losses, norms, gradients, weights = three_steps(way, streaming, counted)
    store = streaming.store
    return Found(
        loss,
        exact,
        losses,
        norms,
        gradients,
        weights,
        counted=Counted(counted.forward, counted.backward, counted.wanted),
        written=store.moved.written if store else 0,
        on_host=sum(map(len, store.host.slabs)) if store else 0,
        left=store.bytes if store else 0,
    )


def run_here(way: Way) -> list[Found]:
    """Run a cell of one rank in this process."""
    with in_world(), warnings.catch_warnings(action="ignore"):  # of what DeepSpeed calls, as in a pool
        return [run(way)]


def in_float64(way: Way, mesh: Mesh) -> tuple[float, dict[str, Tensor]]:
    """Sum loss and gradients of a step's packs over the world, without the engine."""
    streaming = Streaming.of(way.settings, mesh, sdpa)
    batches = way.batches(mesh.layout)
    model = for_training(model_of(way, torch.float64), gradient_checkpointing=way.checkpointing)
    module = TokenLoss(model, chunk=24)
    total = 0.0
    for packs, visit in planned_visits(batches, 0, streaming):
        batch = batches.read(packs, streaming.spans(visit), mesh.device)
        attend = streaming.attention(batch.groups, visit)
        labels = None if visit.first_pass else batch.labels
        with torch.set_grad_enabled(not visit.first_pass):
            loss = module(batch.tokens, batch.positions, batch.lengths, labels, attend)
        if not visit.first_pass:
            loss.backward()
            total += float(loss.detach())
            streaming.leave(visit)
    found = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    if mesh.layout.world > 1:
        for grad in found.values():
            dist.all_reduce(grad)
    return mesh.sum([total])[0], found


def three_steps(
    way: Way, streaming: Streaming, counted: Counted
) -> tuple[list[float], list[float], dict[str, Tensor], dict[str, Tensor]]:
    """Return losses and norms of three steps, the gradients of the first and the weights after the last."""
    batches = way.batches(streaming.mesh.layout)
    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[way.dtype]
    model = for_training(model_of(way, dtype), gradient_checkpointing=way.checkpointing)
    engine = make_engine(TokenLoss(model, chunk=24), way.settings, accumulation=batches.accumulation)
    seed_states(engine, 0)
    from deepspeed.utils import safe_get_full_fp32_param  # after its first import

    losses, norms, gradients = [], [], {}
    for step in range(STEPS):
        visits = [(batches.groups(p), visit) for p, visit in planned_visits(batches, step, streaming)]
        counted.expect(way, streaming, visits)
        losses.append(accumulate(engine, batches, step, streaming))
        if step == 0:
            gradients = {name: gradient.clone() for name, gradient in full_gradients(engine)}
        norms.append(gradient_norm(engine, streaming.mesh))
        take_step(engine)
    weights = {
        n: copied(p.data if way.stage == 0 else safe_get_full_fp32_param(p))
        for n, p in named_parameters(engine)
    }
    release(engine)
    return losses, norms, gradients, weights


def copied(tensor: Tensor | None) -> Tensor:
    assert tensor is not None
    return tensor.detach().float().cpu().clone()


@dataclass
class Plain:
    """What plain torch finds: loss sum and gradients of the first step, losses and weights of three."""

    loss: float
    gradients: dict[str, Tensor]
    tokens: int
    losses: list[float]
    norms: list[float]
    weights: dict[str, Tensor]


def plain(way: Way) -> Plain:
    """Train as a cell does, by plain torch; once for all cells of a model and a kind of packs."""
    return _plain(way.model, way.kv_heads, way.packs, way.dtype)


@cache
def _plain(model: str, kv_heads: int, packs: str, dtype: str) -> Plain:
    way = Way(model=model, heads=kv_heads, kv="equal", packs=packs)
    module = model_of(way, torch.bfloat16 if dtype == "bfloat16" else torch.float32)
    exact = model_of(way, torch.float64)
    exact.load_state_dict(module.state_dict())
    settings = way.settings
    groups = parameter_groups(exact, settings)
    optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=settings.optimizer.betas, eps=1e-4)
    batches = way.batches(Layout())
    losses, norms, first = [], [], {}
    for step in range(STEPS):
        tokens = batches.trained_tokens(step)
        total = sum(whole_pack(exact, batches, pack) for pack in batches.packs(step))
        losses.append(float(total) / tokens)
        if step == 0:
            first = {n: p.grad.clone() for n, p in exact.named_parameters() if p.grad is not None}
        for parameter in exact.parameters():
            assert parameter.grad is not None
            parameter.grad /= tokens
        norms.append(float(nn.utils.clip_grad_norm_(exact.parameters(), settings.optimizer.clip)))
        optimizer.step()
        optimizer.zero_grad()
    weights = {n: p.detach().clone() for n, p in exact.named_parameters()}
    tokens = batches.trained_tokens(0)
    return Plain(losses[0] * tokens, first, tokens, losses, norms, weights)


def whole_pack(model: Any, batches: Batches, pack: int) -> float:
    """Run forward and backward of a whole pack; return its summed loss."""
    batch = batches.read([pack], [(0, LENGTH)], torch.device("cpu"))
    attend = GroupedAttention(groups=batch.groups, kernel=written_out)
    hidden = hidden_states(model, batch.tokens, batch.positions, batch.lengths, attend)
    logits = model.lm_head(hidden).flatten(0, 1)
    loss = cross_entropy(logits, batch.labels.flatten(), ignore_index=-100, reduction="sum")
    loss.backward()
    return float(loss.detach())


def differences(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> Iterator[tuple[float, str]]:
    """Yield each parameter's largest difference, as a part of its largest number."""
    assert found.keys() == wanted.keys()
    for name, exact in wanted.items():
        off = (found[name].double() - exact.double()).abs().max() / exact.double().abs().max()
        yield float(off), name
