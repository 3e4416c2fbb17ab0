"""What would `prepare` make, how long would it take and how large would it be? Told from a sample.

The sample is prepared for real, by the code that does all of it. What each source can give, and leaves out,
is told at its own scale: of a tenth of its text a tenth is asked. One plan tells shares, packs and distances;
it has one scale for all sources, and draws a document again where the sample of its source is small for that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any
from uuid import uuid4

import numpy as np

from .corpus.store import SPLITS
from .counts import Counts
from .coverage import as_json, buckets, coverage
from .errors import DataError
from .mixing.candidates import Candidates, candidates
from .mixing.choose import EVERY, asked_of, asked_together, begun, draw_from, left_out, supplies, unmet
from .mixing.mixture import Drawn, largest
from .mixing.scorer import Scores
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


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What a source gives of its sample, asked for as large a part of the plan as of its text is read."""

    base: str
    """The source whose documents these are."""
    share: float
    """Of all text, in the sample."""
    candidates: int
    """Tokens that may be drawn."""
    documents: int
    tokens: int
    """Drawn."""
    dropped: Counts


def preview(spec: DataSpec, sample: Sample, *, length: int, reach: int, workers: int) -> dict[str, Any]:
    """Give the report that `prepare` would give, estimated, with disk, hours and the text there is.

    `spec.tokens` is set. A DataError says what is infeasible, in the sample's numbers.
    """
    assert spec.tokens is not None
    taken = _taken(spec, sample, length)
    scale = _scale(spec.tokens, taken, length)
    plan = _plan(spec, sample, scale, length=length, reach=reach)
    octaves = as_json(coverage(plan))
    report = plan.manifest["report"]
    return {
        **_there(sample, plan, scale, workers),
        "scale": scale,
        "length": length,
        "tokens": _grown(report["tokens"], scale),
        "packs": _grown(report["packs"], scale),
        "padding_share": report["padding"] / max(report["packs"] * length, 1),
        "pairs_per_token": sum(octave["pairs"] for octave in octaves) / max(report["tokens"], 1),
        "sources": _sources(spec, report["sources"], scale),
        "left_out": sample.corpus.manifest["left_out"],
        "dropped": _dropped(sample, taken, report["sources"], scale),
        "coverage": [
            octave | {key: _grown(octave[key], scale) for key in ("tokens", "pairs")} for octave in octaves
        ],
        "buckets": list(_buckets(plan, taken, scale)),
    }


def _taken(spec: DataSpec, sample: Sample, length: int) -> dict[str, Taken]:
    """Draw from the sample what the plan draws from all text; a DataError names all that have too little."""
    scores = Scores(
        folder=sample.folder / "scores",
        corpus=sample.corpus.manifest["fingerprint"],
        documents=sample.documents,
        encoder=sample.encoder,
    )
    base = {name: getattr(source, "of", name) for name, source in spec.mixed.items()}
    offers = {
        name: candidates(name, source, scores) for name, source in spec.mixed.items() if source.weight != 0
    }
    shares = {name: sample.shares[base[name]] for name in offers}
    problems = list[str]()
    begun(spec, sample.documents, sample.encoder, length=length, problems=problems)
    drawn = _drawn(spec, offers, shares, problems) if offers else {}
    return {
        name: Taken(
            base=base[name],
            share=shares[name],
            candidates=int(offers[name].length.sum()),
            documents=len(np.unique(offers[name].row[draw.index])),
            tokens=draw.tokens,
            dropped=Counts.total([offers[name].dropped, left_out(offers[name], draw)]),
        )
        for name, draw in drawn.items()
    }


def _drawn(
    spec: DataSpec, offers: dict[str, Candidates], shares: dict[str, float], problems: list[str]
) -> dict[str, Drawn]:
    """Draw from each sample its part of what is asked of all text; a DataError says what all text, told from
    the sample, cannot give, and the problems there are already."""
    there = supplies(spec, offers)
    parts = shares | {EVERY: next(iter(shares.values()))}  # pooled samples are equally large
    counts = {name: len(offer.row) for name, offer in offers.items()}
    counts[EVERY] = sum(counts.values())
    estimated = {
        name: f"estimated from 1/{1 / parts[name]:,.0f} of the text, in which are {counts[name]:,} documents "
        "that may be drawn: "
        for name in there
        if parts[name] < 1
    }
    whole = {name: supply.times(1 / parts[name]) for name, supply in there.items()}
    if wrong := [*unmet(spec, whole, estimated), *problems]:
        raise DataError("\n".join(wrong))
    asked = asked_together(spec)
    budgets = {
        # all that the sample has, where its part is more by a rounding
        name: largest(round(asked[name] * parts[name]), lambda b, supply=supply: not supply.problem(b, ""))
        for name, supply in there.items()
    }
    return draw_from(spec, offers, budgets)


def _scale(tokens: int, taken: dict[str, Taken], length: int) -> float:
    """Choose how much of the plan is made: as much as every source's sample is enough for, within bounds."""
    enough = [draw.share * max(1, draw.candidates / draw.tokens) for draw in taken.values() if draw.tokens]
    least = PACKS * length / tokens
    return min(1.0, max(min(enough, default=1.0), least), max(MOST_TOKENS / tokens, least))


