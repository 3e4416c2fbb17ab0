"""The page of all keys is the schema's, and every key has its meaning."""

from reference.keys import PAGE, page


def cells() -> list[list[str]]:
    """Give of each key's row: key, type, default, meaning."""
    return [line.strip("| ").split(" | ") for line in page().splitlines() if line.startswith("| `")]


def test_the_page_is_what_the_schema_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "python tests/reference/keys.py writes it"


def test_every_key_is_there_with_its_meaning() -> None:
    keys = [row[0].strip("`") for row in cells()]
    assert len(keys) > 150
    assert not [row for row in cells() if len(row) < 4]
    assert {"train.optimizer.clip", "eval.every", "compare.factors", "data.long.share"} <= {*keys}
    kinds = {key.partition(": ")[0] for key in keys if ": " in key}
    assert {"yarn", "needles", "gzip_ratio", "interleave", "jsonl", "facts", "pool"} <= kinds


def test_a_null_is_a_key_that_is_not_set() -> None:
    """What removing an inherited key rests on (recipes/language/layers.py)."""
    nullable = {key: default for key, kind, default, _ in cells() if "null" in kind}
    other = {key: default for key, default in nullable.items() if default != "`null`"}
    assert other == {"`mds: spans`": "`indices`"}  # read as empty text, which is what its page says
