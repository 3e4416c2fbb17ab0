"""Memory and layout change no number: each pair of switches is in a cell that is held against plain torch."""

from dataclasses import replace
from itertools import combinations, product
from typing import Any

import pytest
from world.cell_runs import Found, Plain, differences, plain, run, run_here
from world.cells import FACTORS, STEPS, Way, legal
from world.covering import covering, each_value

CELLS = covering(FACTORS, legal, dear=("data", "heads", "gather"))


def ranks_of(cell: dict[str, Any]) -> float:
    return cell["data"] * cell["heads"] * cell["gather"]


FAST = each_value(CELLS, ranks_of, 12)


def name(cell: dict[str, Any]) -> str:
    """Name a cell: data x heads x gather, then what else it is."""
    layout, *rest = "{data}x{heads}x{gather} zero{stage} chunk:{chunk} {store}".format(**cell).split()
    keeps = ["keep"] * cell["keep"] + ["checkpointing"] * cell["checkpointing"]
    return "-".join(
        [layout, *rest, *keeps, cell["packs"], "kv:" + cell["kv"], cell["micro_steps"], cell["model"]]
    )


def cells() -> list[Any]:
    return [
        pytest.param(Way(**cell), id=name(cell), marks=() if cell in FAST else pytest.mark.slow)
        for cell in CELLS
    ]


def found_in(ranks: Any, way: Way) -> list[Found]:
    return run_here(way) if way.world == 1 else ranks(way.world, timeout=200)(run, way)


@pytest.mark.parametrize("way", cells())
def test_a_cell_is_plain_training(ranks: Any, way: Way) -> None:
    wanted = plain(way)
    for found in found_in(ranks, way):
        has_the_gradients(found, wanted)
        has_trained(way, found, wanted)
        has_acted(way, found)


def has_the_gradients(found: Found, wanted: Plain) -> None:
    """In float64 by our modules, in float32 by the engine, whose gradients are those of the token mean."""
    assert found.exact_loss == pytest.approx(wanted.loss, rel=1e-12)
    assert max(differences(found.exact, wanted.gradients)) < (1e-10, "")
    mean = {name: grad / wanted.tokens for name, grad in wanted.gradients.items()}
    assert max(differences(found.gradients, mean)) < (1e-5, "")


def has_trained(way: Way, found: Found, wanted: Plain) -> None:
    """After three steps of at most a learning rate each, weights differ by less than a thousandth of one."""
    assert found.losses == pytest.approx(wanted.losses, rel=1e-6)
    assert found.norms == pytest.approx(wanted.norms, rel=1e-5)
    rate = way.settings.learning_rate
    for name, weight in wanted.weights.items():
        assert (found.weights[name].double() - weight).abs().max() < 1e-3 * rate, name


def has_acted(way: Way, found: Found) -> None:
    """Chunks, store and kept results cost what they should, and leave nothing behind."""
    counted = found.counted
    assert counted.forward == counted.wanted["forward"]
    assert counted.backward == counted.wanted["backward"]
    packs = 1 if way.micro_steps == "one" else 4 // way.data
    border = -(-64 // (way.chunk or 64)) - 1
    borders = border - 1 if way.packs == "masked" and border else border  # none of these cross token 48
    assert counted.wanted["first passes"] == STEPS * packs * borders
    assert (found.written > 0) == (way.chunk is not None)
    assert (found.on_host > 0) == (way.store != "device")
    assert found.left == 0


def test_the_array_holds_every_legal_pair_in_few_cells() -> None:
    """Which pairs are legal is asked of all combinations of the factors that constrain each other."""
    bound = ("data", "heads", "gather", "chunk", "store", "kv")
    combined: list[dict[str, Any]] = [
        dict(zip(bound, values, strict=True)) for values in product(*(FACTORS[key] for key in bound))
    ]
    possible = [cell for cell in combined if legal(cell)]
    assert all(legal(cell) for cell in CELLS)
    for one, other in combinations(FACTORS, 2):
        for first, second in product(FACTORS[one], FACTORS[other]):
            asked = {one: first, other: second}
            may_be = any(all(cell.get(key, asked[key]) == asked[key] for key in asked) for cell in possible)
            assert any(cell[one] == first and cell[other] == second for cell in CELLS) == may_be, asked
    assert len(CELLS) <= 60


def test_the_fast_cells_hold_every_value() -> None:
    assert len(FAST) == 12
    assert sum(ranks_of(cell) == 4 for cell in FAST) <= 4
    for key, values in FACTORS.items():
        assert {cell[key] for cell in FAST} == set(values)


def error(found: Found, wanted: Plain) -> float:
    """Return how far all gradients together are from the exact ones, as a part of these."""
    exact = {name: grad / wanted.tokens for name, grad in wanted.gradients.items()}
    off = sum(float((found.gradients[name].double() - grad).square().sum()) for name, grad in exact.items())
    return (off / sum(float(grad.square().sum()) for grad in exact.values())) ** 0.5


@pytest.mark.parametrize(
    "way",
    [
        Way(chunk=24, keep=True, store="host"),
        *(
            pytest.param(way, marks=pytest.mark.slow)
            for way in (Way(chunk=16), Way(gather=2), Way(gather=2, chunk=16))
        ),
    ],
    ids=str,
)
def test_bfloat16_rounds_no_more_in_chunks_and_ranks_than_in_whole_packs(ranks: Any, way: Way) -> None:
    narrow = replace(way, dtype="bfloat16", packs="one")
    (whole,) = run_here(Way(dtype="bfloat16", packs="one"))
    wanted = plain(narrow)
    for found in found_in(ranks, narrow):
        assert 1e-3 < error(found, wanted) < 1.1 * error(whole, wanted)
