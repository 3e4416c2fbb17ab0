"""A score and a transform, from files to packs."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ropewalk.data import DataSpec, load_encoder, open_documents, open_plan, prepare
from ropewalk.data.mixing.scorers.gzip_ratio import GzipRatio


def test_scored_and_interleaved_documents_are_packed_whole(
    spec: Callable[..., DataSpec], tokenizer: Path, tmp_path: Path
):
    code = {
        "score": {"kind": "gzip_ratio", "keep": [0.2, 0.8], "by": "quantile"},
        "transform": {"kind": "interleave", "documents": 2},
    }
    section = spec(code=code, tokens=6000, near_duplicates=1.0)
    report = prepare(section, tokenizer_path=tokenizer, length=4096, folder=tmp_path)
    assert report.sources["code"]["achieved"]["tokens"] == 6000
    assert {"score", "trimmed"} <= report.dropped.keys()

    documents, encoder = open_documents(tmp_path, split="train"), load_encoder(tokenizer)
    scores = np.array([GzipRatio()(own.tokens[:-1], encoder.decode) for own in documents])
    (kept,) = (tmp_path / "scores").glob("*.npy")
    assert np.load(kept).tolist() == scores.tolist()
    low, high = np.quantile(scores, [0.2, 0.8])

    plan = open_plan(report.folder)
    for pack in (plan[index] for index in range(len(plan))):
        ends = np.cumsum([segment.length for segment in pack.segments])
        for start, stop in pack.groups:
            inside = [s for s, end in zip(pack.segments, ends, strict=True) if start < end <= stop]
            rows = [segment.row for segment in inside]
            assert len(rows) in (0, 2, 4)
            assert rows[: len(rows) // 2] == rows[len(rows) // 2 :]
            assert all(low <= scores[row] <= high for row in rows)
            assert pack.positions[start:stop].tolist() == list(range(stop - start))
            first, second = np.split(np.array(inside, dtype=object), 2) if rows else ([], [])
            assert all(b[1] == a[1] + a[2] for a, b in zip(first, second, strict=True))
    report = prepare(section, tokenizer_path=tokenizer, length=4096, folder=tmp_path)
    assert Path(report.folder) == plan.folder
