"""The search: published operators, resuming, never paying twice, and finding what is there to be found."""

import json
import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ropewalk.rope import Base, RopeError, make_scheme
from ropewalk.rope.search import (
    FIRST_TOKENS,
    METHODS,
    Candidate,
    CriticalSpace,
    Ledger,
    Published,
    Racing,
    Space,
)
from ropewalk.rope.search.racing import Cloud

DOCUMENTS = 5
BRIEF = {
    "published": Published(population=6, rounds=3, parents=3, mutations=2, crossovers=2),
    "racing": Racing(),
}


def base_of(rotary_dim: int = 32, theta: float = 1e4, original_length: int = 512) -> Base:
    return Base(
        head_dim=rotary_dim,
        rotary_dim=rotary_dim,
        theta=theta,
        original_length=original_length,
        trained_length=original_length,
        query_heads=4,
        kv_heads=2,
        current=make_scheme("default"),
    )


SPACE = Space(base=base_of(), target_length=4096)
CRITICAL = CriticalSpace(base=base_of(), target_length=4096)
BEST = np.minimum(8.0, np.exp(np.maximum(0, np.arange(16) - 3.3) * 0.31))
"""Where the made-up loss is least; like YaRN and unlike it."""


def loss(candidate: Candidate, document: int) -> float:
    """A bowl around BEST, tilted a little by each document, whose heights differ by much more."""
    away = np.log(candidate.factors) - np.log(BEST) - 0.05 * math.sin(document)
    bent = 0.01 * math.sin(50 * float(np.sum(away)) + document)
    return float(
        3 + document + np.sum(away**2 * np.linspace(1, 3, away.size)) + bent + candidate.first_tokens / 1e3
    )


def fitness(trials: Sequence[Any]) -> list[list[float]]:
    return [[loss(t.candidate, d) for d in t.documents] for t in trials]


def mean(candidate: Candidate) -> float:
    return float(np.mean([loss(candidate, document) for document in range(DOCUMENTS)]))


def search(algorithm: Any, space: Space, *, seed: int = 0, **ledger: Any) -> tuple[Candidate, Ledger]:
    book = Ledger(fitness, documents=DOCUMENTS, **ledger)
    return algorithm.run(space, book, seed=seed, on_round=lambda _: None), book


@pytest.mark.parametrize(
    ("rotary_dim", "theta", "original_length", "critical"),
    [(96, 1e4, 2048, 31), (128, 5e5, 8192, 35), (128, 1e4, 4096, 46)],
    ids=["Phi-3 mini", "Llama 3 8B", "Llama 2 7B"],
)
def test_the_critical_pairs_are_those_of_longrope2(rotary_dim, theta, original_length, critical):
    base = base_of(rotary_dim, theta, original_length)
    pairs = CriticalSpace(base=base, target_length=16 * original_length).criticals
    turns = original_length * base.unscaled() / (2 * math.pi)
    assert pairs[-1] == critical  # 2502.20082, equation 7, counted in pairs
    assert turns[pairs[0]] <= 10 < turns[pairs[0] - 1]


def test_the_seeds_are_the_published_schemes():
    seeds = SPACE.seeds()
    assert set(seeds["linear"].factors) == {8.0}
    ntk = [round(8 ** (2 * pair / 30), 2) for pair in range(16)]
    assert seeds["ntk"].factors == tuple(ntk)
    assert (seeds["yarn"].factors[0], seeds["yarn"].factors[-1]) == (1.0, 8.0)


@pytest.mark.parametrize("space", [SPACE, CRITICAL], ids=METHODS)
def test_mutations_rise_stay_in_range_and_are_new(space: Space):
    random = np.random.default_rng(0)
    low = 800 if isinstance(space, CriticalSpace) else 100
    (parent, *_) = space.population(random, 1, lambda _: False)
    seen = {parent}
    for _ in range(500):
        child = space.mutate(random, parent, seen.__contains__)
        assert child not in seen
        assert all(a <= b for a, b in pairwise(child.steps))
        free = child.steps[child.critical or 0 :]
        assert low <= min(free)
        assert max(free) <= (1600 if isinstance(space, CriticalSpace) else 900)
        seen.add(child)
        parent = child


def test_a_mutation_redraws_three_genes_in_ten_between_their_neighbours():
    parent = SPACE.nearest(np.linspace(1.5, 8.5, 16))
    random = np.random.default_rng(0)
    children = np.array([SPACE.mutate(random, parent, {parent}.__contains__).steps for _ in range(3000)])
    steps = np.array(parent.steps)
    assert (children != steps).mean() == pytest.approx(0.3, abs=0.01)
    assert (children[:, 1:-1] <= steps[2:]).all()
    # Where the pair before stayed, the redrawn value fills the span between the neighbours.
    alone = children[(children[:, 6] == steps[6]) & (children[:, 7] != steps[7]), 7]
    assert (alone.min(), alone.max()) == (steps[6], steps[8])
    assert alone.mean() == pytest.approx((steps[6] + steps[8]) / 2, abs=4)


