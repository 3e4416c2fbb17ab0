"""What does `prepare` do, from the recipe's `data:` section to a plan that training opens?

Or a part of it: one task's share of the tokenising, or the merging of all shares; and what stands in a plan
that is there.

One tokenised corpus a store (`corpus/`), any number of plans on it (`plans/<length>-<identity>/`), so that
stages of other lengths, budgets and weights share the tokens. Both are whole or absent, and reused where
nothing changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .corpus.build import build_corpus, merge_corpus, work_done
from .corpus.manifest import file_hash, fingerprint, read_manifest, write_manifest
from .corpus.store import Documents, open_documents, write_part
from .corpus.work import Progress, Task, unfinished
from .counts import Counts
from .coverage import as_json, coverage
from .encoding.encoder import Encoder, load_encoder
from .errors import DataError
from .mixing.choose import choose
from .mixing.scorer import Scores
from .packing.tables import Scope, tables
from .plan import MADE, PACKS, SEGMENTS, Pack, Plan, corpus_facts
from .registry import code_of
from .spec import DataSpec, SourceSpec, reading_of
from .whole import whole_folder

BEGINNING = 48
"""Tokens of a segment that `peek` decodes."""


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
    unfinished: dict[str, int]
    """Folders of the store with other work that was not finished, and their bytes."""
    left_out: dict[str, Any] = field(default_factory=dict)
    """By source and reason: files and bytes beside what was read."""

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
    tokenised: Callable[[], None] | None = None,
) -> PrepareReport:
    """Tokenise, mix and pack for packs of `length`; `tokens` stands in where the recipe leaves `data.tokens`
    open. Positions that skip ahead stay below `reach`, by default the length. Between the two `tokenised` is
    called, which may refuse the corpus."""
    folder, spec = Path(folder), _with_tokens(spec, tokens)
    encoder = _encoder_of(spec, tokenizer_path)
    manifest = build_corpus(spec, encoder, folder / "corpus", workers=workers, progress=progress)
    assert manifest is not None
    if tokenised:
        tokenised()
    target = find_plan(spec, length=length, reach=reach, folder=folder)
    if not target.exists():
        if progress:
            progress("mix and pack (tokens)", 0, spec.tokens or 0)
        write_plan(spec, encoder, manifest, target, length=length, reach=reach or length)
        if progress:
            progress("mix and pack (tokens)", spec.tokens or 0, spec.tokens or 0)
    plan = Plan(target)
    return PrepareReport(
        folder=str(target),
        coverage=as_json(coverage(plan)),
        unfinished=unfinished(folder),
        **plan.manifest["report"],
    )


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
    encoder = _encoder_of(spec, tokenizer_path)
    corpus = Path(folder) / "corpus"
    build_corpus(spec, encoder, corpus, task=task, workers=workers, progress=progress)
    return {"task": str(task), "engine": encoder.engine, **work_done(spec, encoder, corpus)}


def merge_tasks(spec: DataSpec, *, tokenizer_path: str | Path, folder: str | Path) -> None:
    """Make the corpus of what all tasks have done; a DataError names what is missing or foreign."""
    encoder = _encoder_of(spec, tokenizer_path)
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


def mixing(spec: DataSpec) -> dict[str, Any]:
    """Give what of a data section decides a plan, given its corpus and its length."""
    sources = {
        name: source.model_dump(mode="json", exclude=set(reading_of(read)) if read else None)
        for name, source in spec.sources.items()
        for read in [spec.read.get(name)]
    }
    for name, source in spec.mixed.items():
        plugins = {"score": source.score, "transform": source.transform}
        if code := {key: code_of(section.made) for key, section in plugins.items() if section}:
            sources[name]["code"] = code
    shared = spec.model_dump(mode="json", include={"seed", "tokens", "mode", "long", "repeat", "fit"})
    return {**shared, "sources": sources}


def scope_of(source: SourceSpec) -> Scope:
    """Give the attention scope and the positions of a source's documents."""
    follows = "reset" if source.groups == "document" else "continuous"
    return Scope(groups=source.groups, positions=source.positions or follows, skip_chunks=source.skip_chunks)


