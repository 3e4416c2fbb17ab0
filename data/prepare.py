"""What does `prepare` do, from the recipe's `data:` section to a plan that training opens?

Or a part of it: one task's share of the tokenising, or the merging of all shares.

One tokenised corpus a store (`corpus/`), any number of plans on it (`plans/<length>-<identity>/`), so that
stages of other lengths, budgets and weights share the tokens. Both are whole or absent, and reused where
nothing changed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .corpus.build import build_corpus, merge_corpus, work_done
from .corpus.manifest import fingerprint, read_manifest
from .corpus.work import Task
from .corpus.workers import Progress
from .coverage import as_json, coverage
from .encoding.encoder import load_encoder
from .errors import DataError
from .plan import Plan
from .planning import mixing, write_plan
from .spec import DataSpec


@dataclass(frozen=True, kw_only=True)
class PrepareReport:
    """What was asked, what came out, and what was left out on the way."""

    folder: str
    """The plan's folder, for `open_plan`."""
    length: int
    packs: int
    tokens: int
    """Tokens of the plan without padding."""
    padding: int
    trained_tokens: int
    sources: dict[str, Any]
    """By name: `requested` and `achieved` tokens and shares."""
    dropped: dict[str, Any]
    """By reason: documents, and bytes (while reading) or tokens (while mixing)."""
    fingerprint: str
    corpus_fingerprint: str
    corpus: dict[str, Any]
    """Documents and tokens of each split."""
    coverage: list[dict[str, int]]
    """By octave of distance: tokens and query-key pairs."""

    def json(self) -> dict[str, Any]:
        return asdict(self)


def prepare(
    spec: DataSpec,
    *,
    tokenizer_path: str | Path,
    length: int,
    reach: int | None = None,
    folder: str | Path,
    tokens: int | None = None,
    progress: Progress | None = None,
    workers: int = 1,
) -> PrepareReport:
    """Tokenise, mix and pack for packs of `length`; `tokens` stands in where the recipe leaves `data.tokens`
    open. Positions that skip ahead stay below `reach`, by default the length."""
    folder, spec = Path(folder), _with_tokens(spec, tokens)
    encoder = load_encoder(tokenizer_path, opens=spec.opens, closes=spec.closes, engine=spec.engine)
    manifest = build_corpus(spec, encoder, folder / "corpus", workers=workers, progress=progress)
    assert manifest is not None
    target = find_plan(spec, length=length, reach=reach, folder=folder)
    if not target.exists():
        if progress:
            progress("mix and pack (tokens)", 0, spec.tokens or 0)
        write_plan(spec, encoder, manifest, target, length=length, reach=reach or length)
    plan = Plan(target)
    return PrepareReport(folder=str(target), coverage=as_json(coverage(plan)), **plan.manifest["report"])


def prepare_task(
    spec: DataSpec,
    *,
    tokenizer_path: str | Path,
    folder: str | Path,
    task: Task,
    workers: int = 1,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Tokenise one task's share of the units; say how many are done, of how many."""
    encoder = load_encoder(tokenizer_path, opens=spec.opens, closes=spec.closes, engine=spec.engine)
    corpus = Path(folder) / "corpus"
    build_corpus(spec, encoder, corpus, task=task, workers=workers, progress=progress)
    return {"task": str(task), "engine": encoder.engine, **work_done(spec, encoder, corpus)}


def merge_tasks(spec: DataSpec, *, tokenizer_path: str | Path, folder: str | Path) -> None:
    """Make the corpus of what all tasks have done; a DataError names what is missing or foreign."""
    encoder = load_encoder(tokenizer_path, opens=spec.opens, closes=spec.closes, engine=spec.engine)
    merge_corpus(spec, encoder, Path(folder) / "corpus")


def find_plan(
    spec: DataSpec, *, length: int, reach: int | None = None, folder: str | Path, tokens: int | None = None
) -> Path:
    """Give the folder that this plan has, or would have, in a store whose corpus is prepared; reads no
    source."""
    spec = _with_tokens(spec, tokens)
    corpus = read_manifest(Path(folder) / "corpus", "corpus")["fingerprint"]
    identity = {"corpus": corpus, "length": length, "reach": reach or length, **mixing(spec)}
    return Path(folder) / "plans" / f"{length}-{fingerprint(identity)[:12]}"


def _with_tokens(spec: DataSpec, tokens: int | None) -> DataSpec:
    chosen = tokens if spec.tokens is None else spec.tokens
    if chosen is None:
        raise DataError("data.tokens: must be a number of tokens, got none; set it to steps x batch_tokens")
    return spec.model_copy(update={"tokens": chosen})
