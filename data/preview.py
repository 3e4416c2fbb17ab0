"""What would `prepare` make, how long would it take and how large would it be? Told from a sample.

The sample is prepared for real, by the code that does all of it, so every share, distance and cost is of a
plan; totals are scaled up. Whether a source can give what is asked is decided at its own scale: of a tenth of
its text a tenth is asked. The plan has one scale for all sources, and draws a document again where the sample
of its source is small for that, in place of others like it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal
from uuid import uuid4

import numpy as np

from .corpus.store import SPLITS
from .coverage import as_json, buckets, coverage
from .errors import DataError
from .mixing.candidates import Candidates, candidates
from .mixing.mixture import budgets, select
from .mixing.scorer import Scores
from .mixing.spec import LongShare
from .plan import Plan
from .prepare import write_plan
from .sampling import Sample, bytes_of
from .spec import DataSpec

PACKS = 256
"""Packs of the sample's plan at the least, or as many as there will be."""
MOST_TOKENS = 64_000_000
"""Tokens of that plan, where it has more packs than these."""
OFTEN = 1e15
"""Repeats, where what may be repeated has been decided."""
ONCE = ("trimmed", "residual")
"""What is left out at the end of a draw, however long that is."""
BEFORE = ("min_tokens", "max_tokens", "score", "remainder")
"""What is left out before anything is drawn."""

Counts = dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """What a plan draws of some documents of the sample, and how many each of these stands for."""

    documents: int
    tokens: int
    """Of the sample, that may be drawn."""
    asked: int
    """Tokens, in the whole plan."""
    share: float
    """Of all text, in the sample."""
    scale: float
    """Of the whole plan, in the sample's."""

    @property
    def each(self) -> float:
        """Documents of the whole plan for one in the sample's: fewer, where that one is drawn again in place
        of others."""
        if self.scale * self.asked <= self.tokens:
            return 1 / self.scale
        return min(1 / self.share, self.asked / self.tokens)

    def left(self, unseen: Counts) -> Counts:
        """Estimate what the whole plan does not draw from what the sample's does not."""
        have = {"documents": self.documents, "tokens": self.tokens}
        left = {key: have[key] / self.share - (have[key] - unseen[key]) * self.each for key in have}
        return {key: max(round(value), 0) for key, value in left.items()}


def preview(spec: DataSpec, sample: Sample, *, length: int, reach: int, workers: int) -> dict[str, Any]:
    """Give the report that `prepare` would give, estimated, with disk, hours and the text there is.

    `spec.tokens` is set. A DataError says what is infeasible, in the sample's numbers.
    """
    assert spec.tokens is not None
    scores = Scores(folder=sample.folder / "scores", corpus=sample.corpus.manifest["fingerprint"])
    found = _found(spec, sample, scores)
    scale = _scale(spec, sample, found, length)
    target = sample.folder / "plans" / uuid4().hex
    small = _small(spec, max(round(spec.tokens * scale), 1))
    manifest = sample.corpus.manifest
    write_plan(
        small, sample.encoder, manifest, target, length=length, reach=reach, documents=sample.documents
    )
    plan = Plan(target)
    drawn = {name: _drawn(spec, sample, found, [name], scale) for name in found}
    octaves = as_json(coverage(plan))
    told = plan.manifest["report"]
    return {
        **_there(sample, plan, scale, workers),
        "scale": scale,
        "length": length,
        "tokens": _grown(told["tokens"], scale),
        "packs": _grown(told["packs"], scale),
        "padding_share": told["padding"] / max(told["packs"] * length, 1),
        "pairs_per_token": sum(octave["pairs"] for octave in octaves) / max(told["tokens"], 1),
        "sources": _sources(spec, told["sources"], scale),
        "dropped": _dropped(sample) | _left_out(told["sources"], drawn, scale),
        "coverage": [
            octave | {key: _grown(octave[key], scale) for key in ("tokens", "pairs")} for octave in octaves
        ],
        "buckets": list(_buckets(spec, plan, sample, found, scale)),
    }


def _base(spec: DataSpec, name: str) -> str:
    return getattr(spec.sources[name], "of", name)


