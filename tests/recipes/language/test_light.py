"""A recipe is composed, typed and checked without torch and transformers."""

import subprocess
import sys

CHECKS_EVERYTHING = """
import sys

import ropewalk.train, ropewalk.train.schedule, ropewalk.train.storage
from ropewalk.recipes.language.check import problems_of
from ropewalk.recipes.language.files import missing_files
from ropewalk.recipes.language.catalogue import shipped
from ropewalk.recipes.language.compose import compose
from ropewalk.recipes.language.schema import parse

for file in shipped():
    values = compose(file)
    if values.pop("compare", None):
        values["rope"] = {"kind": "default"}
    recipe = parse(values)
    problems_of(recipe, 8), missing_files(recipe), recipe.fingerprint
assert not {"torch", "transformers"} & sys.modules.keys()
"""


def test_recipes_are_checked_without_torch() -> None:
    subprocess.run([sys.executable, "-c", CHECKS_EVERYTHING], check=True)
