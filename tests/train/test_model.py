"""A checkpoint goes on with the scheme it was trained with, whatever its config says of it."""

from pathlib import Path

import pytest
import torch
from world.slow import example
from world.training import recipe

from ropewalk.recipes.language.schema import RopeSection
from ropewalk.rope import SCHEMES, installed
from ropewalk.train.checkpoint import own_scheme, write_hugging_face_files
from ropewalk.train.model import build_model, install_scheme
from ropewalk.train.storage import write_json


@pytest.mark.parametrize("name", sorted(SCHEMES))
def test_resumed_frequencies_are_those_of_the_start(name: str, tmp_path: Path) -> None:
    """An NTK checkpoint's config holds the raised theta: raised again, a stretch of 2 would become 4."""
    wanted = recipe(str(tmp_path), str(tmp_path))
    wanted = wanted.model_copy(update={"rope": RopeSection(kind=name, **example(name, 4))})
    started = install_scheme(build_model(wanted.stage), wanted.stage)
    started.save_pretrained(tmp_path)
    write_hugging_face_files(tmp_path, started, tmp_path)
    resumed = install_scheme(build_model(wanted.stage, tmp_path), wanted.stage)
    assert installed(resumed).fingerprint == installed(started).fingerprint
    for (path, theirs), ours in zip(resumed.named_parameters(), started.parameters(), strict=True):
        assert torch.equal(theirs, ours), path


def test_a_scheme_that_no_config_can_say_is_read_from_its_own_file(tmp_path: Path) -> None:
    rope = {"scheme": "harpe", "knobs": {"bases": [1e4, 2e4]}, "target_length": 64, "not_expressible": "why"}
    rope |= {"theta": 1e4, "original_length": 32, "fingerprint": "0"}
    assert own_scheme(tmp_path) is None
    write_json(tmp_path / "ropewalk.json", {"format": 1, "rope": rope | {"not_expressible": None}})
    assert own_scheme(tmp_path) is None
    write_json(tmp_path / "ropewalk.json", {"format": 1, "rope": rope})
    found = own_scheme(tmp_path)
    assert found is not None
    assert (found[0].name, found[0].knobs["bases"], found[1]) == ("harpe", (1e4, 2e4), 64)