def test_a_crossing_takes_genes_of_both_parents():
    random = np.random.default_rng(0)
    one, other = SPACE.nearest(np.linspace(1, 8, 16)), SPACE.nearest(np.linspace(4, 5, 16))
    children = [SPACE.cross(random, one, other, {one, other}.__contains__) for _ in range(300)]
    born = [child for child in children if child is not None]
    assert len(born) > 30  # genes copied stay: parents that cross rarely have rising children
    for child in born:
        assert all(gene in pair for gene, *pair in zip(child.steps, one.steps, other.steps, strict=True))
        assert child not in (one, other)
        assert all(a <= b for a, b in pairwise(child.steps))
    assert SPACE.cross(random, one, one, {one}.__contains__) is None
    assert CRITICAL.cross(random, one, other, lambda _: False) is None


def test_below_the_critical_pair_is_ntk_with_its_knee_there():
    random = np.random.default_rng(0)
    for parent in CRITICAL.population(random, 12, lambda _: False):
        child = CRITICAL.mutate(random, parent, lambda _: False)
        pair = child.critical
        assert pair is not None
        assert pair == parent.critical
        raised = 1e4 * child.factors[pair] ** (16 / pair)  # the base that divides the critical pair so
        for before in range(pair):
            assert child.factors[before] == round((raised / 1e4) ** (2 * before / 32), 2)


def test_the_first_population_tries_every_critical_pair():
    drawn = CRITICAL.population(np.random.default_rng(0), 64, lambda _: False)
    assert {c.critical for c in drawn} == set(CRITICAL.criticals)
    assert len(set(drawn)) == 64
    assert all(len(set(c.steps[c.critical :])) == 1 for c in drawn)


@pytest.mark.parametrize("kind", [Space, CriticalSpace])
def test_coordinates_mean_the_candidate_they_came_from(kind: type[Space]):
    space = kind(base=base_of(), target_length=4096, choices=FIRST_TOKENS)
    random = np.random.default_rng(0)
    (candidate, *_) = space.population(random, 1, lambda _: False)
    for _ in range(50):
        candidate = space.mutate(random, candidate, {candidate}.__contains__)
        found = space.decode(space.encode(candidate))
        assert (found, found.critical) == (candidate, candidate.critical)
    assert {space.mutate(random, candidate, lambda _: False).first_tokens for _ in range(300)} == set(
        FIRST_TOKENS
    )


def test_any_coordinates_mean_a_vector_of_the_space():
    wild = np.random.default_rng(0).normal(0, 1e3, 16)
    steps = SPACE.decode(wild).steps
    assert all(100 <= a <= b <= 900 for a, b in pairwise(steps))


