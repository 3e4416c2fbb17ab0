"""A kind of source is one file: legal in a recipe, read, and sent to workers, without an edit elsewhere."""

import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

import ropewalk
from ropewalk.data import DataSpec
from ropewalk.data.sources import SECTIONS, open_reader
from ropewalk.data.sources.source import TokenReading
from ropewalk.data.spec import reading_of

TOY = '''
"""Which documents are the paths themselves?"""

from __future__ import annotations

from dataclasses import dataclass

from .source import Input, Raw, Reading, SourceReader, evenly, source


class ToyReading(Reading):
    """The path is the text."""

    times: int = 1


@source("toy")
@dataclass(frozen=True, kw_only=True)
class ToyReader(SourceReader):
    """Repeat the path."""

    source: ToyReading

    def inputs(self, left_out=None):
        return [Input(name=path, url=path, size=len(path)) for path in self.source.paths]

    def pieces(self, input, size):
        return evenly(input, 1, size)

    def read(self, unit, skip=0):
        for span in unit.spans[skip:]:
            name = span.input.name
            yield Raw(id=name, start=0, stop=1, text=[name * self.source.times])
'''
USE = """
import pickle
from ropewalk.data import DataSpec
from ropewalk.data.sources import open_reader
from ropewalk.data.spec import reading_of

source = {"kind": "toy", "paths": ["ab", "c"], "times": 2, "weight": 1.0, "min_tokens": 3}
spec = DataSpec.model_validate({"sources": {"mine": source}})
assert reading_of(spec.sources["mine"]) == {
    "kind": "toy", "paths": ["ab", "c"], "times": 2, "licence": None, "on_error": "raise"
}
reader = pickle.loads(pickle.dumps(open_reader(spec.read["mine"], where="data.sources.mine")))
[unit] = reader.units(reader.inputs(), 10)
print(["".join(raw.text) for raw in reader.read(unit)])
"""


def test_one_added_file_is_a_kind(tmp_path: Path):
    home = Path(ropewalk.__file__).parent
    shutil.copytree(home / "data", tmp_path / "ropewalk" / "data")
    shutil.copy(home / "__init__.py", tmp_path / "ropewalk")
    (tmp_path / "ropewalk" / "data" / "sources" / "toy.py").write_text(TOY)
    ran = subprocess.run(
        [sys.executable, "-c", USE], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert ran.stdout == "['abab', 'cc']\n", ran.stderr


@pytest.mark.parametrize("kind", SECTIONS)
def test_every_kind_is_legal_in_a_recipe_and_has_a_reader(kind: str):
    fields = {"tokenizer": "t"} if issubclass(SECTIONS[kind], TokenReading) else {}
    said = {"kind": kind, "paths": ["p"], "weight": 1.0, **fields}
    spec = DataSpec.model_validate({"sources": {"s": said}})
    source = pickle.loads(pickle.dumps(spec.read["s"]))
    assert source == spec.sources["s"]
    assert reading_of(source) == {
        "kind": kind,
        **SECTIONS[kind].model_validate({"paths": ["p"], **fields}).model_dump(mode="json"),
    }
    reader = open_reader(source, where="data.sources.s")
    assert all(callable(getattr(reader, name)) for name in ("inputs", "units", "read"))
    with pytest.raises(ValidationError, match="Extra inputs"):
        DataSpec.model_validate({"sources": {"s": {**said, "nonsense": 1}}})
