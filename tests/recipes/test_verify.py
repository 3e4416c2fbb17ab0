"""The verb `verify`: its JSON, its exit code, and the page that shows it on real faults."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from house.commands import Block, blocks
from house.numbers import ROOT
from world.command_line import Ended

from ropewalk.rope.engines import ENGINES

PAGE = (ROOT / "docs" / "verify.md").read_text(encoding="utf-8")
TINY = ROOT / "recipes/library/assets/tiny-base"
FAULTY = [block for block in blocks(PAGE) if block.commands[0].startswith("mkdir")]


def test_the_shipped_base_is_verified(run: Callable[..., Ended], run_json: Callable[..., Any]) -> None:
    assert run("verify", TINY).exit_code == 0
    told = run_json("verify", TINY)
    assert told["verified"] is True
    assert told["max_logit_difference"] is None
    assert told["faults"] == []
    assert told["trained"]["told_by"] == "ropewalk.json"
    assert told["checks"]["trained_frequencies"] is True
    assert told["checks"]["window"] == 512
    assert {row["reader"] for row in told["readers"]} == set(ENGINES)
    assert all(row["verdict"] == "exact" and row["source"] for row in told["readers"])


def test_one_engine_and_a_target_length(run_json: Callable[..., Any]) -> None:
    told = run_json("verify", TINY, "--engine", "vllm", "--target-length", "256")
    [row] = told["readers"]
    assert (row["reader"], row["how"]) == ("vllm", "read")
    assert row["angle_error_at_target"] < row["angle_error_at_trained"]


def test_a_user_error(run: Callable[..., Ended], tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    (tmp_path / "odd" / "config.json").mkdir(parents=True)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "config.json").write_text("[" * 100_000)
    shutil.copytree(TINY, tmp_path / "run" / "model")
    for arguments, word in (
        ((tmp_path,), "config.json"),
        ((tmp_path / "run",), f"such as {tmp_path / 'run' / 'model'}"),
        ((tmp_path / "absent",), "config.json"),
        ((tmp_path / "m.gguf",), "folder it was made from"),
        ((tmp_path / "odd",), "directory"),
        ((tmp_path / "deep",), "JSON"),
        ((TINY, "--engine", "ollama"), "llama.cpp"),
    ):
        result = run("verify", *arguments)
        assert (result.exit_code, word in result.stderr) == (2, True), result.stderr


def test_what_no_reader_is_asked_about_is_printed(run: Callable[..., Ended], tmp_path: Path) -> None:
    config = {"model_type": "llama", "rope_theta": 1e4, "rope_scaling": {"type": "linear", "factor": "4"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    result = run("verify", tmp_path)
    assert result.exit_code == 1
    assert "no reader is asked" in result.stdout
    assert "FAULT config.rope_scaling.factor" in result.stdout


def test_the_page_shows_four_faulty_folders() -> None:
    assert len(FAULTY) == 4


@pytest.mark.parametrize("block", FAULTY, ids=lambda block: block.commands[-1].split()[2])
def test_the_page_shows_what_is_printed(
    run: Callable[..., Ended], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: Block
) -> None:
    monkeypatch.chdir(tmp_path)
    *texts, verify = block.commands
    subprocess.run(["bash", "-ec", "\n".join(texts)], check=True)
    result = run(*verify.partition(" ||")[0].split()[1:])
    assert result.exit_code == 1
    printed = "\n".join(line.rstrip() for line in result.stdout.strip().splitlines())
    shown = PAGE.split("\n")[block.line :]
    start = shown.index("```text") + 1
    assert same("\n".join(shown[start : shown.index("```", start)])) == same(printed)
    assert "FAULT" in printed


def same(text: str) -> str:
    """Leave out which transformers 5 is installed, and the spaces of a table that is wider for it."""
    return re.sub(r" +", " ", re.sub(r"transformers 5\.\d+", "transformers 5", text))


def test_json_of_a_faulty_folder(run: Callable[..., Ended], tmp_path: Path) -> None:
    config = {"model_type": "llama", "hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 2}
    config |= {"max_position_embeddings": 8192}
    (tmp_path / "config.json").write_text(json.dumps(config))
    result = run("verify", tmp_path, "--json")
    told = json.loads(result.stdout)
    assert (result.exit_code, told["verified"], told["checks"], told["trained"]) == (1, False, {}, None)
    assert "rope_theta" in told["faults"][0]
