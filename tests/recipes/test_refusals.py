"""What a run would stop at is refused by `check`, dry runs and `prepare` before it, in the same words."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from world.command_line import Ended

from ropewalk.recipes.language.compose import load

Run = Callable[..., Ended]

MISTRAL = {"model_type": "mistral", "sliding_window": 100, "max_position_embeddings": 64, "head_dim": 8}
YARN = {"rope_parameters": {"rope_type": "yarn", "factor": 2.0, "rope_theta": 1e4,
                            "original_max_position_embeddings": 32}}  # fmt: skip
BAD = [
    ({}, ["train.schedule.warmup=10"], "train.schedule.warmup", "10"),
    ({}, ["target_length=64"], "target_length", "64"),
    ({}, ["train.batch_tokens=300"], "train.batch_tokens", "256 or 384"),
    ({}, ["train.sequence=3"], "train.sequence", "[1]"),
    ({}, ["train.seed=99999999999999999999"], "train.seed", "less than"),
    ({}, ["train.zero_stage=0", "train.dtype=bfloat16"], "train.zero_stage", "set 1"),
    ({}, ["model={}"], "model", "add path"),
    ({}, ["data.sources={}"], "data.sources", "add one"),
    ({}, ["data.closes=eoss"], "data.closes", "text:eoss"),
    ({}, ["data.engine=sentencepiece"], "model.tokenizer", "tokenizer.model"),
    ({}, ["data.holdout=0"], "data.holdout", "eval.tasks"),
    ({}, ["data.sources.text.document_length=256"], "data.sources.text.document_length", "lower it"),
    ({}, ["eval.tasks.loss.length=256"], "eval.tasks.loss", "128"),
    ({}, ["eval.tasks.far={kind: needles}"], "eval.tasks.far", "4096"),
    ({}, ['eval.tasks={"a/b": {kind: needles, lengths: [128]}}'], "eval.tasks", "'a/b'"),
    ({}, ["eval.tasks={}", "eval.every=2"], "eval.every", "add eval.tasks"),
    ({}, ['run_dir=""'], "run_dir", "name one"),
    ({}, ["run_dir=FILE"], "run_dir", "is a file"),
    ({}, ["run_dir=FILE/below"], "run_dir", "is a file"),
    ({}, ["data.store=FILE/below"], "data.store", "is a file"),
    ({}, ['data.store=""'], "data.store", "name one"),
    ({}, ["data.sources.text.paths=[]"], "data.sources.text.paths", "add one"),
    ({}, ["rope.factor=0.5"], "rope.factor", "greater"),
    ({}, ["rope.kind=linear", "original_length=256"], "rope", "128"),
    ({}, ["train={micro_batch: 1048576, batch_tokens: 134217728, kernel: flash}"], "train.kernel", "lower"),
    ({}, ["stages=[{train: {seed: 2}}, {model: {path: x}}]"], "stages[1].model", "remove"),
    ({}, ["eval.chunk=4096"], "eval.chunk", "leave it out"),
    ({}, ["train.store=disk"], "train.store", "device_layers"),
    ({}, ["train.store=host"], "train.store", "set train.chunk"),
    ({}, ["train.chunk=128"], "train.chunk", "leave it out"),
    ({"attention_dropout": 0.1}, [], "model.config.attention_dropout", "config.json"),
    ({"vocab_size": 200}, [], "model.tokenizer", "vocab_size of 200"),
    (MISTRAL, ["rope.kind=yarn"], "config.sliding_window", "null"),
    (YARN, ["rope.kind=linear"], "rope.kind", "rope.replace"),
    ({"partial_rotary_factor": 0.5}, [], "config.partial_rotary_factor", "must be 1"),
    ({"model_type": "gpt2"}, [], "model", "supported"),
    ({"quantization_config": {"quant_method": "gptq"}}, [], "model.path", "not quantised"),
    ({"intermediate_size": 7}, [], "model.path", "down_proj"),
]  # fmt: skip


@pytest.fixture
def model(made: Path, tmp_path: Path) -> Path:
    """A model of this test's own."""
    return Path(shutil.copytree(made / "model", tmp_path / "model"))


def reconfigure(model: Path, change: dict[str, Any]) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | change))


