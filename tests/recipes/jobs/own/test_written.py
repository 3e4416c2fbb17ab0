"""What is written is read back as the same values, whatever a folder is called."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk.recipes.jobs.own.written import COLUMNS, written
from ropewalk.recipes.language.yaml_text import parse_yaml

PLAIN = st.characters(exclude_categories=("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"))
HARD = ("1e5", "yes", "~", "null", "a: b", "a #b", "[x", "'", "1_0", "12:30", "", " a", "true", "${x}")
VALUES = st.one_of(
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(PLAIN),
    st.lists(st.one_of(st.integers(), st.text(PLAIN)), max_size=3),
    st.sampled_from(HARD),
)


def read(values: dict[str, Any], reasons: dict[str, str]) -> Any:
    return parse_yaml("\n".join(written(values, reasons)), where="test")


@given(VALUES, VALUES)
def test_values_come_back(one: Any, other: Any) -> None:
    values = {"a": one, "b": {"c-d": other, "e": {"f": one}}}
    back = read(values, {"a": "why", "b.e.f": "why\n\nand how"})
    assert back == values
    assert type(back["a"]) is type(one)


@pytest.mark.parametrize("key", ["a", "b", "b.c", "b.c.d"])
def test_a_reason_stands_above_its_key_and_folds(key: str) -> None:
    lines = list(written({"a": 1, "b": {"c": {"d": [1, 2]}}}, {key: "because " * 30}))
    [at] = [index for index, line in enumerate(lines) if line.strip().startswith(f"{key[-1]}:")]
    indent = "  " * key.count(".")
    above = lines[at - 3 : at]
    assert all(line.startswith(f"{indent}# because") and len(line) <= COLUMNS for line in above)
    assert sum(line.lstrip().startswith("#") for line in lines) == 3