def test_a_cloud_finds_the_bottom_of_a_stretched_bowl():
    random = np.random.default_rng(0)
    cloud = Cloud(mean=np.ones(8), covariance=np.eye(8), spread=0.5)
    scales = 10 ** np.linspace(0, 3, 8)
    for _ in range(400):
        points = cloud.draw(random)
        order = np.argsort((points**2) @ scales)
        cloud.learn(points[order[: cloud.size // 2]])
    assert cloud.size == 12  # 4 + 3 ln 8 = 10.2
    assert float(cloud.mean**2 @ scales) < 1e-12
    # The covariance has become the bowl's inverse, up to a factor.
    assert np.ptp(np.log(np.diag(cloud.covariance) * scales)) < 2


@pytest.mark.parametrize("seed", range(3))
def test_racing_finds_for_a_fifth_what_the_published_search_finds(seed: int):
    published, dear = search(Published(), SPACE, seed=seed)
    racing, cheap = search(Racing(), SPACE, seed=seed, limit=dear.forwards // 5)
    beside = min(mean(candidate) for candidate in SPACE.seeds().values())
    assert mean(published) < beside
    assert mean(racing) <= mean(published)
    assert 5 * cheap.forwards <= dear.forwards == Published().most(DOCUMENTS) == 1344 * DOCUMENTS


def test_the_first_tokens_are_searched_too():
    space = Space(base=base_of(), target_length=4096, choices=FIRST_TOKENS)
    _, ledger = search(Racing(), space)
    assert len({candidate.first_tokens for candidate in ledger.losses}) > 3


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("algorithm", BRIEF)
def test_a_search_stopped_anywhere_goes_on_as_if_it_had_not(tmp_path: Path, method: str, algorithm: str):
    space, whole = METHODS[method](base=base_of(), target_length=4096), tmp_path / "whole.jsonl"
    found, _ = search(BRIEF[algorithm], space, path=whole, limit=120)
    text = whole.read_text()
    cuts = [0, *(place + 1 for place, letter in enumerate(text) if letter == "\n")]
    assert len(cuts) > 15
    for cut in (*cuts[:-1], *(cut + 9 for cut in cuts[:-1])):
        part = tmp_path / "part.jsonl"
        part.write_text(text[:cut])
        again, _ = search(BRIEF[algorithm], space, path=part, limit=120)
        assert again == found
        assert part.read_text() == text


def test_a_finished_search_pays_nothing_again(tmp_path: Path):
    journal = tmp_path / "journal.jsonl"
    found, _ = search(BRIEF["published"], SPACE, path=journal)

    def refuse(trials: Sequence[Any]) -> list[list[float]]:
        raise AssertionError("paid twice")

    ledger = Ledger(refuse, documents=DOCUMENTS, path=journal)
    assert BRIEF["published"].run(SPACE, ledger, seed=0, on_round=lambda _: None) == found


@pytest.mark.parametrize("algorithm", BRIEF)
def test_no_vector_meets_a_document_twice(tmp_path: Path, algorithm: str):
    journal = tmp_path / "journal.jsonl"
    _, ledger = search(BRIEF[algorithm], SPACE, path=journal)
    lines = [json.loads(line) for line in journal.read_text().splitlines()[1:]]
    pairs = [(*line["factors"], line["first_tokens"], d) for line in lines for d in line["documents"]]
    assert len(set(pairs)) == len(pairs) == ledger.forwards


@pytest.mark.parametrize("algorithm", BRIEF)
def test_how_many_are_scored_at_once_does_not_matter(tmp_path: Path, algorithm: str):
    journals = [tmp_path / f"{at_once}.jsonl" for at_once in (1, 2, 7)]
    for journal, at_once in zip(journals, (1, 2, 7), strict=True):
        search(BRIEF[algorithm], SPACE, path=journal, at_once=at_once, limit=200)
    assert len({journal.read_text() for journal in journals}) == 1


@pytest.mark.parametrize("algorithm", BRIEF)
def test_a_limit_holds_and_may_be_raised(tmp_path: Path, algorithm: str):
    journal, unbroken = tmp_path / "journal.jsonl", tmp_path / "unbroken.jsonl"
    _, first = search(BRIEF[algorithm], SPACE, path=journal, limit=85)
    _, second = search(BRIEF[algorithm], SPACE, path=journal, limit=200)
    assert first.forwards <= 85
    assert first.forwards < second.forwards <= 200
    search(BRIEF[algorithm], SPACE, path=unbroken, limit=200)
    assert journal.read_text() == unbroken.read_text()


def test_the_seed_decides():
    one, same, other = (search(BRIEF["racing"], SPACE, seed=seed, limit=200)[1] for seed in (1, 1, 2))
    assert one.losses == same.losses != other.losses


def shorter(folder: Path) -> None:
    Space(base=base_of(), target_length=512)


def another_search(folder: Path) -> None:
    for seed in (1, 2):
        Ledger(fitness, documents=DOCUMENTS, path=folder / "journal.jsonl", about={"seed": seed})


def another_order(folder: Path) -> None:
    for seed in (1, 2):
        search(BRIEF["published"], SPACE, seed=seed, path=folder / "journal.jsonl")


def no_number(folder: Path) -> None:
    ledger = Ledger(lambda trials: [[math.nan] * DOCUMENTS for _ in trials], documents=DOCUMENTS)
    BRIEF["published"].run(SPACE, ledger, seed=0, on_round=lambda _: None)


def another_format(folder: Path) -> None:
    (folder / "journal.jsonl").write_text('{"format": 9, "about": {}}\n')
    Ledger(fitness, documents=DOCUMENTS, path=folder / "journal.jsonl")


@pytest.mark.parametrize(
    ("wrong", "key", "value", "cure"),
    [
        (shorter, "target_length", "512", "nothing to divide"),
        (no_number, "search.fitness", "nan", "weights"),
        (another_search, "journal.jsonl", "seed 1, not 2", "another folder"),
        (another_order, "journal.jsonl", "another where", "delete"),
        (another_format, "format", "9", "update"),
    ],
)
def test_bad_input(tmp_path: Path, wrong: Callable[[Path], None], key: str, value: str, cure: str):
    with pytest.raises(RopeError) as raised:
        wrong(tmp_path)
    for told in (key, value, cure):
        assert told in str(raised.value)
