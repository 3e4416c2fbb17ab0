"""What does `rope search` do? Grade vectors on held-out documents, and write the best as a factor file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...data import open_documents, read_manifest
from ...eval import Interval, Subject, paired_difference
from ...eval.fitness import Exam, Grader, needles, reading, split_documents
from ...eval.run import model_fingerprint
from ...rope import FULL, Factors, installed, write_factors
from ...rope.search import ALGORITHMS, Candidate, Ledger, Space, published_schemes
from ...train.storage import read_json, write_json
from ..language.schema import Recipe
from ..show.console import phases, screen
from .evaluation import load_subject, measuring_mesh
from .search_plan import Search

FOUND = "found"
SEARCHED, HELD_OUT = "searched", "held-out"
ATTENTION_SCALE = "LongRoPE's attention scale, sqrt(1 + ln s / ln L)"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One scheme: mean losses (nats) on both sets of documents, and how much better the found vector is."""

    name: str
    searched: float
    held_out: float
    gain: Interval | None

    def json(self) -> dict[str, Any]:
        """Return it as JSON values, with what can be told from zero."""
        if self.gain is None:
            return asdict(self)
        return asdict(self) | {"gain": {**asdict(self.gain), "distinguishable": self.gain.distinguishable}}


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """What a search found, beside the published schemes."""

    file: Path
    rows: tuple[Row, ...]
    searched: int
    checked: int
    tokens: int
    forwards: int
    factors: tuple[float, ...]
    rounds: tuple[tuple[int, float], ...]
    "tokens read and the best loss (nats) on the searched documents, after each round"

    @property
    def best_seed(self) -> Row:
        """Return the published scheme that is best on the held-out documents."""
        return min((row for row in self.rows if row.gain is not None), key=lambda row: row.held_out)

    @property
    def tokens_per_nat(self) -> float | None:
        """Return tokens read in the search for each nat gained over the best published scheme."""
        gain = self.best_seed.gain
        return self.tokens / gain.estimate if gain is not None and gain.estimate > 0 else None

    def verdict(self) -> str:
        """Say in words what was gained over the best published scheme, for how many tokens."""
        seed = self.best_seed
        gain = seed.gain
        assert gain is not None
        span = f"{gain.low:+.4f} to {gain.high:+.4f} nats on {gain.n} documents not searched on"
        paid = f"{self.tokens:,} tokens in {self.forwards:,} forwards"
        if not gain.distinguishable:
            return f"A tie: the found vector and {seed.name} are not distinguishable ({span}); {paid}."
        verdict = "better" if gain.estimate > 0 else "worse"
        each = "" if self.tokens_per_nat is None else f", {self.tokens_per_nat:,.0f} tokens a nat"
        size = abs(gain.estimate)
        return f"The found vector is {size:.4f} nats {verdict} than {seed.name} ({span}); {paid}{each}."

    def json(self) -> dict[str, Any]:
        """Return it as JSON values, the file's path among them."""
        rows = [row.json() for row in self.rows]
        words = {"file": str(self.file), "rows": rows, "verdict": self.verdict()}
        return asdict(self) | words | {"tokens_per_nat": self.tokens_per_nat}


def run_search(stage: Recipe, search: Search, *, store: Path) -> dict[str, Any] | None:
    """Search over all ranks, or go on with a search that stopped.

    The result is a SearchResult as JSON values, None on the ranks that only serve.
    """
    folder = Path(stage.model.path or "")
    with measuring_mesh(stage, folder) as mesh, phases(screen(stderr=True)) as progress:
        subject = load_subject("base", folder, None, stage, mesh)
        exams = exams_of(stage, search, subject, store)
        length = stage.target_length
        grader = Grader(
            subject.model, exams, target_length=length, mesh=mesh, chunk=stage.eval.chunk, progress=progress
        )
        if not mesh.is_main:
            grader.serve()
            return None
        try:
            return _searched(stage, search, subject, grader, store).json()
        finally:
            grader.dismiss()


def exams_of(stage: Recipe, search: Search, subject: Subject, store: Path) -> dict[str, Exam]:
    """Return the documents to search on and those to check on, as the method reads them."""
    seed, length = stage.train.seed, stage.target_length
    held_out = open_documents(store, split="heldout")
    parts = split_documents(held_out, length=length, searched=search.documents, seed=seed)
    if search.method == "longrope":
        made = [reading(part, length=length) for part in parts]
    else:
        made = [
            needles(subject.tokenizer, part, length=length, seed=seed, use=use)
            for part, use in zip(parts, (SEARCHED, HELD_OUT), strict=True)
        ]
    return dict(zip((SEARCHED, HELD_OUT), made, strict=True))