def _plan(spec: DataSpec, sample: Sample, scale: float, *, length: int, reach: int) -> Plan:
    """Make a plan of so many tokens of the same mixture, whatever must be drawn again for them."""

    def often(section: Any) -> Any:
        long = section.long and section.long.model_copy(update={"by": "drop-short"})
        return section.model_copy(update={"repeat": OFTEN, "long": long})

    small = spec.model_copy(update={"tokens": max(round((spec.tokens or 0) * scale), 1)})
    if spec.mode == "global":
        small = often(small)
    else:
        mixed = {name: often(source) for name, source in spec.mixed.items()}
        small = small.model_copy(update={"sources": {**spec.sources, **mixed}})
    target, corpus = sample.folder / "plans" / uuid4().hex, sample.corpus.manifest
    write_plan(small, sample.encoder, corpus, target, length=length, reach=reach, documents=sample.documents)
    return Plan(target)


def _there(sample: Sample, plan: Plan, scale: float, workers: int) -> dict[str, Any]:
    """Tell of the text and what its corpus and the plan would cost."""
    corpus, read = sample.corpus, sample.sources.values()
    lengths, sizes = corpus.lengths(), corpus.sizes()
    there = {}
    for name, part in sample.sources.items():
        rows = corpus.of_source(name)
        text, tokens = int(sizes[rows].sum()), int(lengths[rows].sum())
        there[name] = {
            "share": part.share,
            "stored_bytes": part.stored,
            "text_bytes": round(part.bytes / part.share) if text else 0,
            "documents": round(len(rows) / part.share),
            "tokens": round(tokens / part.share),
            "bytes_per_token": text / max(tokens, 1),
        }
    index = sum(bytes_of(corpus.folder / f"{split}.arrow") for split in SPLITS) / len(corpus)
    tables = sum(path.stat().st_size for path in plan.folder.iterdir() if path.suffix != ".json")
    rows = sum(figures["documents"] for figures in there.values())
    seconds = sum(part.seconds / part.share for part in read)
    return {
        "sample_bytes": sum(part.bytes for part in read),
        "engine": sample.encoder.why,
        "there": there,
        "disk_bytes": round(sum(part.disk / part.share for part in read) + index * rows + tables / scale),
        "core_hours": seconds / 3600,
        "hours": seconds / 3600 / workers,
        "workers": workers,
    }


def _sources(spec: DataSpec, planned: dict[str, Any], scale: float) -> dict[str, Any]:
    """Put what is asked of each source beside what it gives in the sample's plan, scaled up."""
    asked = asked_of(spec)
    return {
        name: {
            "requested": figures["requested"] | {"tokens": asked[name]},
            "achieved": figures["achieved"]
            | {key: _grown(figures["achieved"][key], scale) for key in ("tokens", "documents")},
        }
        for name, figures in planned.items()
    }


def _dropped(sample: Sample, taken: dict[str, Taken], planned: dict[str, Any], scale: float) -> Counts:
    """Scale up what is left out: by source, each from its own sample, but duplicates all together."""
    sources = sample.sources.values()
    reading = Counts.total(part.dropped.times(1 / part.share) for part in sources)
    grown = sum(part.bytes / part.share for part in sources) / max(sum(part.bytes for part in sources), 1)
    dropped = sample.corpus.manifest["dropped"]
    duplicates = Counts({reason: dropped[reason] for reason in dropped if reason not in reading}).times(grown)
    mixing: list[Counts] = []
    for draw in taken.values():
        once = Counts(trimmed=draw.dropped["trimmed"])  # a draw has one end, of whatever scale
        mixing += [Counts({**draw.dropped, "trimmed": {}}).times(1 / draw.share), once]
    for figures in planned.values():
        made = Counts({key: figures["dropped"].get(key, {}) for key in ("transform", "pushed_out")})
        mixing += [made.times(1 / scale), Counts(residual=figures["dropped"].get("residual", {}))]
    return Counts(reading | duplicates | Counts.total(mixing).having("tokens"))


def _buckets(plan: Plan, taken: dict[str, Taken], scale: float) -> Iterator[dict[str, Any]]:
    """Scale up what the plan trains, by source and document length: as many documents as the source gives by
    itself, since the sample's plan may draw one in place of others."""
    trained = buckets(plan)
    planned, drawn = Counter[str](), Counter[str]()
    for bucket in trained:
        planned[bucket.source] += bucket.documents
    for draw in taken.values():
        drawn[draw.base] += draw.documents / draw.share  # pyright: ignore[reportArgumentType]
    for bucket in trained:
        each = drawn[bucket.source] / planned[bucket.source] if bucket.source in drawn else 1 / scale
        documents, tokens = round(bucket.documents * each), _grown(bucket.tokens, scale)
        yield asdict(replace(bucket, documents=documents, tokens=tokens))


def _grown(count: int, scale: float) -> int:
    """Scale a count up; pairs pass what a float holds exactly."""
    return count if scale == 1 else round(count / scale)
