"""Where do the numbers of a page come from? From a recorded JSON file, through a template in the page itself.

    <!-- numbers: docs/results/tiny-512-4k-yarn.json
    | model    | loss                                              |
    |----------|---------------------------------------------------|
    | base     | {models/base/scores/task=loss,length=512/value:.2f} |
    -->
    | model    | loss |
    ...

The lines below the comment are the template's lines with every `{path:format}` filled in. A path walks the
JSON: a word is a key, a number an index of a list, `key=value,...` picks the one entry of a list (or of a
mapping's values) that has these values. Paths may be combined, with a space around each sign, from left to
right: `{a/b - c/d:+.2f}`.

    python tests/house/numbers.py     # rewrite the lines below every template
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
MARK = re.compile(r"<!-- numbers: (?P<source>\S+)\n(?P<template>.*?)\n-->\n", re.DOTALL)
HOLE = re.compile(r"\{(?P<value>[^{}]+?)(?::(?P<format>[^{}:]*))?\}")
SIGNS = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "/": lambda a, b: a / b}


def pages() -> list[Path]:
    """List what a reader reads: the README, and docs/ however deep."""
    return [path for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))] if path.exists()]


def rendered(page: str, root: Path = ROOT) -> str:
    """Return the page with each template filled in below it; KeyError names a path that leads nowhere."""
    out, at = [], 0
    for mark in MARK.finditer(page):
        record = json.loads((root / mark["source"]).read_text())
        lines = [fill(line, record) for line in mark["template"].split("\n")]
        below = page[mark.end() :].split("\n")
        kept = next((i for i, line in enumerate(below) if not line.strip()), len(below))
        out += [page[at : mark.end()], "\n".join(lines)]
        at = mark.end() + len("\n".join(below[:kept]))
    return "".join([*out, page[at:]])


def fill(line: str, record: Any) -> str:
    return HOLE.sub(lambda hole: format(evaluate(hole["value"], record), hole["format"] or ""), line)


def evaluate(expression: str, record: Any) -> Any:
    """Read one path, or combine several from left to right."""
    first, *rest = expression.split(" ")
    value = walk(first, record)
    for sign, path in zip(rest[::2], rest[1::2], strict=True):
        value = SIGNS[sign](value, float(path) if re.fullmatch(r"[\d.]+", path) else walk(path, record))
    return value


def walk(path: str, record: Any) -> Any:
    for part in path.split("/"):
        record = step(part, record, path)
    return record


def step(part: str, record: Any, path: str) -> Any:
    if "=" not in part:
        try:
            return record[int(part)] if isinstance(record, list) else record[part]
        except (KeyError, IndexError, ValueError, TypeError):
            known = list(record) if isinstance(record, dict) else f"{type(record).__name__} of {record!r:.60}"
            raise KeyError(f"{path}: {part} must be one of {known}") from None
    wanted = dict(pair.split("=", 1) for pair in part.split(","))
    entries = record.values() if isinstance(record, dict) else record
    found = [entry for entry in entries if all(str(entry.get(key)) == want for key, want in wanted.items())]
    if len(found) != 1:
        raise KeyError(f"{path}: {part} must pick one entry, got {len(found)} of {len(entries)}")
    return found[0]


if __name__ == "__main__":
    for name in pages():
        before = name.read_text(encoding="utf-8")
        after = rendered(before)
        if before != after:
            name.write_text(after, encoding="utf-8")
            sys.stdout.write(f"{name.relative_to(ROOT)}: numbers rewritten\n")
