"""Work that goes on is told in a log: a line now and then, and of each phase the last."""

from io import StringIO

import pytest
from rich.console import Console

from ropewalk.recipes.show.console import phases

REPORTED = {
    "one phase of a known end": ([("a", 0, 9), ("a", 5, 9), ("a", 9, 9)], ["a: 0 of 9", "a: 9 of 9"]),
    "no known end": ([("a", 1, 0), ("a", 1000, 0)], ["a: 1", "a: 1,000"]),
    "a phase after it": (
        [("a", 1, 0), ("a", 7, 0), ("b", 0, 3), ("b", 3, 3)],
        ["a: 1", "a: 7", "b: 0 of 3", "b: 3 of 3"],
    ),
    "two in turn": (
        [("a", 1, 9), ("b", 1, 9), ("a", 2, 9), ("b", 2, 9)],
        ["a: 1 of 9", "b: 1 of 9", "a: 2 of 9", "b: 2 of 9"],
    ),
    "nothing": ([], []),
}


@pytest.mark.parametrize("name", REPORTED)
def test_the_last_line_of_a_phase_is_where_it_ended(name: str) -> None:
    reported, printed = REPORTED[name]
    text = StringIO()
    with phases(Console(file=text, width=80)) as progress:
        for report in reported:
            progress(*report)
    assert text.getvalue().splitlines() == printed
