"""The command line: every verb, its JSON, and errors as one message with exit code 2."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import AutoModelForCausalLM
from world.command_line import Ended

import ropewalk
from ropewalk.rope import config_fields, install, installed, make_scheme, read_base

Run = Callable[..., Ended]
RunJson = Callable[..., Any]

RECIPES = Path(__file__).parents[2] / "recipes"


def python(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=120
    )


def test_a_user_error_of_the_script_is_one_message_and_exit_2():
    done = python(RECIPES / "extend.py", "tiny-base", "trian=1")
    assert done.returncode == 2
    assert done.stderr.strip() == "tiny-base: trian: must be a known key, got 'trian'; did you mean 'train'?"


def test_under_torchrun_other_ranks_are_silent():
    done = python("-m", "ropewalk.recipes.extend", "tiny-bse", RANK="1", WORLD_SIZE="2")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "")


@pytest.mark.slow
def test_torchrun_prints_a_user_error_once():
    launch = ("-m", "torch.distributed.run", "--nproc-per-node", "2")
    done = python(*launch, RECIPES / "extend.py", "tiny-base", "trian=1", OMP_NUM_THREADS="1")
    assert done.returncode != 0
    assert done.stderr.count("did you mean 'train'?") == 1
    assert "Traceback" not in done.stderr.partition("ChildFailedError")[0].partition("trian: must")[0]


def test_the_scripts_folder_is_off_the_path():
    body = f"""