def _searched(stage: Recipe, search: Search, subject: Subject, grader: Grader, store: Path) -> SearchResult:
    """Search on rank 0: the published schemes, the vectors, then the best one on the held-out documents."""
    space = search.space(installed(subject.model).bases[FULL], stage.target_length)
    about = _about(stage, search, subject, grader, store)
    folder = search.folder(stage)
    seeds = _kept(folder / "seeds.json", about, lambda: _losses_of_seeds(grader))
    ledger = Ledger(
        lambda trials: grader.losses(SEARCHED, [(t.candidate.scheme(), t.documents) for t in trials]),
        documents=search.documents,
        limit=search.limit(stage.target_length),
        path=folder / "journal.jsonl",
        about=about,
        at_once=grader.mesh.layout.data,
    )
    beside = {name: _mean(losses[SEARCHED]) for name, losses in seeds.items()}

    rounds: list[tuple[int, float]] = []

    def on_round(best: Candidate) -> None:
        rounds.append((ledger.forwards * stage.target_length, ledger.mean(best)))
        _print_round(*rounds[-1], beside)

    best = ALGORITHMS[search.algorithm]().run(space, ledger, seed=search.seed, on_round=on_round)
    of_best = about | {"candidate": best.json()}
    checked = _kept(
        folder / "found.json", of_best, lambda: _losses_on(grader, HELD_OUT, {FOUND: best.scheme()})
    )
    tokens, loss = rounds[-1]
    last = Row(name=FOUND, searched=loss, held_out=_mean(checked[FOUND]), gain=None)
    result = SearchResult(
        file=folder / "factors.json",
        rows=(*_rows(seeds, checked[FOUND]), last),
        searched=ledger.documents,
        checked=len(checked[FOUND]),
        tokens=tokens,
        forwards=ledger.forwards,
        factors=best.factors,
        rounds=tuple(rounds),
    )
    write_factors(result.file, _factors(space, best, about, result))
    return result


def _about(stage: Recipe, search: Search, subject: Subject, grader: Grader, store: Path) -> dict[str, Any]:
    """Say which search this is, in the values that decide its numbers."""
    base = installed(subject.model).bases[FULL]
    asked = asdict(search)
    del asked["tokens"]
    return asked | {
        "fitness": search.fitness,
        "settings": asdict(ALGORITHMS[search.algorithm]()),
        "model": Path(stage.model.path or "").name,
        "model_fingerprint": model_fingerprint(subject.model),
        "corpus_fingerprint": read_manifest(store / "corpus", "corpus")["fingerprint"],
        "documents_fingerprints": {name: exam.fingerprint for name, exam in grader.exams.items()},
        "dtype": stage.train.dtype,
        "theta": base.theta,
        "original_length": base.original_length,
        "target_length": stage.target_length,
        "attention_scale": ATTENTION_SCALE,
    }


def _losses_of_seeds(grader: Grader) -> dict[str, dict[str, list[float]]]:
    """Grade the published schemes, at their own attention scales, on both sets of documents."""
    schemes = published_schemes()
    parts = {exam: _losses_on(grader, exam, schemes) for exam in (SEARCHED, HELD_OUT)}
    return {name: {exam: losses[name] for exam, losses in parts.items()} for name in schemes}


def _losses_on(grader: Grader, exam: str, schemes: Mapping[str, Any]) -> dict[str, list[float]]:
    rows = range(len(grader.exams[exam].rows))
    losses = grader.losses(exam, [(scheme, rows) for scheme in schemes.values()])
    return dict(zip(schemes, losses, strict=True))


def _kept(path: Path, about: Mapping[str, Any], measure: Callable[[], Any]) -> Any:
    """Return what was measured before under the same values, else measure and keep it."""
    as_read = json.loads(json.dumps(about))
    if path.exists() and (kept := read_json(path))["about"] == as_read:
        return kept["losses"]
    losses = measure()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"format": 1, "about": as_read, "losses": losses})
    return losses


def _print_round(tokens: int, best: float, beside: Mapping[str, float]) -> None:
    """Print the best so far beside the published schemes."""
    others = ", ".join(f"{name} {loss:.4f}" for name, loss in beside.items())
    screen(stderr=True).print(f"{tokens:,} tokens: best {best:.4f} ({others})", markup=False)


def _rows(seeds: Mapping[str, Mapping[str, list[float]]], best: Sequence[float]) -> list[Row]:
    """Set the found vector's losses on the held-out documents beside those of each published scheme."""
    return [
        Row(
            name=name,
            searched=_mean(losses[SEARCHED]),
            held_out=_mean(losses[HELD_OUT]),
            gain=paired_difference(losses[HELD_OUT], best),
        )
        for name, losses in seeds.items()
    ]


def _factors(space: Space, best: Candidate, about: Mapping[str, Any], result: SearchResult) -> Factors:
    """Return the factor file: what was found, for which model, and how."""
    base = space.base
    scale = best.scheme().frequencies(base, target_length=space.target_length).attention_scale
    measured = {row.name: {SEARCHED: row.searched, HELD_OUT: row.held_out} for row in result.rows}
    return Factors(
        long=best.factors,
        first_tokens=best.first_tokens,
        attention_scale=scale,
        rotary_dim=base.rotary_dim,
        original_length=base.original_length,
        target_length=space.target_length,
        theta=base.theta,
        provenance={**about, "tokens": result.tokens, "forwards": result.forwards, "losses": measured},
    )


def _mean(losses: Sequence[float]) -> float:
    return sum(losses) / len(losses)
