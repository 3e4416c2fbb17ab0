"""The page of all keys is the schema's, and every key has its meaning."""

from reference.keys import PAGE, page


def keys() -> list[list[str]]:
    """Give the cells of each key's row: key, type, default, meaning."""
    return [line.split(" | ") for line in page().splitlines() if line.startswith("| `")]


def test_the_page_is_what_the_schema_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "python tests/reference/keys.py writes it"


def test_every_key_is_there_with_its_meaning() -> None:
    cells = keys()
    assert len(cells) > 150
    assert not [key for key, _, _, meaning in cells if not meaning.strip("| ")]


def test_a_null_is_a_key_that_is_not_set() -> None:
    """What removing an inherited key rests on (recipes/language/layers.py)."""
    cells = [line.split(" | ") for line in page().splitlines() if line.startswith("| `")]
    other = {
        key.strip("|` "): default for key, kind, default, _ in cells if "null" in kind and default != "`null`"
    }
    assert other == {"mds: spans": "`indices`"}  # its null was there first; "" says the same


def test_the_kinds_of_every_registry_are_there() -> None:
    known = page()
    whole = ("train.optimizer.clip", "eval.every", "compare.factors", "serve")
    kinds = ("yarn: ", "default", "needles: ", "gzip_ratio: ", "interleave: ", "jsonl: ", "facts: ", "pool: ")
    assert all(f"`{kind}" in known for kind in kinds)
    assert all(f"`{key}` |" in known for key in whole)
