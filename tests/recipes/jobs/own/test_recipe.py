"""A recipe of one's own checks, whatever the model, the window and the GPUs; what none can do is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from world.command_line import Ended
from world.small import write_text

from ropewalk.recipes.jobs.extension import commands_for_others
from ropewalk.recipes.jobs.own.published import RECIPES, nearest
from ropewalk.recipes.language.compose import load

Run = Callable[..., Ended]
LLAMA = {"model_type": "llama", "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_size": 4096}
LLAMA |= {"num_hidden_layers": 32, "intermediate_size": 14336, "vocab_size": 128256, "rope_theta": 5e5}
GROWN = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
GROWN |= {"original_max_position_embeddings": 8192}
MODELS: dict[str, dict[str, Any]] = {
    "llama-3-8b": LLAMA | {"max_position_embeddings": 8192},
    "llama-3.1-8b": LLAMA | {"max_position_embeddings": 131072, "rope_scaling": GROWN},
    "llama-3-70b": LLAMA
    | {"max_position_embeddings": 8192, "num_attention_heads": 64, "hidden_size": 8192}
    | {"num_hidden_layers": 80, "intermediate_size": 28672},
    "mistral-7b": LLAMA
    | {"model_type": "mistral", "max_position_embeddings": 32768, "rope_theta": 1e6, "vocab_size": 32768}
    | {"sliding_window": None},
    "qwen2.5-7b": LLAMA
    | {"model_type": "qwen2", "num_attention_heads": 28, "num_key_value_heads": 4, "hidden_size": 3584}
    | {"num_hidden_layers": 28, "intermediate_size": 18944, "vocab_size": 152064, "rope_theta": 1e6}
    | {"max_position_embeddings": 32768, "use_sliding_window": False},
    "qwen2.5-0.5b": LLAMA
    | {"model_type": "qwen2", "num_attention_heads": 14, "num_key_value_heads": 2, "hidden_size": 896}
    | {"num_hidden_layers": 24, "intermediate_size": 4864, "vocab_size": 151936, "rope_theta": 1e6}
    | {"max_position_embeddings": 32768, "use_sliding_window": False, "tie_word_embeddings": True},
    "qwen3-8b": LLAMA
    | {"model_type": "qwen3", "num_hidden_layers": 36, "head_dim": 128, "vocab_size": 151936}
    | {"max_position_embeddings": 40960, "rope_theta": 1e6, "intermediate_size": 12288},
    "phi-3-mini-4k": LLAMA
    | {"model_type": "phi3", "num_key_value_heads": 32, "hidden_size": 3072, "intermediate_size": 8192}
    | {"max_position_embeddings": 4096, "original_max_position_embeddings": 4096, "vocab_size": 32064}
    | {"rope_theta": 1e4, "sliding_window": None},
    "gemma-3-1b": LLAMA
    | {"model_type": "gemma3_text", "num_attention_heads": 4, "num_key_value_heads": 1, "hidden_size": 1152}
    | {"num_hidden_layers": 26, "intermediate_size": 6912, "head_dim": 256, "vocab_size": 262144}
    | {"max_position_embeddings": 32768, "rope_theta": 1e6, "rope_local_base_freq": 1e4}
    | {"sliding_window": 512},
}
"""The heads, sizes and windows of the published configs."""


@pytest.fixture
def model(made: Path, tmp_path: Path) -> Callable[[dict[str, Any]], Path]:
    """Write a folder with this config and a tokenizer; a recipe reads no weights."""

    def write(config: dict[str, Any]) -> Path:
        folder = shutil.copytree(made / "model", tmp_path / "model", ignore=lambda *_: ["model.safetensors"])
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    return write


@pytest.mark.parametrize("gpus", [1, 6, 8, 64])
@pytest.mark.parametrize("name", MODELS)
def test_it_checks_for_every_family_and_number_of_gpus(
    run: Run, model: Any, tmp_path: Path, name: str, gpus: int
) -> None:
    folder, trained = model(MODELS[name]), MODELS[name]["max_position_embeddings"]
    target = 2 * trained
    made = run("recipes", "new", "--model", folder, "--to", target, "--gpus", gpus)
    assert (made.exit_code, made.stderr) == (0, ""), made.output
    file = tmp_path / "mine.yaml"
    file.write_text(made.stdout)
    for command in (["recipes", "check", file], ["extend", file, "--dry-run"]):
        assert run(*command, "--world", gpus).exit_code == 0, run(*command, "--world", gpus).output
    recipe = load(file)
    train, tasks = recipe.train, recipe.tasks
    assert (train.dtype, recipe.target_length) == ("bfloat16", target)
    assert train.learning_rate in {run.learning_rate for run in RECIPES}
    assert train.batch_tokens % (target * gpus // train.sequence) == 0
    assert 0 < train.schedule.warmup < train.steps / 5
    assert tasks["position-loss"].length == max(tasks["needles"].lengths) == target  # type: ignore[attr-defined]
    assert min(tasks["needles"].lengths) == tasks["context-gain"].window == trained  # type: ignore[attr-defined]
    assert recipe.data.sources["text"].long.at_least > trained  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "to", "gpus", "sequence", "kind", "source"),
    [
        ("llama-3-8b", 65536, 8, 8, "abf", "ProLong's 64K"),
        ("llama-3-8b", 524288, 64, 8, "abf", "ProLong's 512K"),
        ("llama-3.1-8b", 1 << 20, 8, 8, "yarn", "ProLong's 512K"),
        ("llama-3.1-8b", 1 << 22, 64, 16, "yarn", "UltraLong"),
        ("llama-3-70b", 131072, 64, 8, "abf", "Untie the Knots"),
        ("llama-3-70b", 131072, 12, 2, "abf", "Untie the Knots"),
        ("qwen2.5-7b", 262144, 8, 8, "abf", "ProLong's 512K"),
        ("qwen2.5-0.5b", 131072, 8, 8, "abf", "LongRoPE2"),
        ("phi-3-mini-4k", 131072, 6, 2, "abf", "LongRoPE2"),
    ],
)
def test_scheme_layout_and_source_by_model(
    run: Run, model: Any, name: str, to: int, gpus: int, sequence: int, kind: str, source: str
) -> None:
    text = run("recipes", "new", "--model", model(MODELS[name]), "--to", to, "--gpus", gpus).stdout
    values = yaml.safe_load(text)
    assert (values["train"]["sequence"], values["rope"]["kind"]) == (sequence, kind)
    assert values["rope"].get("replace", False) == ("rope_scaling" in MODELS[name])
    assert source in text.partition("\ntrain:")[0].rpartition("\n# Learning rate")[2]


def test_published_settings_are_the_nearest_in_size_then_in_window() -> None:
    assert nearest(7.6e9, 1 << 20).learning_rate == 5e-6
    assert nearest(7.6e9, 1 << 21).learning_rate == 3e-5
    assert nearest(1e5, 64).source.startswith("LongRoPE2")
    assert nearest(1e12, 1 << 30).source.startswith("Untie")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own") / "text"
    write_text(folder)
    return folder


def test_steps_and_tasks_are_what_the_text_is_enough_for(
    run: Run, made: Path, text: Path, tmp_path: Path
) -> None:
    """Prepared as it was written: nothing is infeasible, and every held-out document that is asked for is
    there."""
    file = tmp_path / "mine.yaml"
    new = ["recipes", "new", "--model", made / "model", "--to", 512, "--gpus", 2, "--text", text]
    file.write_text(run(*new).stdout)
    values = yaml.safe_load(file.read_text())
    assert values["train"]["steps"] >= 100
    assert {"position-loss", "needles", "context-gain"} == set(values["eval"]["tasks"])
    place = f"run_dir={tmp_path / 'run'}"
    assert run("prepare", file, place).exit_code == 0
    told = run("evaluate", made / "model", "--recipe", file, place, "eval.sequence=1")
    assert told.exit_code == 0, told.output


def test_short_documents_make_way_and_too_few_held_out_ones_are_said(
    run: Run, made: Path, text: Path, tmp_path: Path
) -> None:
    mixed = shutil.copytree(text, tmp_path / "mixed")
    for index in range(1500):
        (mixed / f"short-{index}.txt").write_text(f"the rope is laid {index} " * 8)
    told = run("recipes", "new", "--model", made / "model", "--to", 4096, "--gpus", 2, "--text", mixed).stdout
    values = yaml.safe_load(told)
    assert values["data"]["sources"]["text"]["long"] == {"at_least": 128, "share": 0.6}
    assert "needles" in values["eval"]["tasks"]
    assert "too short for context-gain and position-loss" in told


@pytest.mark.parametrize(
    ("files", "to", "holdout", "documents", "told"),
    [
        (40, 512, 0.1, 6, ""),
        (30, 512, 0.3, 7, ""),
        (16, 512, 0.1, 2, "eval.tasks: Held out are 2 documents of 512 tokens"),
        (10, 4096, 0.1, None, "too short for needles beyond 2048 of 4096 tokens"),
    ],
)
def test_documents_are_held_out_until_a_gain_can_be_told_or_it_is_said(
    run: Run, made: Path, tmp_path: Path, files: int, to: int, holdout: float, documents: Any, told: str
) -> None:
    write_text(tmp_path / "text", files)
    new = ["recipes", "new", "--model", made / "model", "--to", to, "--gpus", 2, "--text", tmp_path / "text"]
    made_for = run(*new)
    values = yaml.safe_load(made_for.stdout)
    assert values["data"]["holdout"] == holdout
    assert values["eval"]["tasks"].get("position-loss", {}).get("documents") == documents
    first, *lines = made_for.stderr.splitlines()
    assert [told in line for line in lines] == [True] * bool(told)
    assert "eval.tasks" not in first
    beside = " ".join(made_for.stdout.replace("# ", "").split())
    assert all(line.partition(": ")[2] in beside for line in lines)


def test_what_is_unreadable_or_few_is_said_beside_its_value(
    run: Run, made: Path, text: Path, tmp_path: Path
) -> None:
    mixed = shutil.copytree(text, tmp_path / "mixed")
    (mixed / "latin.txt").write_bytes(b"caf\xe9")
    told = run("recipes", "new", "--model", made / "model", "--to", 512, "--gpus", 64, "--text", mixed)
    values = yaml.safe_load(told.stdout)
    assert values["data"]["sources"]["text"]["on_error"] == "skip"
    assert "1 not_utf8" in told.stderr
    assert "1 not_utf8" in told.stdout
    assert values["train"]["steps"] < 100
    assert "so that there are" not in told.stdout


def test_a_run_dir_that_is_there_is_left_alone(
    run: Run, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    new = ["recipes", "new", "--model", made / "model", "--to", 128]
    names = []
    for _ in range(3):
        names.append(yaml.safe_load(run(*new).stdout)["run_dir"])
        Path(names[-1]).mkdir(parents=True)
    assert names == [names[0], f"{names[0]}-2", f"{names[0]}-3"]


def test_the_last_lines_of_a_run_begin_with_a_command_that_works(run: Run, made: Path, text: Path) -> None:
    [line] = [line for line in commands_for_others(512, 2).splitlines() if "recipes new" in line]
    folders = iter((made / "model", text))
    words = [next(folders) if word == "FOLDER" else word for word in line.partition(" > ")[0].split()]
    assert run(*words[1:]).exit_code == 0


REFUSED = [
    ({}, ["--to", 64], "got 64", "--trained-length"),
    ({}, ["--to", 128, "--model", "gone"], "got gone", "correct the path"),
    ({}, ["--to", 128, "--model", "meta-llama/Llama-3.1-8B"], "meta-llama", "hf download"),
    ({}, ["--to", 128, "--model", "{run}"], "config.json", "/model"),
    ({}, ["--to", 128, "--model", "caf\udce9"], "'caf\\udce9'", "rename"),
    ({}, ["--to", 128, "--model", "${HOME}/m"], "'${HOME}/m'", "rename"),
    ({}, ["--to", 128, "--text", "a\x07", "--text-field", "${a}"], "--text-field", "'a\\x07'"),
    ({"model_type": "mamba"}, ["--to", 128], "'mamba'", "supported type"),
    ({"hidden_size": None}, ["--to", 128], "got None", "complete the config"),
    ({}, ["--to", 1 << 40], "of which 8 can share 35184372088832", "lower --to"),
    ({"vocab_size": ...}, ["--to", 128], "vocab_size", "complete"),
    ({"intermediate_size": "x"}, ["--to", 128], "'x'", "repair"),
    ({}, ["--to", 128, "--text", "gone"], "got gone", "name the folder"),
    ({}, ["--to", 128, "--text", "{model}"], "jsonl", "data.sources"),
    ({"max_position_embeddings": 8192}, ["--to", 65536, "--text", "{text}"], "a longest of", "repositories"),
    ({}, ["--to", 8192, "--gpus", 128, "--text", "{text}"], "tokens of one step", "lower --to or --gpus"),
]  # fmt: skip


@pytest.mark.parametrize(("config", "options", "value", "cure"), REFUSED, ids=lambda part: str(part)[:40])
def test_what_no_recipe_can_do_is_refused(
    run: Run, model: Any, made: Path, text: Path, config: Any, options: list[Any], value: str, cure: str
) -> None:
    kept = json.loads((made / "model" / "config.json").read_text()) | config
    folder = model({key: one for key, one in kept.items() if one is not ...})
    places = {"{model}": folder, "{text}": text, "{run}": folder.parent}
    options = [places.get(str(option), option) for option in options]
    told = run("recipes", "new", "--model", folder, *options)
    assert (told.exit_code, told.stdout) == (2, ""), told.output
    assert value in told.stderr
    assert cure in told.stderr


@pytest.mark.parametrize(("gpus", "cure"), [(8, "raise --gpus"), (16, ""), (8192, "lower --to or --gpus")])
def test_gpus_are_enough_for_the_kernels_and_not_too_many_for_the_budget(
    run: Run, model: Any, gpus: int, cure: str
) -> None:
    folder = model(MODELS["llama-3.1-8b"])
    told = run("recipes", "new", "--model", folder, "--to", 1 << 22, "--gpus", gpus)
    assert told.exit_code == (2 if cure else 0)
    assert cure in told.stderr


def test_an_original_length_that_no_config_says_is_stated(run: Run, model: Any) -> None:
    scaled = {"rope_type": "linear", "factor": 8.0}
    config = LLAMA | {"max_position_embeddings": 32768, "rope_scaling": scaled}
    told = run("recipes", "new", "--model", model(config), "--to", 65536, "--original-length", 4096)
    values = yaml.safe_load(told.stdout)
    assert (values["original_length"], values["rope"]) == (4096, {"kind": "abf", "replace": True})
