"""Each stage arranges its own ranks, and leaves nothing of itself in memory."""

import gc
import json
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close
from world.packs import MemoryPlan
from world.training import recipe

from ropewalk.recipes.language.schema import stages
from ropewalk.train import loop, parity
from ropewalk.train.engine import make_engine
from ropewalk.train.layout import Layout
from ropewalk.train.mesh import Mesh, join_world
from ropewalk.train.progress import latest_checkpoint
from ropewalk.train.state import master_tensors


class Watch:
    """What is alive of engines made before, by name, and bytes of all tensors: before each and at the end."""

    def __init__(self) -> None:
        self.held: list[tuple[str, weakref.ref[Any]]] = []
        self.alive: list[list[str]] = []
        self.bytes: list[int] = []

    def look(self) -> None:
        gc.collect()
        self.alive.append([name for name, one in self.held if one() is not None])
        self.bytes.append(live_bytes())

    def make_engine(self, module: Any, *settings: Any, **more: Any) -> Any:
        self.look()
        engine = make_engine(module, *settings, **more)
        flat = {f"master {number}": tensor for number, tensor in enumerate(master_tensors(engine))}
        parts = {"module": module, "engine": engine, "optimizer": engine.optimizer}
        for name, one in {**parts, **flat, **dict(module.named_parameters())}.items():
            self.held.append((name, weakref.ref(one)))
        return engine


def live_bytes() -> int:
    """Count the storages of all tensors that Python knows once each."""
    tensors = [one for one in gc.get_objects() if issubclass(type(one), torch.Tensor)]
    storages = [one.untyped_storage() for one in tensors if one.layout == torch.strided]
    return sum({one.data_ptr(): one.nbytes() for one in storages}.values())


def run_stages(run_dir: str, tokenizer: str, differences: list[dict[str, Any]], **train: Any) -> Watch:
    """Train stages of two steps, watched from before the first; the checks of a layout are watched too."""
    join_world()
    watch = Watch()
    whole = recipe(run_dir, tokenizer, steps=2, **train)
    staged = [one.stage for one in stages(whole.model_copy(update={"stages": differences}))]
    plans: Any = [MemoryPlan()] * len(staged)
    Path(run_dir).mkdir(exist_ok=True)
    watch.look()
    with pytest.MonkeyPatch.context() as patch:
        for maker in (loop, parity):
            patch.setattr(maker, "make_engine", watch.make_engine)
        loop.train(staged, plans, Mesh.of_world(), Path(run_dir), loop.Callbacks())
    watch.look()
    return watch


@pytest.mark.parametrize(
    "train",
    [
        {"zero_stage": 1},
        {"zero_stage": 3, "chunk": 32, "store": "host", "parity_check": True},
        *(pytest.param({"zero_stage": stage}, marks=pytest.mark.slow) for stage in (0, 2, 3)),
        *(
            pytest.param({"zero_stage": stage, "dtype": "bfloat16"}, marks=pytest.mark.slow)
            for stage in (1, 3)
        ),
    ],
    ids=lambda train: "-".join(map(str, train.values())),
)
def test_a_finished_stage_leaves_memory(
    ranks: Any, straight: Any, tmp_path: Path, train: dict[str, Any]
) -> None:
    [(alive, held)] = ranks(1, timeout=240)(staged_at, str(tmp_path / "run"), straight[1], train)
    checks = int("chunk" in train)  # a layout is held against one rank before its first stage
    assert alive == [[]] * (checks + 5)
    before, (first, second, third, after) = held[0], held[checks + 1 :]
    assert first == second == third
    assert after == before


def staged_at(run_dir: str, tokenizer: str, train: dict[str, Any]) -> tuple[list[list[str]], list[int]]:
    watch = run_stages(run_dir, tokenizer, [{}, {}, {}], **train)
    return watch.alive, watch.bytes


def staged_with(run_dir: str, tokenizer: str, second: int) -> None:
    run_stages(run_dir, tokenizer, [{}, {"train": {"sequence": second}}])


def test_stages_of_other_degrees_train_as_one_layout_does(ranks: Any, straight: Any, tmp_path: Path) -> None:
    for name, second in (("same", 1), ("other", 2)):
        ranks(2, timeout=240)(staged_with, str(tmp_path / name), straight[1], second)
    same, other = tmp_path / "same", tmp_path / "other"
    losses = [
        [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]
        for run in (same, other)
    ]
    assert len(losses[0]) == 4
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    wanted, found = moments(same), moments(other)
    assert wanted.keys() == found.keys()
    for key, tensor in wanted.items():
        assert_close(found[key], tensor, rtol=1e-3, atol=1e-6)


def moments(run_dir: Path) -> dict[str, Any]:
    """Read the mean gradients of the last checkpoint."""
    files = (latest_checkpoint(run_dir) or run_dir).glob("optimizer/*.safetensors")
    states = {key: tensor for file in files for key, tensor in load_file(file).items()}
    return {key: tensor for key, tensor in states.items() if key.endswith("exp_avg")}


def arranged_twice() -> list[Any]:
    """Arrange a world of four as 2, 4 and 2 ranks a pack; name the groups made by then, and my sizes."""
    join_world()
    world = Mesh.of_world()
    two = world.arranged(Layout(world=4, heads=2))
    made = [set(world.made)]
    four = two.arranged(Layout(world=4, heads=2, gather=2))
    made.append(set(world.made))
    assert four.heads_group is two.heads_group is world.arranged(Layout(world=4, heads=2)).heads_group
    assert world.heads_group is two.gather_group is None
    return [
        *made,
        set(world.made),
        [group and group.size() for group in (four.gather_group, four.sequence_group)],
    ]


def test_groups_are_made_once_and_only_where_needed(ranks: Any) -> None:
    for first, second, last, sizes in ranks(4)(arranged_twice):
        assert first == {(0, 1), (2, 3)}
        assert second == last == first | {(0, 2), (1, 3), (0, 1, 2, 3)}
        assert sizes == [2, 4]


class Unlabelled(MemoryPlan):
    """Packs of which those of the second step have no labels."""

    def trained_tokens(self, index: int) -> int:
        return 0 if index // 8 == 1 else super().trained_tokens(index)


def test_a_step_without_labels_is_refused_before_the_first(straight: Any) -> None:
    wanted = recipe("run", straight[1])
    with pytest.raises(loop.TrainError, match=r"train\.batch_tokens: .* in step 1, .*raise"):
        loop.make_batches(wanted.stage, Unlabelled(), Mesh.alone())  # type: ignore[arg-type]