@pytest.mark.parametrize(("config", "overrides", "key", "word"), BAD, ids=lambda part: str(part)[:40])
def test_every_verb_refuses_alike(
    run: Run,
    recipe_file: Path,
    model: Path,
    config: dict[str, Any],
    overrides: list[str],
    key: str,
    word: str,
):
    reconfigure(model, config)
    own = [] if overrides == ["model={}"] else [f"model.path={model}"]
    asked = [recipe_file, *own, *(one.replace("FILE", str(recipe_file)) for one in overrides)]
    verbs = (["recipes", "check"], ["extend", "--dry-run"], ["prepare", "--dry-run"], ["prepare"], ["extend"])
    ended = [run(*verb, *asked) for verb in verbs]
    assert {one.exit_code for one in ended} == {2}, [one.output for one in ended]
    first, *others = [set(one.stderr.splitlines()) for one in ended]
    assert any(line.partition(": ")[2].startswith(key) and word in line for line in first), first
    assert all(first <= other for other in others), others
    assert not (recipe_file.parent / "run").exists()


def test_what_is_wrong_in_one_section_hides_nothing_of_the_others(run: Run, recipe_file: Path, model: Path):
    reconfigure(model, {"vocab_size": 200})
    wrong = ["trian=1", "rope.kind=yarm", "train.steps=4k", "data.sources.text.wieght=1", "target_length=64"]
    wrong += [f"model.path={model}", "eval.tasks.loss.length=256", f"run_dir={recipe_file}"]
    ended = run("recipes", "check", recipe_file, *wrong)
    keys = ["trian", "rope.kind", "train.steps", "data.sources.text.wieght", "target_length", "run_dir"]
    assert all(f"{recipe_file}: {key}: " in ended.stderr for key in keys), ended.stderr


def test_what_is_not_here_is_no_fault_of_the_recipe_but_not_ok(run: Run, recipe_file: Path, model: Path):
    (model / "model.safetensors").unlink()
    gone = ["data.sources.text.paths=[/gone/a, /gone/b]", f"model.path={model}"]
    told = run("recipes", "check", recipe_file, *gone)
    assert told.exit_code == 0, told.output
    assert all(word in told.stdout for word in ("/gone/a", "/gone/b", "weights", "run: ropewalk prepare"))
    assert told.stdout.count("not here yet: ") == 4
    assert not told.stdout.rstrip().endswith(": ok")
    preparing = run("prepare", recipe_file, *gone)
    assert (preparing.exit_code, preparing.stderr.count("/gone/")) == (2, 2)
    extending = run("extend", recipe_file, *gone)
    assert extending.exit_code == 2
    assert all(word in extending.stderr for word in ("/gone/a", "weights", "run: ropewalk prepare"))


PREPARED = [
    (["eval.tasks.loss.documents=999"], False, "eval.tasks.loss: ", "hold out more"),
    (["eval.tasks.loss={kind: needles, lengths: [20]}"], False, "eval.tasks.loss: ", "longer prompts"),
    (["trained_length=127"], True, "data: ", "train.accept_short_documents"),
]


@pytest.mark.parametrize(("overrides", "packed", "key", "word"), PREPARED, ids=lambda part: str(part)[:40])
def test_what_only_prepared_data_shows_is_said_by_prepare(
    run: Run, recipe_file: Path, overrides: list[str], packed: bool, key: str, word: str
):
    """What the held-out documents cannot give, before the others are packed."""
    prepared = run("prepare", recipe_file, "--workers", "1", *overrides)
    assert prepared.exit_code == 2, prepared.output
    assert packed == ("query-key pairs" in prepared.stdout)
    assert packed == (recipe_file.parent / "run/data/plans").is_dir()
    said = prepared.stderr.splitlines()[-1]
    assert said.startswith(f"{recipe_file}: {key}")
    assert word in said
    for verb in (["recipes", "check"], ["extend", "--dry-run"], ["prepare"], ["extend"]):
        assert said in run(*verb, recipe_file, *overrides).stderr.splitlines(), verb


def test_prepared_data_is_checked_without_the_tokenizer(run: Run, recipe_file: Path, tmp_path: Path):
    needles = "eval.tasks.loss={kind: needles, lengths: [128]}"
    assert run("prepare", recipe_file, "--workers", "1", needles).exit_code == 0
    told = run("recipes", "check", recipe_file, needles, f"model.tokenizer={tmp_path}/gone")
    assert (told.exception, told.exit_code) == (None, 0)
    assert "not here yet: model.tokenizer" in told.stdout


