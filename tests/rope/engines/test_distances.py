"""Weights that attend at other distances than plain ones: what verify says of a folder of them."""

import json
from pathlib import Path
from typing import Any

import pytest

from ropewalk.rope import Installed, make_scheme, read_base
from ropewalk.rope.engines import FolderReport, verify_folder

HEADS = {"hidden_size": 256, "num_attention_heads": 4, "num_key_value_heads": 2}
LLAMA: dict[str, Any] = {"model_type": "llama", "max_position_embeddings": 2048, "rope_theta": 5e5, **HEADS}
CHUNKS = {"chunk_size": 512, "local_size": 64, "original_max_position_embeddings": 512}


def verified(folder: Path, config: dict[str, Any], scheme: str | None = None, **asked: Any) -> FolderReport:
    """Verify a folder with this config, trained by us with a scheme at 4,096 tokens if one is named."""
    (folder / "config.json").write_text(json.dumps(config))
    if scheme is not None:
        record = Installed.of(read_base(LLAMA), make_scheme(scheme), 4096)
        rope = {"scheme": scheme, "knobs": record.scheme.knobs, "theta": 5e5, "original_length": 2048}
        rope |= {"target_length": 4096, "fingerprint": record.fingerprint}
        (folder / "ropewalk.json").write_text(json.dumps({"format": 1, "rope": rope}))
    return verify_folder(folder, **asked)


def test_who_serves_dual_chunks(tmp_path: Path) -> None:
    """A config that says so in Qwen's words: no engine of today attends by it, and none is called exact."""
    config = LLAMA | {"model_type": "qwen2", "dual_chunk_attention_config": CHUNKS}
    report = verified(tmp_path, config)
    assert report.trained is not None
    assert report.trained.scheme == make_scheme("dca", chunk=512, window=64, log_scale=0.1)
    found = {row.reader.engine: (row.verdict, row.why) for row in report.rows}
    for engine, (verdict, word) in {
        "transformers": ("difference", "plain distances"),
        "vllm": ("no", "dual_chunk_attention_config"),
        "sglang": ("no", "five times"),
        "llama.cpp": ("difference", "plain distances"),
    }.items():
        assert found[engine][0] == verdict
        assert word in found[engine][1]
    assert not verified(tmp_path, config, engines=["vllm"]).verified


@pytest.mark.parametrize("scheme", ["self-extend", "dca"])
def test_distances_of_our_own_are_served_by_none(tmp_path: Path, scheme: str) -> None:
    """Their frequencies are the unscaled ones, which readers have."""
    report = verified(tmp_path, LLAMA | {"max_position_embeddings": 4096}, scheme)
    assert {row.verdict for row in report.rows} == {"difference"}


def test_a_key_that_changes_attention_hides_not_what_was_trained(tmp_path: Path) -> None:
    report = verified(tmp_path, LLAMA | {"no_rope_layers": [1, 0]}, "self-extend")
    assert [fault.partition(":")[0] for fault in report.faults if "no_rope" in fault] == [
        "config.no_rope_layers"
    ]
    assert report.trained is not None
    assert report.trained.scheme.name == "self-extend"
