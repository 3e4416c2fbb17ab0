"""What does a page tell its reader to type, and how is that tried here?

A fenced `sh` block is a bash script. Where it is tried is said by a comment on the line before the fence:

    <!-- slow -->              in the slow suite only
    <!-- not run: reason -->   nowhere; the reason is part of the page
    (nothing)                  in the fast suite

Commands for a cluster (torchrun over nodes, or a verb on a recipe of another model than the tiny one) are
tried as `--dry-run`, in one process that is told the world size. A `make` target is checked to exist; it and
`pip install` are not carried out, since both would change the environment that the tests run in.
"""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r"(?:<!-- (?P<note>[^\n]*?) -->\n+)?^```sh\n(?P<body>.*?)^```$", re.DOTALL | re.MULTILINE)
VERBS = ("extend", "compare", "prepare", "plan")


@dataclass(frozen=True, kw_only=True)
class Block:
    """One fenced block: its commands, the line of the page it starts at, its note."""

    line: int
    commands: tuple[str, ...]
    note: str = ""

    @property
    def is_slow(self) -> bool:
        return self.note == "slow"

    @property
    def is_run(self) -> bool:
        return not self.note.startswith("not run: ")


def blocks(page: str) -> list[Block]:
    """Find a page's `sh` blocks; continued lines are joined, comments and blank lines dropped."""
    found = []
    for fence in FENCE.finditer(page):
        lines = fence["body"].replace("\\\n", " ").splitlines()
        commands = tuple(line.strip() for line in lines if line.strip() and not line.strip().startswith("#"))
        line = page.count("\n", 0, fence.start("body"))
        note = fence["note"] or ""
        assert note in ("", "slow") or re.fullmatch(r"not run: .{10,}", note), (
            f"line {line}: the note of a block must be 'slow' or 'not run: <reason>', got {note!r}"
        )
        found.append(Block(line=line, commands=commands, note=note))
    return found


def tried(command: str, recipes: set[str]) -> str:
    """Turn a command of a page into what is run here; `recipes` names the recipes that the package ships."""
    words = shlex.split(command, comments=True)
    if words[:1] == ["make"]:
        return shlex.join(["make", "--dry-run", *words[1:]])
    if words[:2] == ["pip", "install"] or words[1:4] == ["-m", "pip", "install"]:
        return ":"
    if "--dry-run" not in words and is_for_a_cluster(words, recipes):
        return dry_run(words)
    return command


def is_for_a_cluster(words: list[str], recipes: set[str]) -> bool:
    """Tell torchrun over nodes, and a verb on a recipe that is not tiny."""
    named = {Path(word).name.removesuffix(".yaml") for word in words} & recipes
    on_a_verb = any(Path(word).stem in VERBS or word.split(".")[-1] in VERBS for word in words)
    return "--nnodes" in " ".join(words) or (on_a_verb and any(not name.startswith("tiny") for name in named))


def dry_run(words: list[str]) -> str:
    """Replace torchrun and its flags by one Python process, and add `--dry-run --world N`."""
    if words[0] != "torchrun":
        return shlex.join([*words, "--dry-run"])
    world, rest = 1, words[1:]
    while rest and rest[0].startswith("--"):
        flag, _, value = rest.pop(0).partition("=")
        value = value or rest.pop(0)
        world *= int(value) if flag in ("--nproc-per-node", "--nnodes") else 1
    return shlex.join(["python", *rest, "--dry-run", "--world", str(world)])
