"""The house rules: which room imports which, what is packaged, how long things are, how errors speak."""

import ast
import io
import json
import os
import shutil
import subprocess
import sys
import tokenize
import tomllib
import zipfile
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = {
    "rope": set(),
    "data": set(),
    "train": {"rope", "data"},
    "eval": {"rope", "data", "train"},
    "recipes": {"rope", "data", "train", "eval"},
}
OWNERS = {
    "deepspeed": {"train/engine.py", "train/release.py", "train/state.py"},
    "datasets": {"data/sources/arrow.py"},
    "matplotlib": {"eval/report/figures.py"},
}
ERRORS = {"RopeError", "NotExpressible", "DataError", "TrainError", "EvalError", "RecipeError"}
NAMELESS = {"utils", "util", "helpers", "helper", "common", "manager", "factory", "misc"}
LONGEST_FILE, LONGEST_FUNCTION = 350, 60

SOURCES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for room in [*ROOMS, "tests"]
    for path in sorted((ROOT / room).rglob("*.py"))
}
TREES = {name: ast.parse(source) for name, source in SOURCES.items()}
OURS = {name: tree for name, tree in TREES.items() if not name.startswith("tests/")}


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def imported(name: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield (line, absolute dotted name) of what a file imports; our own modules start with `ropewalk.`."""
    package = ["ropewalk", *Path(name).parts[:-1]]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            stem = [*above, *([node.module] if node.module else [])]
            yield from ((node.lineno, ".".join([*stem, alias.name])) for alias in node.names)


def test_the_scan_sees_the_house() -> None:
    assert len(OURS) > 20
    assert {name.split("/")[0] for name in OURS} == set(ROOMS)


def test_imports_run_one_way() -> None:
    wrong = [
        f"{name}:{line} imports {target}"
        for name, tree in OURS.items()
        for line, target in imported(name, tree)
        if target.startswith("ropewalk.")
        and target.split(".")[1] not in ROOMS[name.split("/")[0]] | {name.split("/")[0], "__version__"}
    ]
    assert not wrong


def modules_imported(name: str, tree: ast.Module) -> set[str]:
    """Give the files of ours that a file imports anywhere: at its top, in a function, for types only."""
    found = set()
    for _, target in imported(name, tree):
        parts = target.split(".")[1:] if target.startswith("ropewalk.") else []
        for depth in range(len(parts), 0, -1):
            path = "/".join(parts[:depth])
            file = next((f for f in (f"{path}.py", f"{path}/__init__.py") if f in OURS), None)
            if file is not None:
                found |= {file} - {name}
                break
    return found


def test_no_import_comes_back_to_where_it_began() -> None:
    graph = {name: modules_imported(name, tree) for name, tree in OURS.items()}
    assert sum(map(len, graph.values())) > 300  # the scan sees the house
    TopologicalSorter(graph).prepare()  # raises CycleError, which lists the files of a circle


def test_imports_stand_at_the_top() -> None:
    """What is loaded late is a verb or a job, by its name (recipes/cli.py), and never inside a function."""
    late = {
        f"{name}: {target}"
        for name, tree in OURS.items()
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        for _, target in imported(name, ast.Module(body=function.body, type_ignores=[]))
        if target.startswith("ropewalk.")
    }
    assert not late


def test_imports_of_ours_are_relative_except_in_scripts() -> None:
    """Let a verb name the package: it is also run as a script, which has none to be relative to."""
    wrong = []
    for name, tree in OURS.items():
        script = name.startswith("recipes/") and '__name__ == "__main__"' in SOURCES[name]
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level and script:
                wrong.append(f"{name}:{node.lineno} is relative")
            elif isinstance(node, ast.Import | ast.ImportFrom):
                module = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
                head = "" if getattr(node, "level", 0) else (module or "").split(".")[0]
                if head in ROOMS or (head == "ropewalk" and not script):
                    wrong.append(f"{name}:{node.lineno} imports {module}")
    assert not wrong


def test_heavy_libraries_have_owners() -> None:
    found: dict[str, set[str]] = {library: set() for library in OWNERS}
    for name, tree in OURS.items():
        for _, target in imported(name, tree):
            if target.split(".")[0] in OWNERS:
                found[target.split(".")[0]].add(name)
    assert found == OWNERS


def test_packages_are_the_folders() -> None:
    folders = {
        ".".join(["ropewalk", *path.parent.relative_to(ROOT).parts])
        for room in ROOMS
        for path in (ROOT / room).rglob("__init__.py")
    }
    assert set(project()["tool"]["setuptools"]["packages"]) == {"ropewalk", *folders}
    without = {
        str(Path(name).parent) for name in OURS if str(Path(name).with_name("__init__.py")) not in OURS
    }
    assert not without


def test_sizes() -> None:
    wrong = [
        f"{name}: {source.count(chr(10))} lines"
        for name, source in SOURCES.items()
        if source.count("\n") > LONGEST_FILE
    ]
    wrong += [f"{name}: a name that says nothing" for name in SOURCES if Path(name).stem in NAMELESS]
    for name, tree in TREES.items():
        code = code_lines(SOURCES[name], tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = len(code & set(range(node.lineno, (node.end_lineno or 0) + 1)))
                wrong += (
                    [f"{name}: {node.name} has {lines} lines of code"] if lines > LONGEST_FUNCTION else []
                )
    assert not wrong


def code_lines(source: str, tree: ast.Module) -> set[int]:
    """Give the lines that hold code: no docstrings, comments or blanks."""
    blank = {
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    }
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in blank:
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and ast.get_docstring(node) is not None
        ):
            lines -= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return lines


def test_every_file_says_its_question() -> None:
    assert not [name for name, tree in TREES.items() if tree.body and ast.get_docstring(tree) is None]


def test_every_error_for_people_shows_a_value() -> None:
    dumb = []
    for name, tree in OURS.items():
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args):
                continue
            raised, text = node.exc.func, node.exc.args[0]
            called = raised.id if isinstance(raised, ast.Name) else getattr(raised, "attr", "")
            literal = isinstance(text, ast.Constant | ast.JoinedStr)
            filled = any(isinstance(part, ast.FormattedValue) for part in ast.walk(text))
            none = "got none" in ast.unparse(text)
            if called in ERRORS and literal and not filled and not none:
                dumb.append(f"{name}:{node.lineno}")
    assert not dumb


@pytest.mark.parametrize("room", ["rope", "data"])
def test_the_lower_rooms_are_light(room: str) -> None:
    code = f"import json, sys, ropewalk.{room}; print(json.dumps(sorted(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True, text=True).stdout
    loaded = {module.split(".")[0] for module in json.loads(out)}
    assert not loaded & {"deepspeed", "datasets", "matplotlib"}
    modules = {module.split(".")[1] for module in json.loads(out) if module.startswith("ropewalk.")}
    assert modules == {room}


@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="git tells which files are the source")
def test_the_wheel_holds_the_package_and_nothing_else(tmp_path: Path) -> None:
    """Build from a copy of the files that git would take, so that no old build folder leaks in."""
    names = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout.splitlines()
    for name in names:
        if (ROOT / name).is_file():
            (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / "source" / name)
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
    ]
    subprocess.run([*build, str(tmp_path / "source")], check=True, env={**os.environ, "PIP_NO_INDEX": "1"})
    [wheel] = tmp_path.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    wanted = {
        f"ropewalk/{name}"
        for name in names
        if name.split("/")[0] in ROOMS and (name.endswith(".py") or "/library/" in name)
    }
    assert packed == {"ropewalk/__init__.py", *wanted}