import sys
sys.path.insert(0, {str(RECIPES)!r})
from ropewalk.recipes.cli import main
assert {str(RECIPES)!r} not in sys.path
"""
    done = python("-c", body)
    assert done.returncode == 0, done.stderr


HUB = "somebody/L-8B"
BAD_INPUT = [
    (["extend", "tiny-bse"], "tiny-bse", "tiny-base"),
    (["extend", "tiny-base", "train.steps=128k"], "128k", "131072"),
    (["extend", "tiny-base", "--world", "2"], "2", "--dry-run"),
    (["extend", "tiny-512-4k-yarn", "--dry-run", "--world", "3"], "got 2", "[1]"),
    (
        ["extend", "llama3-8b-8k-512k-abf", "--dry-run", "--world", "8", "--gpu-memory", "40"],
        "GiB",
        "train.chunk=",
    ),
    (["extend", "tiny-512-4k-yarn", "--gpu-memory", "40"], "40", "--dry-run"),
    (["extend", "llama3-8b-8k-512k-abf"], "got models/Meta", "put the model there"),
    (["extend", "llama3-8b-8k-512k-abf", "eval.tasks.x.kind=film"], "film", "needles"),
    (["prepare", "tiny-base", "--world", "2"], "2", "--dry-run"),
    (["evaluate", "gone", "--recipe", "tiny-base"], "gone", "correct the path"),
    (["evaluate", "gone", "--recipe", "tiny-base", "--scheme", "yarn,x"], "'x'", "yarn,factor=8"),
    (["evaluate", "gone", "--recipe", "tiny-base", "--scheme", "yarm"], "'yarm'", "yarn"),
    (["convert", "gone", "there"], "no folder", "checkpoints"),
    (["convert", "gone", f"{__file__}/there"], "is a file", "name one"),
    (["convert", "gone", "there", "--dtype", "int8"], "int8", "bfloat16"),
    (
        ["extend", "tiny-512-4k-yarn", f"model.path={HUB}"],
        f"got {HUB}",
        f"hf download {HUB} --local-dir models/L",
    ),
    (["evaluate", HUB, "--recipe", "tiny-base"], f"got {HUB}", f"hf download {HUB}"),
    (["convert", HUB, "there"], HUB, f"hf download {HUB}"),
    (["verify", HUB], HUB, f"hf download {HUB}"),
    (["rope", "show", "yarn", "--target-length", "9000", "--model", HUB], f"got {HUB}", f"hf download {HUB}"),
    (["recipes", "check", "tiny-base", "rope.kind=linear"], "got 64", "original_length"),
    (["recipes", "show", "tiny-base", "x"], "'x'", "key=value"),
    (["rope", "show", "yarm", "--target-length", "9000"], "'yarm'", "yarn"),
    (["rope", "show", "yarn", "beta", "--target-length", "9000"], "'beta'", "factor=8"),
    (["rope", "show", "yarn", "beta=2", "--target-length", "9000"], "beta", "beta_fast"),
    (["rope", "show", "yarn", "--target-length", "9000", "--head-dim", "3"], "3", "head_dim"),
]


@pytest.mark.parametrize(("command", "value", "cure"), BAD_INPUT, ids=lambda part: str(part)[:40])
def test_bad_input(run: Run, command: list[str], value: str, cure: str):
    result = run(*command)
    assert result.exit_code == 2, result.output
    assert value in result.stderr
    assert cure in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("name", ["models/x", "/gone/x", "x", "a/b/c", "../a/b"])
def test_what_is_no_hub_id_is_not_fetched(run: Run, name: str):
    assert "hf download" not in run("verify", name).stderr


def test_the_home_folder_is_meant_wherever_a_path_is_given(
    run: Run, made: Path, recipe_file: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HOME", str(made.parent))
    home = f"~/{made.name}"
    values = yaml.safe_load(recipe_file.read_text())
    values["model"] = {"path": f"{home}/model", "tokenizer": f"{home}/model"}
    values["data"]["sources"]["text"]["paths"] = [f"{home}/corpus"]
    values["data"]["store"], values["run_dir"] = f"{home}/store", f"{home}/run"
    recipe_file.write_text(yaml.safe_dump(values))
    assert run("prepare", recipe_file).exit_code == 0
    assert (made / "store" / "corpus").is_dir()
    shutil.copy(recipe_file, made / "r.yaml")
    (made / "mine.yaml").write_text(f"base: [{home}/r.yaml]")
    assert run("evaluate", f"{home}/model", f"--recipe={home}/mine.yaml").exit_code == 0
    assert run("verify", f"{home}/model").exit_code == 0
    (made / "f.json").write_text(json.dumps({"format": 1, "long": [1.0, 2.0, 3.0, 4.0]}))
    shown = ["rope", "show", "longrope", f"factors={home}/f.json", f"--model={home}/model"]
    assert run(*shown, "--target-length", 256, f"--draw={home}/x.png").exit_code == 0
    assert (made / "x.png").is_file()
    new = run("recipes", "new", f"--model={home}/model", "--to=512", "--gpus=1", f"--text={home}/corpus")
    assert new.exit_code == 0, new.output
    assert not list(Path().glob("~*"))
    for name in ("store", "run"):
        shutil.rmtree(made / name, ignore_errors=True)


def test_a_mistake_in_the_code_keeps_its_traceback(run: Run, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: Any) -> None:
        raise ValueError("not for people")

    monkeypatch.setattr("ropewalk.recipes.recipes.shipped", broken)
    assert isinstance(run("recipes", "list").exception, ValueError)


def test_recipes_list_and_show(run: Run, run_json: RunJson):
    names = [row["name"] for row in run_json("recipes", "list")]
    assert {"tiny-base", "tiny-512-4k-yarn", "llama3-8b-8k-512k-abf"} <= set(names)
    shown = run("recipes", "show", "tiny-512-4k-yarn", "train.steps=7").stdout
    assert yaml.safe_load(shown)["train"]["steps"] == 7
    assert "${" not in shown
    assert run_json("recipes", "show", "tiny-512-4k-yarn", "train.steps=7") == yaml.safe_load(shown)


def test_recipes_show_is_a_recipe(run: Run, tmp_path: Path):
    (tmp_path / "again.yaml").write_text(run("recipes", "show", "tiny-512-4k-yarn").stdout)
    told = run("recipes", "diff", "tiny-512-4k-yarn", tmp_path / "again.yaml")
    assert told.stdout.strip() == "no difference"


@pytest.mark.parametrize("name", ["tiny-512-4k-yarn", "tiny-base", "compare-tiny", "llama3-8b-8k-512k-abf"])
def test_recipes_show_all_is_the_recipe_with_nothing_left_unsaid(run: Run, tmp_path: Path, name: str):
    (tmp_path / "again.yaml").write_text(text := run("recipes", "show", "--all", name).stdout)
    assert run("recipes", "diff", name, tmp_path / "again.yaml").stdout.strip() == "no difference"
    assert run("recipes", "show", "--all", tmp_path / "again.yaml").stdout == text
    assert yaml.safe_load(text)["train"]["accept_short_documents"] is False
    assert yaml.safe_load(text)["eval"]["tasks"]["position-loss"]["edges"] == []


def test_recipes_diff(run: Run, run_json: RunJson, tmp_path: Path):
    (tmp_path / "other.yaml").write_text("base: [tiny-512-4k-yarn.yaml]\ntrain: {seed: 3}")
    name, other = "tiny-512-4k-yarn", tmp_path / "other.yaml"
    assert run_json("recipes", "diff", name, other)["difference"] == ["train.seed: 0, not 3"]
    both = run_json("recipes", "diff", name, other, "train.steps=7")
    assert both["difference"] == ["train.seed: 0, not 3"]
    assert both["overrides"] == ["train.steps=7"]
    alone = run_json("recipes", "diff", name, "train.steps=7", "eval.tasks.needles.per_cell=10")
    assert alone["difference"] == ["eval.tasks.needles.per_cell: 4, not 10", "train.steps: 110, not 7"]
    assert "leave out some" in run("recipes", "diff", name, other, other).stderr
    staged = run_json("recipes", "diff", name, "tiny-base")["difference"]
    assert "target_length: 4096, not 512" in staged  # which the last stage says


def test_the_version(run: Run):
    assert run("--version").stdout.strip() == f"ropewalk {ropewalk.__version__}"
    assert run("recipes", "--version").exit_code == 2


def test_rope_show_has_the_promised_keys(run: Run, run_json: RunJson):
    command = ["rope", "show", "yarn", "beta_fast=16", "--head-dim", 64, "--theta", 10000]
    command += ["--original-length", 4096, "--target-length", 32768]
    told = run_json(*command)
    promised = {
        "scheme",
        "knobs",
        "factor",
        "stretch",
        "inv_freq",
        "attention_scale",
        "fingerprint",
        "engines",
    }
    assert promised <= told.keys()
    assert (told["scheme"], told["factor"], told["knobs"]["beta_fast"]) == ("yarn", 8, 16)
    assert told["stretch"] == pytest.approx(8)
    assert (len(told["inv_freq"]), len(told["inv_freq"][0])) == (1, 32)
    assert told["engines"]["transformers"]["rope_parameters"]["rope_type"] == "yarn"
    assert told["fingerprint"][:12] in run(*command).stdout


def test_dry_run_prints_the_arithmetic(run: Run):
    shown = " ".join(run("extend", "llama3-8b-8k-512k-abf", "--dry-run", "--world", "64").stdout.split())
    assert "world 64 = data 8 x sequence 8" in shown
    assert "64 packs of 65,536 = 8 data x 1 micro_batch x 8 accumulation" in shown
    assert "rank 0: 0..8,192" in shown
    assert "not here yet: model.path" in shown


def test_prepare_then_extend_then_evaluate(run: Run, run_json: RunJson, recipe_file: Path, made: Path):
    unprepared = run("extend", recipe_file, "train.seed=1")
    assert unprepared.exit_code == 2
    assert f"run: ropewalk prepare {recipe_file} train.seed=1" in unprepared.stderr
    report = run_json("prepare", recipe_file)
    assert {"tokens", "packs", "sources", "dropped", "fingerprint"} <= report.keys()
    assert (report["tokens"], report["packs"]) == (2048, 16)
    assert len(report["stages"]) == 1
    shown = run("prepare", recipe_file).stdout
    assert all(word in shown for word in ("requested", "achieved", "query-key pairs", "64 to 127"))
    told = run_json("evaluate", made / "model", "--recipe", recipe_file, "--scheme", "linear,factor=2")
    assert {"scores", "model", "scheme", "fingerprint"} <= told.keys()
    assert {"task", "length", "depth", "value", "low", "high", "n"} <= told["scores"][0].keys()
    assert (told["scheme"], told["knobs"]) == ("linear", {"factor": 2})
    assert "loss" in run("evaluate", made / "model", "--recipe", recipe_file).stdout


def test_another_corpus_is_another_store(run: Run, recipe_file: Path, tmp_path: Path, made: Path):
    assert run("prepare", recipe_file).exit_code == 0
    shutil.copytree(made / "corpus", tmp_path / "other")
    result = run("extend", recipe_file, f"data.sources.text.paths=[{tmp_path / 'other'}]")
    assert result.exit_code == 2
    assert "data.store" in result.stderr
    longer = run("extend", recipe_file, "train.steps=5")
    assert longer.exit_code == 2
    assert "no plan" in longer.stderr


def test_evaluate_plans_and_refuses_another_vocabulary(
    run: Run, recipe_file: Path, made: Path, tmp_path: Path
):
    plan = run("evaluate", made / "model", "--recipe", recipe_file, "--scheme", "yarn", "--dry-run")
    assert plan.exit_code == 0, plan.output
    assert "attention scale 1.069" in plan.stdout
    other = shutil.copytree(made / "model", tmp_path / "other")
    tokens = json.loads((other / "tokenizer.json").read_text())
    tokens["model"]["vocab"]["zzz"] = len(tokens["model"]["vocab"])
    (other / "tokenizer.json").write_text(json.dumps(tokens))
    result = run("evaluate", other, "--recipe", recipe_file)
    assert result.exit_code == 2
    assert "vocabulary" in result.stderr


@pytest.mark.parametrize("verb", ["extend", "check", "evaluate", "convert", "verify"])
def test_weights_that_are_cut_off_are_named_before_anything_is_loaded(
    run: Run, made: Path, recipe_file: Path, tmp_path: Path, verb: str
):
    folder = shutil.copytree(made / "model", tmp_path / "cut")
    os.truncate(folder / "model.safetensors", 5000)
    (folder / "ropewalk.json").write_text(json.dumps({"format": 1, "rope": {}}))
    command = {
        "extend": ("extend", recipe_file, f"model.path={folder}"),
        "check": ("recipes", "check", recipe_file, f"model.path={folder}"),
        "evaluate": ("evaluate", folder, "--recipe", recipe_file, "--dry-run"),
        "convert": ("convert", folder, tmp_path / "out"),
        "verify": ("verify", folder),
    }[verb]
    if verb == "convert":
        told = {"scheme": "default", "knobs": {}, "theta": 1e4, "original_length": 64, "target_length": 64}
        told = {"format": 1, "rope": told | {"fingerprint": ""}}
        (folder / "ropewalk.json").write_text(json.dumps(told))
    ended = run(*command)
    said = " ".join(f"{ended.stdout} {ended.stderr}".split())
    assert ended.exit_code == (1 if verb == "verify" else 2), said
    assert "model.safetensors: must be a whole safetensors file, got 5,000 bytes" in said


def test_convert_reports_its_checks(run: Run, run_json: RunJson, made: Path, tmp_path: Path):
    checkpoint = shutil.copytree(made / "model", tmp_path / "checkpoint")
    config = json.loads((checkpoint / "config.json").read_text())
    base, scheme = read_base(config)["full_attention"], make_scheme("yarn")
    model = AutoModelForCausalLM.from_pretrained(checkpoint)
    fields = config_fields(config, {"full_attention": base}, scheme, target_length=128)
    (checkpoint / "config.json").write_text(json.dumps(fields))
    rope = {
        "scheme": "yarn",
        "knobs": scheme.knobs,
        "theta": base.theta,
        "original_length": base.original_length,
        "target_length": 128,
        "fingerprint": installed(install(model, scheme, target_length=128)).fingerprint,
    }
    (checkpoint / "ropewalk.json").write_text(json.dumps({"format": 1, "rope": rope}))
    told = run_json("convert", checkpoint, tmp_path / "out")
    assert told["verified"]
    assert told["max_logit_difference"] <= 1e-4
    assert told["checks"]
    assert run("convert", checkpoint, tmp_path / "out").exit_code == 2
