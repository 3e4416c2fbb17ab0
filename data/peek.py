"""What stands in a pack? Its segments with where they come from, and how each begins."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .encoding.encoder import Encoder
from .plan import Pack, Plan

BEGINNING = 48
"""Tokens of a segment that are decoded."""


def peek(plan: Plan, encoder: Encoder, packs: range) -> list[dict[str, Any]]:
    """Tell of each pack: tokens, trained labels, groups, and its segments in order."""
    told = []
    for number in packs:
        pack = plan[number]
        told.append(
            {
                "pack": number,
                "tokens": sum(segment.length for segment in pack.segments),
                "trained": plan.trained_tokens(number),
                "groups": pack.groups,
                "segments": list(_segments(plan, encoder, pack)),
            }
        )
    return told


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