def _found(spec: DataSpec, sample: Sample, scores: Scores) -> dict[str, Candidates]:
    """Give what each source may draw from in the sample; one DataError names all that have too little."""
    pooled = spec.mode == "global"
    found = {
        name: candidates(name, source, sample.documents, sample.encoder, scores)
        for name, source in spec.mixed.items()
        if source.weight != 0
    }
    problems = []
    for name, own in ({} if pooled else found).items():
        share, source = sample.shares[_base(spec, name)], spec.mixed[name]
        asked = round(_asked(spec)[name] * share)
        try:
            select(
                own.length, own.key, budget=asked, long=source.long, repeat=source.repeat, seed=spec.seed,
                where=f"data.sources.{name}",
            )  # fmt: skip
        except DataError as error:
            problems.append(_said(error, share, len(own.row)))
    if pooled and found:
        share = min(sample.shares.values())
        lengths = np.concatenate([own.length for own in found.values()])
        keys = np.concatenate([own.key for own in found.values()])
        asked = round(_asked(spec)[""] * share)
        try:
            select(
                lengths, keys, budget=asked, long=spec.long, repeat=spec.repeat, seed=spec.seed, where="data"
            )
        except DataError as error:
            problems.append(_said(error, share, len(keys)))
    if problems:
        raise DataError("\n".join(problems))
    return found


def _said(error: DataError, share: float, documents: int) -> str:
    """Tell that numbers are a sample's, and how few documents decide."""
    if share == 1:
        return str(error)
    return (
        f"in a sample of 1/{1 / share:,.0f} of the text ({documents:,} documents that may be drawn): {error}"
    )


def _asked(spec: DataSpec) -> dict[str, int]:
    """Give the tokens asked of every source, and under "" those of all that are pooled."""
    weights = [source.weight or 0.0 for source in spec.sources.values()]
    left = 1 - sum(weights) if spec.mode == "global" else 0.0
    return dict(zip([*spec.sources, ""], budgets([*weights, left], spec.tokens or 0), strict=True))


def _scale(spec: DataSpec, sample: Sample, found: dict[str, Candidates], length: int) -> float:
    """Choose how much of the plan is made: as much as every source's sample is enough for, within bounds."""
    tokens = spec.tokens or 1
    names = [list(found)] if spec.mode == "global" else [[name] for name in found]
    enough = [
        max(own.share, own.tokens / own.asked)
        for own in (_drawn(spec, sample, found, group, 1.0) for group in names if group)
        if own.asked
    ]
    least = PACKS * length / tokens
    return min(1.0, max(min(enough, default=1.0), least), max(MOST_TOKENS / tokens, least))


def _drawn(
    spec: DataSpec, sample: Sample, found: dict[str, Candidates], names: list[str], scale: float
) -> Drawn:
    """Give what is drawn of some sources together; where documents are pooled, tokens asked are split as they
    lie."""
    own = [found[name].length for name in names]
    tokens = sum(int(lengths.sum()) for lengths in own)
    asked = sum(_asked(spec)[name] for name in names)
    if spec.mode == "global":
        every = sum(int(other.length.sum()) for other in found.values())
        asked = round(_asked(spec)[""] * tokens / max(every, 1))
    return Drawn(
        documents=sum(map(len, own)),
        tokens=tokens,
        asked=asked,
        share=min(sample.shares[_base(spec, name)] for name in names),
        scale=scale,
    )


def _small(spec: DataSpec, tokens: int) -> DataSpec:
    """Ask for so many tokens of the same mixture, whatever must be drawn again for them."""

    def often(long: LongShare | None) -> dict[str, Any]:
        by: Literal["drop-short"] = "drop-short"
        return {"repeat": OFTEN, "long": long and long.model_copy(update={"by": by})}

    if spec.mode == "global":
        return spec.model_copy(update={"tokens": tokens, **often(spec.long)})
    sources = {
        name: source.model_copy(update=often(spec.mixed[name].long)) if name in spec.mixed else source
        for name, source in spec.sources.items()
    }
    return spec.model_copy(update={"tokens": tokens, "sources": sources})