def test_too_few_held_out_documents_are_estimated_by_a_dry_run(
    run: Run, recipe_file: Path, monkeypatch: pytest.MonkeyPatch
):
    """Of the 40 documents of some 400 tokens 8 are held out."""
    for sample in (10**9, 40_000):  # all of the text, a part of it
        monkeypatch.setattr("ropewalk.data.sampling.SAMPLE", sample)
        monkeypatch.setattr("ropewalk.data.sampling.LEAST", 0)
        monkeypatch.setattr("ropewalk.data.sampling.OVER", 1)
        for documents, warned in ((4, False), (30, True)):
            told = run("prepare", recipe_file, "--dry-run", f"eval.tasks.loss.documents={documents}")
            assert told.exit_code == 0, told.output
            assert (" all " in told.stdout) == (sample == 10**9)
            warnings = [line for line in told.stdout.splitlines() if line.startswith("warning, estimated")]
            assert len(warnings) == warned, (sample, documents)
            assert all("eval.tasks.loss" in line and "hold out more" in line for line in warnings)


def test_a_corpus_with_other_held_out_documents_is_another(run: Run, recipe_file: Path):
    assert run("prepare", recipe_file, "--workers", "1").exit_code == 0
    told = run("extend", recipe_file, "data.holdout=0.3")
    assert told.exit_code == 2
    assert "data.holdout was 0.2, not 0.3; delete" in told.stderr


def test_a_run_directory_of_another_recipe_is_refused(run: Run, recipe_file: Path, tmp_path: Path):
    folder = tmp_path / "run" / "checkpoints" / "step-000002"
    folder.mkdir(parents=True)
    (tmp_path / "run" / "latest").write_text(folder.name)
    numbers = load(recipe_file).stage.numbers
    told = {"recipe": "another", "numbers": {**numbers, "target_length": 256}}
    told["rope"] = {"scheme": "yarn", "knobs": {}, "theta": 1e4, "fingerprint": "0"}
    told["rope"] |= {"original_length": 64, "target_length": 128}
    for stage, word in ((0, "target_length: 128, not 256"), (1, "at least 2")):
        kept = {"format": 1, "progress": {"step": 2, "stage": stage, "stage_step": 2, "tokens": 1024}, **told}
        (folder / "ropewalk.json").write_text(json.dumps(kept))
        for verb in (["recipes", "check"], ["extend", "--dry-run"], ["prepare"]):
            ended = run(*verb, recipe_file)
            assert ended.exit_code == 2, ended.output
            assert word in ended.stderr
            assert "another run_dir" in ended.stderr
    (folder / "ropewalk.json").write_text("{")
    assert "must be JSON" in run("recipes", "check", recipe_file).stderr


def test_a_place_that_only_the_system_refuses_is_named(run: Run, recipe_file: Path):
    ended = run("prepare", recipe_file, "run_dir=/proc/nothing-is-made-here")
    assert (ended.exit_code, ended.exception) == (2, None)
    assert "/proc/nothing-is-made-here" in ended.stderr
    assert "check it" in ended.stderr


def test_tasks_inside_the_trained_window_are_pointed_at(run: Run, recipe_file: Path):
    near = run("recipes", "check", recipe_file, "eval.tasks.near={kind: needles, lengths: [48, 64]}")
    told = " ".join(near.stdout.split())
    assert near.exit_code == 0
    assert "warning eval.tasks.near reads at most 64 tokens, inside the trained window of 64" in told
    assert "eval.tasks.loss" not in told


def test_a_process_alone_is_given_the_line_that_starts_enough(run: Run, recipe_file: Path):
    alone = run("extend", recipe_file, "train.sequence=2", "run_dir=a b", "train.schedule.warmup=9")
    assert alone.exit_code == 2
    launch = "torchrun --nproc-per-node 2 -m ropewalk.recipes.extend"
    assert (
        f"run: {launch} {recipe_file} train.sequence=2 'run_dir=a b' train.schedule.warmup=9" in alone.stderr
    )
    assert "train.schedule.warmup: " in alone.stderr
    assert "[1]" not in alone.stderr
    several = run("evaluate", "gone", "--recipe", recipe_file, "--scheme", "yarn,factor=4", "eval.sequence=2")
    assert "--nproc-per-node 2 -m ropewalk.recipes.evaluate gone --recipe" in several.stderr
    assert "--scheme 'yarn,factor=4," in several.stderr


def test_a_place_without_rights_is_refused(recipe_file: Path, tmp_path: Path):
    """As a user who may not write there; root may everywhere."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    code = (
        "import os, sys; from ropewalk.train.storage import place_problems\n"
        "os.geteuid() or os.setuid(65534)\n"
        "print(*place_problems('run_dir', sys.argv[1]))"
    )
    command = [sys.executable, "-c", code, str(closed / "run")]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    assert "run_dir: must be writable" in done.stdout, done.stderr
