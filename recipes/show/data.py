"""How is what `prepare` made, or would make, laid out for a terminal?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


def print_report(report: dict[str, Any], console: Console, *, title: str) -> None:
    """Print a stage's report as tables: sources, what was dropped and why, and the distances it trains."""
    from rich.table import Table

    console.print(
        f"\n{title}: {report['tokens']:,} tokens in {report['packs']:,} packs of {report['length']:,}, "
        f"{report['padding']:,} padding, {report['trained_tokens']:,} trained\n"
        f"corpus {report['corpus_fingerprint'][:12]}, plan {report['fingerprint'][:12]} "
        f"in {report['folder']}",
        markup=False,
    )
    sources = Table("source", "requested", "achieved", box=None, pad_edge=False)
    for name, told in report["sources"].items():
        sources.add_row(name, _amounts(told["requested"]), _amounts(told["achieved"]))
    console.print(sources)
    _print_dropped(report, console)
    _print_distances(report, console)


def print_preview(told: dict[str, Any], console: Console, *, title: str) -> None:
    """Print what a stage's data would be: what there is, what is asked of it, its cost and its distances."""
    from rich.table import Table

    console.print(
        f"\n{title}: {told['tokens']:,} tokens in about {told['packs']:,} packs of {told['length']:,}, "
        f"{told['padding_share']:.2%} padding, {told['pairs_per_token']:,.0f} query-key pairs a token\n"
        f"from a sample of {told['sample_bytes'] / 1e6:,.1f} MB: {told['disk_bytes'] / 1e9:,.3g} GB on disk, "
        f"{told['hours']:,.2g} hours on {told['workers']} cores\n{told['engine']}",
        markup=False,
    )
    head = ("there is", "read", "text, MB", "documents to train", "tokens", "bytes a token")
    there = Table(*head, box=None, pad_edge=False)
    for name, own in told["there"].items():
        read = "all" if own["share"] == 1 else f"1/{1 / own['share']:,.0f}"
        counts = (f"{own[key]:,}" for key in ("documents", "tokens"))
        there.add_row(name, read, f"{own['text_bytes'] / 1e6:,.1f}", *counts, f"{own['bytes_per_token']:.2f}")
    console.print(there)
    sources = Table("source", "requested", "achieved", box=None, pad_edge=False)
    for name, own in told["sources"].items():
        sources.add_row(name, _amounts(own["requested"]), _amounts(own["achieved"]))
    console.print(sources)
    lengths = Table("source", "documents from", "documents", "tokens", box=None, pad_edge=False)
    for bucket in told["buckets"]:
        counts = (f"{bucket[key]:,}" for key in ("start", "documents", "tokens"))
        lengths.add_row(bucket["source"], *counts)
    console.print(lengths)
    _print_dropped(told, console)
    _print_distances(told, console)


def _print_dropped(report: dict[str, Any], console: Console) -> None:
    from rich.table import Table

    dropped = Table("dropped because", "how much", box=None, pad_edge=False)
    for reason, amount in report["dropped"].items():
        dropped.add_row(reason, _amounts(amount))
    console.print(dropped if report["dropped"] else "dropped nothing")


def _print_distances(report: dict[str, Any], console: Console) -> None:
    from rich.table import Table

    distances = Table("distance, tokens", "tokens", "query-key pairs", "share", box=None, pad_edge=False)
    pairs = sum(octave["pairs"] for octave in report["coverage"]) or 1
    for octave in report["coverage"]:
        span = f"{octave['start']:,} to {octave['stop'] - 1:,}"
        share = f"{octave['pairs'] / pairs:.1%}"
        distances.add_row(span, f"{octave['tokens']:,}", f"{octave['pairs']:,}", share)
    console.print(distances)


def _amounts(told: Any) -> str:
    """Write counts with thousands and shares as percentages, whatever their names."""
    if isinstance(told, dict):
        return ", ".join(f"{_amounts(value)} {name}" for name, value in told.items() if value is not None)
    return f"{told:.1%}" if isinstance(told, float) else f"{told:,}" if isinstance(told, int) else str(told)


def print_packs(told: list[dict[str, Any]], console: Console) -> None:
    """Print the segments of some packs, each with where it comes from and how it begins."""
    from rich.table import Table
    from rich.text import Text

    for pack in told:
        spans = ", ".join(f"{start:,} to {stop:,}" for start, stop in pack["groups"])
        console.print(
            f"\npack {pack['pack']}: {pack['tokens']:,} tokens, {pack['trained']:,} trained; "
            f"attention in {spans}",
            markup=False,
        )
        table = Table(
            "source", "document", "from token", "tokens", "position", "begins", box=None, pad_edge=False
        )
        for segment in pack["segments"]:
            numbers = (f"{segment[key]:,}" for key in ("start", "tokens", "position"))
            begins = Text(repr(segment["begins"])[:48])
            table.add_row(segment["source"], Text(segment["id"]), *numbers, begins)
        console.print(table)