def _there(sample: Sample, plan: Plan, scale: float, workers: int) -> dict[str, Any]:
    """Tell of the text and what its corpus and the plan would cost."""
    corpus, every = sample.corpus, 0.0
    lengths, sizes = corpus.lengths(), corpus.sizes()
    there = {}
    for name, own in sample.sources.items():
        rows = corpus.of_source(name)
        every += len(rows) / own.share
        text = int(sizes[rows].sum())
        there[name] = {
            "share": own.share,
            "stored_bytes": own.stored,
            "text_bytes": round(own.bytes / own.share) if text else 0,
            "documents": round(len(rows) / own.share),
            "tokens": round(int(lengths[rows].sum()) / own.share),
            "bytes_per_token": text / max(int(lengths[rows].sum()), 1),
        }
    index = sum(bytes_of(corpus.folder / f"{split}.arrow") for split in SPLITS)
    tables = sum(path.stat().st_size for path in plan.folder.iterdir() if path.suffix != ".json")
    stored = sum(own.disk / own.share for own in sample.sources.values())
    seconds = sum(own.seconds / own.share for own in sample.sources.values())
    return {
        "sample_bytes": sum(own.bytes for own in sample.sources.values()),
        "engine": sample.encoder.why,
        "there": there,
        "disk_bytes": round(stored + index / len(corpus) * every + tables / scale),
        "core_hours": seconds / 3600,
        "hours": seconds / 3600 / workers,
        "workers": workers,
    }


def _sources(spec: DataSpec, told: dict[str, Any], scale: float) -> dict[str, Any]:
    """Put what is asked of each source beside what it gives in the sample, scaled up."""
    asked, sources = _asked(spec), {}
    for name, own in told.items():
        pooled = spec.mode == "global" and name in spec.mixed
        got = own["achieved"]
        sources[name] = {
            "requested": own["requested"] | {"tokens": None if pooled else asked[name]},
            "achieved": got
            | {"tokens": _grown(got["tokens"], scale), "documents": round(got["documents"] / scale)},
        }
    return sources


def _dropped(sample: Sample) -> dict[str, Counts]:
    """Scale up what was dropped from the corpus: while reading by source, as a duplicate all together."""
    total: dict[str, dict[str, float]] = {}
    left = {reason: dict(counts) for reason, counts in sample.corpus.manifest["dropped"].items()}
    for own in sample.sources.values():
        for reason, counts in own.dropped.items():
            kept = total.setdefault(reason, dict.fromkeys(counts, 0.0))
            for key, count in counts.items():
                kept[key] += count / own.share
                left[reason][key] -= count
    read = sum(own.bytes for own in sample.sources.values())
    grown = sum(own.bytes / own.share for own in sample.sources.values()) / max(read, 1)
    for reason, counts in left.items():
        kept = total.setdefault(reason, dict.fromkeys(counts, 0.0))
        for key, count in counts.items():
            kept[key] += count * grown
    return {reason: {key: round(value) for key, value in own.items()} for reason, own in total.items()}


def _left_out(told: dict[str, Any], drawn: dict[str, Drawn], scale: float) -> dict[str, Counts]:
    """Scale up what mixing left out, by reason."""
    total: dict[str, Counts] = {}
    for name, own in told.items():
        unseen = {"not_selected": {"documents": 0, "tokens": 0}} if name in drawn else {}
        for reason, counts in (unseen | own["dropped"]).items():
            if reason == "not_selected":
                counts = drawn[name].left(counts)
            elif reason not in ONCE:
                share = drawn[name].share if reason in BEFORE else scale
                counts = {key: round(count / share) for key, count in counts.items()}
            kept = total.setdefault(reason, dict.fromkeys(counts, 0))
            total[reason] = {key: kept[key] + counts[key] for key in kept}
    return {reason: counts for reason, counts in total.items() if counts["tokens"]}


def _buckets(
    spec: DataSpec, plan: Plan, sample: Sample, found: dict[str, Candidates], scale: float
) -> Iterator[dict[str, Any]]:
    """Scale up what the plan trains, by source and document length."""
    for bucket in buckets(plan):
        names = [name for name in found if _base(spec, name) == bucket.source]
        each = _drawn(spec, sample, found, names, scale).each if names else 1 / scale
        documents, tokens = round(bucket.documents * each), _grown(bucket.tokens, scale)
        yield asdict(replace(bucket, documents=documents, tokens=tokens))


def _grown(count: int, scale: float) -> int:
    """Scale a count up; pairs pass what a float holds exactly."""
    return count if scale == 1 else round(count / scale)
