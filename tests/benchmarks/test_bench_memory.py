"""The table of docs/memory.md is what its script prints."""

from pathlib import Path

from benchmarks.bench_memory import rows

PAGE = Path(__file__).parents[2] / "docs" / "memory.md"


def test_the_page_holds_the_table():
    assert PAGE.read_text(encoding="utf-8").endswith("\n".join(rows()) + "\n")
