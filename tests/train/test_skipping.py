"""A recipe that trains a long window in short packs: positions skip ahead, two ranks share a pack."""

import json
from pathlib import Path
from typing import Any

import torch
from world.packs import read_step
from world.small import recipe_of, write_world

from ropewalk.data import beyond, open_plan, prepare
from ropewalk.recipes.jobs.stores import near_problems
from ropewalk.recipes.language.schema import Recipe, parse, stages
from ropewalk.train.batch import Batches
from ropewalk.train.loop import Callbacks, train
from ropewalk.train.mesh import Mesh, join_world


def skipping(folder: Path) -> Recipe:
    values = recipe_of(folder)
    values["target_length"] = 512
    values["data"]["length"] = 128
    values["data"]["sources"]["text"] |= {"positions": "skip", "groups": "pack"}
    values["train"] |= {"steps": 2, "batch_tokens": 512}
    values["eval"] = {}
    return parse(values)


def run(folder: str, plan: str) -> list[int]:
    """Train on a rank; give the largest position it saw, and the packs of its first step."""
    join_world()
    recipe = skipping(Path(folder))
    mesh = Mesh.of_world(heads=recipe.train.sequence)
    run_dir = Path(recipe.run_dir)
    run_dir.mkdir(exist_ok=True)
    opened = open_plan(plan)
    assert not near_problems([recipe], [Path(plan)])
    batches = Batches(plan=opened, layout=mesh.layout, packs_per_step=4, micro_batch=1)
    seen = [part.positions for part in read_step(batches, 0, mesh.rank)]
    train([stage.stage for stage in stages(recipe)], [opened], mesh, run_dir, Callbacks())
    return [int(torch.stack(seen).max()), len(seen)]


def test_short_packs_train_the_long_window(ranks: Any, tmp_path: Path) -> None:
    write_world(tmp_path)
    recipe = skipping(tmp_path)
    made = prepare(
        recipe.data,
        tokenizer_path=recipe.model.tokenizer_folder,
        length=recipe.pack_length,
        reach=recipe.target_length,
        folder=tmp_path / "store",
        tokens=recipe.train.steps * recipe.train.batch_tokens,
    )
    plan = open_plan(made.folder)
    assert (plan.length, plan.reach, len(plan)) == (128, 512, 8)
    assert beyond(plan, 128) > 0.2
    first, second = ranks(2)(run, str(tmp_path), made.folder)
    assert first[1] == second[1] == 4
    assert 128 < second[0] < 512
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["tokens"] for line in lines] == [512, 1024]