def write_plan(
    spec: DataSpec,
    encoder: Encoder,
    corpus: dict[str, Any],
    target: Path,
    *,
    length: int,
    reach: int,
    documents: Documents | None = None,
) -> None:
    """Choose, pack and write for packs of `length` tokens, with positions below `reach` where they skip
    ahead; `corpus` is the manifest of the corpus two folders up, `documents` its training split or a part."""
    with whole_folder(target) as partial:
        store = target.parent.parent
        documents = documents or open_documents(store, split="train")
        scores = Scores(
            folder=store / "scores", corpus=corpus["fingerprint"], documents=documents, encoder=encoder
        )
        with write_part(partial / MADE) as made:
            chosen = choose(spec, scores, made, length=length)
        parts = [(choice.items, scope_of(spec.sources[name])) for name, choice in chosen.items()]
        segments, packs = tables(parts, length, reach=reach, fit=spec.fit, seed=spec.seed)
        np.save(partial / SEGMENTS, segments)
        np.save(partial / PACKS, packs)
        hashes = [hashlib.sha256(table.tobytes()).hexdigest() for table in (segments, packs)]
        tokens = int(packs["filled"].sum())
        report = {
            "length": length,
            "packs": len(packs),
            "tokens": tokens,
            "padding": len(packs) * length - tokens,
            "trained_tokens": int(packs["trained"].sum()),
            "sources": {
                name: {"requested": choice.requested, "achieved": choice.achieved, "dropped": choice.dropped}
                for name, choice in chosen.items()
            },
            "left_out": corpus.get("left_out", {}),  # earlier ropewalks did not count it
            "dropped": corpus["dropped"] | Counts.total(choice.dropped for choice in chosen.values()),
            "fingerprint": fingerprint([corpus["fingerprint"], made.sha256, length, *hashes]),
            "corpus_fingerprint": corpus["fingerprint"],
            "corpus": corpus["counts"],
        }
        files = {name: file_hash(partial / name) for name in (SEGMENTS, PACKS, MADE)}
        shared = {key: report[key] for key in ("length", "fingerprint", "corpus_fingerprint")}
        about = {"reach": reach, "spec": mixing(spec), "corpus": corpus_facts(corpus)}
        rest = {"padding": encoder.padding, "files": files, "report": report}
        write_manifest(partial, "plan", shared | about | rest)


def peek(plan: Plan, encoder: Encoder, packs: range) -> list[dict[str, Any]]:
    """Tell of each pack: tokens, trained labels, groups, and its segments in order."""
    shown = []
    for number in packs:
        pack = plan[number]
        shown.append(
            {
                "pack": number,
                "tokens": sum(segment.length for segment in pack.segments),
                "trained": plan.trained_tokens(number),
                "groups": pack.groups,
                "segments": list(_segments(plan, encoder, pack)),
            }
        )
    return shown


def _segments(plan: Plan, encoder: Encoder, pack: Pack) -> Iterator[dict[str, Any]]:
    offset = 0
    for segment in pack.segments:
        source, id = plan.name(segment.row)
        first = pack.tokens[offset : offset + min(segment.length, BEGINNING)]
        yield {
            "source": source,
            "id": id,
            "start": segment.start,
            "tokens": segment.length,
            "position": int(pack.positions[offset]),
            "begins": encoder.decode(first),
        }
        offset += segment.length


def _encoder_of(spec: DataSpec, tokenizer_path: str | Path) -> Encoder:
    return load_encoder(tokenizer_path, opens=spec.opens, closes=spec.closes, engine=spec.engine)


def _with_tokens(spec: DataSpec, tokens: int | None) -> DataSpec:
    chosen = tokens if spec.tokens is None else spec.tokens
    if chosen is None:
        raise DataError("data.tokens: must be a number of tokens, got none; set it to steps x batch_tokens")
    return spec.model_copy(update={"tokens": chosen})
