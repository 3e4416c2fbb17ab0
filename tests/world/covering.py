"""Few cells of many factors that hold every legal pair of values: built greedily, always the same."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import Any

Cell = dict[str, Any]
Factors = Mapping[str, Sequence[Any]]
Legal = Callable[[Mapping[str, Any]], bool]
"""Tells whether a cell, or what is known of one, may be."""
Pair = frozenset[tuple[str, Any]]


def covering(factors: Factors, legal: Legal, dear: Collection[str] = ()) -> list[Cell]:
    """Return cells in which every pair of values occurs that occurs in any legal cell.

    Where it decides nothing, a `dear` factor takes its first value, another one the value least used.
    """
    left = dict.fromkeys(pairs_of(factors, legal))
    cells: list[Cell] = []
    used: Counter[tuple[str, Any]] = Counter()

    def worth(cell: Cell, way: Cell) -> tuple[int, int]:
        (name, value), *_ = way.items()
        spare = factors[name].index(value) if name in dear else used[name, value]
        return sum(pair in left for pair in gained(cell, way)), -spare

    while left:
        cell: Cell = dict(next(iter(left)))
        while open_ := [name for name in factors if name not in cell]:
            ways = [{name: value} for name in open_ for value in factors[name]]
            ways = [way for way in ways if feasible(factors, legal, cell | way)]
            cell |= max(ways, key=partial(worth, cell))
        for pair in held(cell):
            left.pop(pair, None)
        used.update(cell.items())
        cells.append({name: cell[name] for name in factors})
    return cells


def pairs_of(factors: Factors, legal: Legal) -> Iterator[Pair]:
    """Yield every pair of values of two factors that some legal cell has."""
    for one, other in combinations(factors, 2):
        for value in factors[one]:
            for second in factors[other]:
                if feasible(factors, legal, {one: value, other: second}):
                    yield frozenset({(one, value), (other, second)})


def feasible(factors: Factors, legal: Legal, known: Cell) -> bool:
    """Tell whether a legal cell has these values."""
    if not legal(known):
        return False
    name = next((name for name in factors if name not in known), None)
    return name is None or any(feasible(factors, legal, known | {name: value}) for value in factors[name])


def held(cell: Cell) -> Iterator[Pair]:
    """Yield the pairs of values of a cell."""
    yield from (frozenset(two) for two in combinations(cell.items(), 2))


def gained(cell: Cell, way: Cell) -> Iterator[Pair]:
    """Yield the pairs that one more value makes."""
    yield from (frozenset({one, other}) for one in cell.items() for other in way.items())


def each_value(cells: Sequence[Cell], cost: Callable[[Cell], float], most: int) -> list[Cell]:
    """Choose `most` cells that hold each value at least once, the cheap ones first."""
    left = {item for cell in cells for item in cell.items()}
    chosen: list[Cell] = []
    while len(chosen) < most:
        open_ = [cell for cell in cells if cell not in chosen]
        best = max(open_, key=lambda cell: (len(left & set(cell.items())) / cost(cell), -cost(cell)))
        left -= set(best.items())
        chosen.append(best)
    return chosen
