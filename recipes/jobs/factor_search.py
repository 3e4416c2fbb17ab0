"""What does `rope search` check, plan, pay for and write?"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...data import open_documents, read_manifest
from ...eval import Subject, paired_difference
from ...eval.fitness import Exam, Grader, needles, reading, split_documents
from ...eval.run import model_fingerprint
from ...rope import FULL, Base, Factors, RopeError, installed, write_factors
from ...rope.search import ALGORITHMS, FIRST_TOKENS, METHODS, Candidate, Ledger, Space, published_schemes
from ...train.mesh import Mesh, in_world
from ..language.check import missing_files, model_facts, sequence_problems
from ..language.errors import RecipeError, raise_all
from ..language.schema import Recipe
from ..options import screen, world_size
from ..show.progress import phases
from .evaluation import load_subject
from .found_factors import FOUND, Found, Row

SEARCHED, HELD_OUT = "searched", "held-out"
ATTENTION_SCALE = "LongRoPE's attention scale, sqrt(1 + ln s / ln L)"


@dataclass(frozen=True, kw_only=True)
class Search:
    """Say which search this is; `tokens` only says how far it goes."""

    method: str
    algorithm: str
    seed: int
    documents: int
    tokens: int | None = None
    first_tokens: bool = False

    @property
    def name(self) -> str:
        """Name its folder."""
        first = "-first" if self.first_tokens else ""
        return f"{self.method}{first}-{self.algorithm}-{self.documents}-seed{self.seed}"

    @property
    def fitness(self) -> str:
        """Say what a loss is the mean of."""
        return "needle answers" if self.method == "longrope2" else "all tokens"

    def folder(self, stage: Recipe) -> Path:
        """Return where the journal and the factors lie."""
        return Path(stage.run_dir) / "search" / self.name

    def space(self, base: Base, target_length: int) -> Space:
        """Return the vectors searched over."""
        choices = FIRST_TOKENS if self.first_tokens else (0,)
        return METHODS[self.method](base=base, target_length=target_length, choices=choices)

    def limit(self, target_length: int) -> int | None:
        """Return the forwards that the tokens are enough for."""
        return None if self.tokens is None else self.tokens // target_length


def check_search(stage: Recipe, wanted: Search, world: int, *, where: str) -> None:
    """Raise all problems of searching on `world` ranks, before anything is loaded."""
    found = []
    if stage.model.path is None:
        found.append("model.path: must be a model to search for, got one from scratch; train it first")
    else:
        found += missing_files(stage)
    try:
        facts = model_facts(stage)
        found += sequence_problems("eval.sequence", stage.eval.sequence, stage.target_length, facts, world)
        found += _budget_problems(stage, wanted, facts.bases[FULL])
    except (RopeError, RecipeError) as error:
        found.append(str(error))
    raise_all(where, found)


def _budget_problems(stage: Recipe, wanted: Search, base: Base) -> Iterator[str]:
    space = wanted.space(base, stage.target_length)
    least = ALGORITHMS[wanted.algorithm]().least(space, wanted.documents) * stage.target_length
    if wanted.tokens is not None and wanted.tokens < least:
        yield (
            f"--tokens: must be enough for the seeds on {wanted.documents} documents, {least:,}, "
            f"got {wanted.tokens:,}; raise it, or lower --documents"
        )


def search_rows(stage: Recipe, wanted: Search, world: int) -> Iterator[tuple[str, str]]:
    """Describe what would be searched, and for how many tokens."""
    base = model_facts(stage).bases[FULL]
    space = wanted.space(base, stage.target_length)
    algorithm = ALGORITHMS[wanted.algorithm]()
    most = algorithm.most(wanted.documents)
    bounds = [n for n in (most, wanted.limit(stage.target_length)) if n is not None]
    at_most = f"at most {min(bounds) * stage.target_length:,} tokens" if bounds else "until it gains no more"
    yield "model", f"{stage.model.path}: {base.original_length:,} -> {stage.target_length:,} tokens"
    yield "search", f"{wanted.method}, {wanted.algorithm}, seed {wanted.seed}: {space.pairs} factors"
    yield "fitness", f"loss of {wanted.fitness} on {wanted.documents} held-out documents"
    least = algorithm.least(space, wanted.documents) * stage.target_length
    yield "reads", f"at least {least:,} tokens, {at_most}"
    yield "layout", f"world {world} = data {world // stage.eval.sequence} x sequence {stage.eval.sequence}"
    yield "writes", str(wanted.folder(stage))


def run_search(stage: Recipe, wanted: Search, *, store: Path) -> Found | None:
    """Search over all ranks, or go on with a search that stopped; None on the ranks that only serve."""
    with in_world() if world_size() > 1 else nullcontext():
        mesh = Mesh.of_world(sequence=stage.eval.sequence)
        with phases(screen(stderr=True)) as progress:
            subject = load_subject("base", Path(stage.model.path or ""), None, stage, mesh)
            exams = exams_of(stage, wanted, subject, store)
            grader = Grader(
                subject.model, exams, target_length=stage.target_length, mesh=mesh, progress=progress
            )
            if not mesh.is_main:
                grader.serve()
                return None
            try:
                return _searched(stage, wanted, subject, grader, store)
            finally:
                grader.dismiss()


def exams_of(stage: Recipe, wanted: Search, subject: Subject, store: Path) -> dict[str, Exam]:
    """Return the documents to search on and those to check on, as the method reads them."""
    seed, length = stage.train.seed, stage.target_length
    held_out = open_documents(store, split="heldout")
    parts = split_documents(held_out, length=length, searched=wanted.documents, seed=seed)
    if wanted.method == "longrope":
        made = [reading(part, length=length) for part in parts]
    else:
        made = [
            needles(subject.tokenizer, part, length=length, seed=seed, use=use)
            for part, use in zip(parts, (SEARCHED, HELD_OUT), strict=True)
        ]
    return dict(zip((SEARCHED, HELD_OUT), made, strict=True))


def _searched(stage: Recipe, wanted: Search, subject: Subject, grader: Grader, store: Path) -> Found:
    """Search on rank 0: the published schemes, the vectors, then the best one on the held-out documents."""
    space = wanted.space(installed(subject.model).bases[FULL], stage.target_length)
    about = _about(stage, wanted, subject, grader, store)
    folder = wanted.folder(stage)
    seeds = _kept(folder / "seeds.json", about, lambda: _losses_of_seeds(grader))
    ledger = Ledger(
        lambda trials: grader.losses(SEARCHED, [(t.candidate.scheme(), t.documents) for t in trials]),
        documents=wanted.documents,
        limit=wanted.limit(stage.target_length),
        path=folder / "journal.jsonl",
        about=about,
        at_once=grader.mesh.layout.data,
    )
    beside = {name: _mean(losses[SEARCHED]) for name, losses in seeds.items()}

    rounds: list[tuple[int, float]] = []

    def on_round(best: Candidate) -> None:
        rounds.append((ledger.forwards * stage.target_length, ledger.mean(best)))
        _print_round(*rounds[-1], beside)

    best = ALGORITHMS[wanted.algorithm]().run(space, ledger, seed=wanted.seed, on_round=on_round)
    of_best = about | {"candidate": best.json()}
    checked = _kept(
        folder / "found.json", of_best, lambda: _losses_on(grader, HELD_OUT, {FOUND: best.scheme()})
    )
    tokens, loss = rounds[-1]
    own = Row(name=FOUND, searched=loss, held_out=_mean(checked[FOUND]), gain=None)
    found = Found(
        file=folder / "factors.json",
        rows=(*_rows(seeds, checked[FOUND]), own),
        searched=ledger.documents,
        checked=len(checked[FOUND]),
        tokens=tokens,
        forwards=ledger.forwards,
        factors=best.factors,
        rounds=tuple(rounds),
    )
    write_factors(found.file, _factors(space, best, about, found))
    return found


def _about(stage: Recipe, wanted: Search, subject: Subject, grader: Grader, store: Path) -> dict[str, Any]:
    """Say which search this is, in the values that decide its numbers."""
    base = installed(subject.model).bases[FULL]
    told = asdict(wanted)
    del told["tokens"]
    return told | {
        "fitness": wanted.fitness,
        "settings": asdict(ALGORITHMS[wanted.algorithm]()),
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
    wanted = json.loads(json.dumps(about))
    if path.exists() and (kept := json.loads(path.read_text(encoding="utf-8")))["about"] == wanted:
        return kept["losses"]
    losses = measure()
    path.parent.mkdir(parents=True, exist_ok=True)
    writing = path.with_suffix(".writing")
    writing.write_text(json.dumps({"format": 1, "about": wanted, "losses": losses}), encoding="utf-8")
    writing.replace(path)
    return losses


def _print_round(tokens: int, best: float, beside: Mapping[str, float]) -> None:
    """Print the best so far beside the published schemes."""
    others = ", ".join(f"{name} {loss:.4f}" for name, loss in beside.items())
    screen(stderr=True).print(f"{tokens:,} tokens: best {best:.4f} ({others})", markup=False)


def _rows(seeds: Mapping[str, Mapping[str, list[float]]], found: Sequence[float]) -> list[Row]:
    """Set the found vector's losses on the held-out documents beside those of each published scheme."""
    return [
        Row(
            name=name,
            searched=_mean(losses[SEARCHED]),
            held_out=_mean(losses[HELD_OUT]),
            gain=paired_difference(losses[HELD_OUT], found),
        )
        for name, losses in seeds.items()
    ]


def _factors(space: Space, best: Candidate, about: Mapping[str, Any], found: Found) -> Factors:
    """Return the factor file: what was found, for which model, and how."""
    base = space.base
    scale = best.scheme().frequencies(base, target_length=space.target_length).attention_scale
    measured = {row.name: {SEARCHED: row.searched, HELD_OUT: row.held_out} for row in found.rows}
    return Factors(
        long=best.factors,
        first_tokens=best.first_tokens,
        attention_scale=scale,
        rotary_dim=base.rotary_dim,
        original_length=base.original_length,
        target_length=space.target_length,
        theta=base.theta,
        provenance={**about, "tokens": found.tokens, "forwards": found.forwards, "losses": measured},
    )


def _mean(losses: Sequence[float]) -> float:
    return sum(losses) / len(losses)
