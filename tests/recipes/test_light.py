"""What a verb loads before its work begins: neither torch nor transformers, and for `--help` little."""

import json
import os
import subprocess
import sys
from pathlib import Path

from ropewalk.recipes.cli import VERBS, Group, about

LOADED = """
import json, sys
from ropewalk.recipes.cli import VERBS, command
there, real = {}, sys.stdout
for line in json.loads(sys.argv[1]):
    sys.stdout = open("/dev/null", "w")
    try:
        command("ropewalk", VERBS)(line, prog_name="ropewalk", standalone_mode=False)
    finally:
        sys.stdout = real
    there[" ".join(line)] = sorted(set(sys.argv[2:]) & sys.modules.keys())
print(json.dumps(there))
"""
"runs command lines one after the other, and tells after each which of some modules are there"

HEAVY = ("torch", "transformers", "matplotlib", "deepspeed", "datasets")


def loaded(lines: list[list[str]], *modules: str) -> dict[str, list[str]]:
    """Tell for each command line which of the modules it had loaded, and those before it."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED, json.dumps(lines), *modules],
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "120"},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def verbs(group: Group = VERBS) -> list[list[str]]:
    """List every verb by the words it is called with."""
    words = []
    for name, entry in group.verbs.items():
        below = verbs(entry) if isinstance(entry, Group) else [[]]
        words += [[name, *rest] for rest in below]
    return words


def test_help_loads_next_to_nothing():
    there = loaded([["--help"], ["rope", "--help"]], *HEAVY, "rich", "numpy", "omegaconf")
    assert set(map(tuple, there.values())) == {()}


def test_the_help_of_every_verb_is_light():
    there = loaded([[*words, "--help"] for words in verbs()], *HEAVY)
    assert {line: modules for line, modules in there.items() if modules} == {}


def test_every_verb_says_what_it_does():
    def lines(group: Group) -> list[str]:
        entries = group.verbs.values()
        return [line for one in entries for line in ([about(one)] if isinstance(one, str) else lines(one))]

    assert all(line.endswith(".") and len(line) <= 80 for line in lines(VERBS))


def test_plans_and_lists_are_light(recipe_file: Path, made: Path):
    """Every verb that only reads, and every dry run; only the fields of a stated config need transformers."""
    recipe, model = str(recipe_file), str(made / "model")
    lines = [
        "recipes list", "recipes show tiny-512-4k-yarn", "recipes check compare-tiny",
        f"recipes check {recipe}", f"recipes diff tiny-base {recipe}", "rope list",
        "rope show yarn --target-length 65536", "rope show dca --target-length 65536 --json",
        f"rope show longrope --target-length 128 --model {model}", f"extend {recipe} --dry-run",
        "compare compare-tiny --dry-run", f"evaluate {model} --recipe {recipe} --dry-run",
        f"evaluate {model} --recipe {recipe} --scheme yarn --dry-run", f"rope search {recipe} --dry-run",
    ]  # fmt: skip
    there = loaded([line.split() for line in lines], *HEAVY)
    assert {line: modules for line, modules in there.items() if modules} == {}


def test_preparing_is_light(recipe_file: Path):
    options = [
        ["--dry-run"], ["--tasks", "1/2", "--workers", "1"], ["--tasks", "2/2"], ["--merge"], [], ["--check"],
        ["--peek", "1"],
    ]  # fmt: skip
    there = loaded([["prepare", str(recipe_file), *one] for one in options], *HEAVY)
    assert {line: modules for line, modules in there.items() if modules} == {}
