"""A recipe is composed, typed and checked without torch and transformers."""

import subprocess
import sys

CHECKS_EVERYTHING = """
import sys

HEAVY, ELSEWHERE = ("torch", "transformers"), ("ropewalk.rope", "ropewalk.eval", "ropewalk.data")

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name in HEAVY:
            frame = sys._getframe()
            while not frame.f_globals["__name__"].startswith("ropewalk."):
                frame = frame.f_back
            importer = frame.f_globals["__name__"]
            assert importer.startswith(ELSEWHERE), f"{importer} imports {name}"

sys.meta_path.insert(0, Watch())

import ropewalk.train, ropewalk.train.schedule, ropewalk.train.storage
from ropewalk.recipes.language.check import missing_files, problems_of
from ropewalk.recipes.language.catalogue import shipped
from ropewalk.recipes.language.compose import compose
from ropewalk.recipes.language.schema import parse

for file in shipped():
    values = compose(file)
    if values.pop("compare", None):
        values["rope"] = {"kind": "default"}
    recipe = parse(values)
    problems_of(recipe, 8), missing_files(recipe), recipe.fingerprint
"""


def test_recipes_are_checked_without_torch() -> None:
    subprocess.run([sys.executable, "-c", CHECKS_EVERYTHING], check=True)
