"""Packs in plain transformers: a Trainer runs on them, no document sees another, and the loss is ours."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments
from world.packs import read_step
from world.trainer_example import EXAMPLE

from ropewalk.data import DataError, DataSpec, Pack, PackDataset, Plan, prepare
from ropewalk.rope import install, make_scheme
from ropewalk.train import Layout
from ropewalk.train.attention.grouped import GroupedAttention
from ropewalk.train.attention.pairs import sdpa
from ropewalk.train.batch import Batches
from ropewalk.train.loss import TokenLoss
from ropewalk.train.model import for_training

LENGTH = 512


@pytest.fixture(scope="module")
def model_folder(tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=512,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=LENGTH,
    )
    folder = tmp_path_factory.mktemp("model")
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def plan_folder(tokenizer: Path, text: Path, folder: Path, **source: Any) -> Path:
    code = {"kind": "files", "paths": [str(text)], "weight": 1.0} | source
    spec = DataSpec.model_validate({"tokens": 12_000, "holdout": 0, "sources": {"code": code}})
    made = prepare(spec, tokenizer_path=tokenizer, length=LENGTH, reach=1024, folder=folder)
    return Path(made.folder)


@pytest.fixture(scope="module", params=["document", "pack"])
def packs(
    request: pytest.FixtureRequest, tokenizer: Path, text: Path, tmp_path_factory: pytest.TempPathFactory
) -> PackDataset:
    return PackDataset(plan_folder(tokenizer, text, tmp_path_factory.mktemp("store"), groups=request.param))


@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true but no accelerator:UserWarning")
def test_the_example_trains(packs: PackDataset, model_folder: Path, tmp_path: Path):
    code = EXAMPLE.replace("PLAN_FOLDER", str(packs.plan.folder)).replace("MODEL_FOLDER", str(model_folder))
    code = code.replace("runs/trainer", str(tmp_path))
    found: dict[str, Any] = {}
    exec(compile(code, "example.py", "exec"), found)
    assert found["trainer"].state.global_step == 2
    before, after = (AutoModelForCausalLM.from_pretrained(model_folder), found["model"])
    assert not torch.equal(before.lm_head.weight, after.lm_head.weight.cpu())


def packed(packs: PackDataset) -> int:
    """Find a pack of several documents."""
    return next(i for i in range(len(packs)) if len(packs.plan[i].segments) > 2)


def test_items_are_the_packs(packs: PackDataset):
    for index in range(len(packs)):
        item, pack = packs[index], packs.plan[index]
        assert item["input_ids"].tolist() == pack.tokens.tolist()
        assert item["position_ids"].tolist() == pack.positions.tolist()
        assert item["labels"].tolist() == [-100, *pack.labels[:-1]]
        counted = item["labels"] != -100
        assert (item["labels"][counted] == item["input_ids"][counted]).all()
        assert counted.sum() == packs.plan.trained_tokens(index)
    assert packs[-1]["input_ids"].tolist() == packs[len(packs) - 1]["input_ids"].tolist()
    with pytest.raises(IndexError):
        packs[len(packs)]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_change_in_one_group_changes_no_logit_of_another(
    packs: PackDataset, model_folder: Path, attention: str
):
    model = AutoModelForCausalLM.from_pretrained(model_folder, attn_implementation=attention)
    index = packed(packs)
    item = {name: torch.tensor(values)[None] for name, values in packs[index].items() if name != "labels"}
    first, second, *_ = packs.plan[index].segments
    changed = item["input_ids"].clone()
    changed[0, : first.length] = (changed[0, : first.length] + 1) % 512
    with torch.no_grad():
        before = model(**item, use_cache=False).logits[0]
        after = model(**item | {"input_ids": changed}, use_cache=False).logits[0]
    different = (before != after).any(-1)
    assert different[: first.length].all()
    alone = len(packs.plan.groups(index)) > 2
    assert different[first.length : first.length + second.length].any() != alone
    stop = packs.plan.groups(index)[0][1]
    assert not different[stop:].any()


def test_the_loss_is_ours(packs: PackDataset, model_folder: Path, tmp_path: Path):
    """One batch of four packs: a Trainer's loss is that of our step, and of each group by itself."""
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    settings = TrainingArguments(str(tmp_path), per_device_train_batch_size=4, report_to=[])
    trainer = Trainer(model, settings, train_dataset=packs)  # type: ignore[arg-type]
    batch = trainer.data_collator([packs[row] for row in range(4)])
    labels = int((batch["labels"] != -100).sum())
    assert labels == sum(packs.plan.trained_tokens(row) for row in range(4))
    with torch.no_grad():
        loss: Any = trainer.compute_loss(model, batch, num_items_in_batch=torch.tensor(labels))
        theirs = float(loss)
        one_by_one = sum(loss_of_groups(model, packs.plan[row]) for row in range(4)) / labels
        ours = loss_of_step(model_folder, packs.plan) / labels
    assert theirs == pytest.approx(one_by_one, abs=1e-5)
    assert theirs == pytest.approx(ours, abs=1e-5)


def loss_of_groups(model: torch.nn.Module, pack: Pack) -> float:
    """Sum the losses of a pack whose groups are forwarded one at a time."""
    total = 0.0
    for start, stop in pack.groups:
        logits = model(torch.tensor(pack.tokens[start:stop])[None], use_cache=False).logits[0]
        wanted = torch.tensor(pack.labels[start:stop])
        total += float(cross_entropy(logits, wanted, ignore_index=-100, reduction="sum"))
    return total


def loss_of_step(model_folder: Path, plan: Plan) -> float:
    """Sum the losses of the first four packs as our training does."""
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    installed = install(model, make_scheme("default"), target_length=LENGTH)
    module = TokenLoss(for_training(installed, gradient_checkpointing=False), chunk=100)
    batches = Batches(plan=plan, layout=Layout(), packs_per_step=4, micro_batch=2)
    total = 0.0
    for part in read_step(batches, 0, 0):
        attend = GroupedAttention(groups=part.groups, kernel=sdpa)
        total += float(module(part.tokens, part.positions, part.lengths, part.labels, attend))
    return total


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ({"positions": "skip"}, "skip with groups: document"),
        ({"positions": "continuous"}, "continuous with groups: document"),
        ({"positions": "skip", "groups": "pack"}, "skip with groups: pack"),
    ],
)
def test_bad_input(tokenizer: Path, text: Path, tmp_path: Path, source: dict[str, Any], value: str):
    folder = plan_folder(tokenizer, text, tmp_path, **source)
    with pytest.raises(DataError, match=value) as caught:
        PackDataset(folder)
    assert str(caught.value).startswith("data.sources.code.positions: ")
    assert "leave positions out" in str(caught.value)


@pytest.mark.parametrize("positions", ["reset", None])
def test_a_pack_that_is_one_group_may_say_so(tokenizer: Path, text: Path, tmp_path: Path, positions: Any):
    folder = plan_folder(tokenizer, text, tmp_path, groups="pack", positions=positions)
    packs = PackDataset(folder)
    full = next(index for index in range(len(packs)) if packs.plan.groups(index) == [(0, LENGTH)])
    assert np.array_equal(packs[full]["position_ids"], np.arange(LENGTH))
