"""A layout with other gradients than one rank is refused before its first step; a right one is asked once."""

import gc
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from world.training import MODEL, recipe

from ropewalk.train import TrainError
from ropewalk.train.attention.kernels import Kernel
from ropewalk.train.attention.pairs import Pair, sdpa
from ropewalk.train.attention.store import Store
from ropewalk.train.mesh import Mesh
from ropewalk.train.parity import Parity, check_parity

STREAMED = {"sequence": 2, "chunk": 32, "store": "host"}
OTHER_KINDS: dict[str, dict[str, Any]] = {
    "mistral": {"sliding_window": 4096},
    "gemma3_text": {
        "sliding_window": 4096,
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
        "num_hidden_layers": 3,
        "attention_dropout": 0.1,
        "rope_parameters": None,
    },
}


def check(
    run_dir: str, settings: dict[str, Any], layout: dict[str, int], kernel: Kernel = sdpa, config: Any = None
) -> Parity | None:
    """Check a layout on this rank."""
    told: dict[str, Any] = {"parity_check": True}
    wanted = recipe(run_dir, run_dir, **told | settings)
    if config is not None:
        model = wanted.model.model_copy(update={"config": config})
        wanted = wanted.model_copy(update={"model": model})
    before = torch.random.get_rng_state()
    found = check_parity(wanted.stage, Mesh.of_world(**layout), kernel, Path(run_dir))
    assert torch.equal(torch.random.get_rng_state(), before)  # a run's own draws stay as they were
    return found


def check_and_forget_a_gradient(run_dir: str, settings: dict[str, Any]) -> str:
    """Lose what later chunks send back to the first; return what was said."""
    add = Store.add

    def loses_one(store: Store, layer: int, span: tuple[int, int], gradient: Tensor) -> None:
        if (layer, span[1]) != (1, 32):
            add(store, layer, span, gradient)

    Store.add = loses_one  # type: ignore[method-assign]
    try:
        check(run_dir, settings, {"heads": 2})
    except TrainError as error:
        return str(error)
    finally:
        Store.add = add
    return ""


def test_a_right_layout_passes_and_is_asked_once(ranks: Any, tmp_path: Path) -> None:
    for found in ranks(2)(check, str(tmp_path), STREAMED, {"heads": 2}):
        assert found.difference < 1e-5
        assert found.worst.startswith("model.")
    kept = json.loads((tmp_path / "parity.json").read_text())
    assert kept["format"] == 1
    assert [one["of"]["heads"] for one in kept["checks"]] == [2]
    assert ranks(2)(check, str(tmp_path), STREAMED, {"heads": 2}) == [None, None]
    assert None not in ranks(2)(check, str(tmp_path), STREAMED | {"zero_stage": 3}, {"gather": 2})
    assert len(json.loads((tmp_path / "parity.json").read_text())["checks"]) == 2


def test_a_lost_gradient_is_named_and_does_not_count_as_asked(ranks: Any, tmp_path: Path) -> None:
    for told in ranks(2)(check_and_forget_a_gradient, str(tmp_path), STREAMED):
        assert re.search(r"heads 2, .*chunk 32, store host.* got 0?\.\d+ in model\.layers\.", told)
        assert "train.parity_check: false" in told
        assert str(tmp_path / "parity.json") in told
    assert None not in ranks(2)(check, str(tmp_path), STREAMED, {"heads": 2})


def test_it_is_off_by_key_and_where_one_rank_computes_whole_packs(tmp_path: Path) -> None:
    def fails(*_: Any) -> Any:
        raise AssertionError

    broken = Pair("sdpa", fails, fails)
    off = {"chunk": 32, "parity_check": False}
    assert check(str(tmp_path), off, {}, broken) is None
    assert check(str(tmp_path), {}, {}, broken) is None
    assert not list(tmp_path.iterdir())


def bytes_left(run_dir: str, stage: int) -> int:
    """Return what a check leaves behind of tensors, once a first has filled caches."""
    settings = STREAMED | {"zero_stage": stage}
    held = []
    for number in range(3):
        check(f"{run_dir}/{number}", settings, {"heads": 2})
        gc.collect()
        held.append(sum(x.nbytes for x in gc.get_objects() if isinstance(x, Tensor)))
    return held[2] - held[1]


@pytest.mark.parametrize("stage", [*(pytest.param(one, marks=pytest.mark.slow) for one in (1, 2)), 3])
def test_the_copy_is_gone_before_the_model_comes(ranks: Any, tmp_path: Path, stage: int) -> None:
    assert max(ranks(2)(bytes_left, str(tmp_path), stage)) < 100_000


def sixteen_bit(run_dir: str, settings: dict[str, Any]) -> Parity | None:
    """Check with a kernel that says it takes no float32."""
    return check(run_dir, settings, {"heads": 2}, Pair("varlen", sdpa.forward, sdpa.backward))


def test_a_kernel_of_16_bits_is_asked_in_bfloat16(ranks: Any, tmp_path: Path) -> None:
    for found in ranks(2)(sixteen_bit, str(tmp_path), STREAMED):
        assert 1e-4 < found.difference < found.limit == 5e-2


def check_kind(run_dir: str, kind: str) -> Parity | None:
    config = MODEL | OTHER_KINDS[kind] | {"model_type": kind}
    return check(run_dir, STREAMED, {"gather": 2}, config=config)


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_windows_and_kinds_of_layers_are_in_the_copy(ranks: Any, tmp_path: Path, kind: str) -> None:
    for found in ranks(2)(check_kind, str(tmp_path), kind):
        assert found.difference < 1e-5
