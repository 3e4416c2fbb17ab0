"""How is what `prepare` made, or would make, laid out for a terminal?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console

from .console import print_table

Values = Mapping[str, Any]


def print_reports(values: Values, console: Console, *, title: str) -> None:
    """Print what was prepared for each stage."""
    for stage, report in _stages(values, title):
        print_report(report, console, title=stage)


def print_previews(values: Values, console: Console, *, title: str) -> None:
    """Print what each stage's data would be, where the text is here."""
    for stage, preview in _stages(values, title):
        if "missing" in preview:
            console.print(f"\n{stage}: no preview of the data: {preview['missing']}", markup=False)
        else:
            print_preview(preview, console, title=stage)


def _stages(values: Values, title: str) -> Iterator[tuple[str, Values]]:
    """Name the stages, by number where there are several."""
    for index, stage in enumerate(values["stages"]):
        yield f"{title}, stage {index}" if len(values["stages"]) > 1 else title, stage


def print_report(report: Values, console: Console, *, title: str) -> None:
    """Print a stage's report as tables: sources, what was dropped and why, and the distances it trains."""
    console.print(
        f"\n{title}: {report['tokens']:,} tokens in {report['packs']:,} packs of {report['length']:,}, "
        f"{report['padding']:,} padding, {report['trained_tokens']:,} trained\n"
        f"corpus {report['corpus_fingerprint'][:12]}, plan {report['fingerprint'][:12]} "
        f"in {report['folder']}",
        markup=False,
    )
    for line in seen_lines(report["seen"], held=report["tokens"]):
        console.print(line, markup=False)
    for folder, size in report["unfinished"].items():
        console.print(
            f"{folder}: {size:,} bytes of work that was not finished, of another recipe, tokenizer or input; "
            "delete it if nobody goes on with it",
            markup=False,
        )
    _print_sources(report, console)
    _print_left_out(report, console)
    _print_dropped(report, console)
    _print_distances(report, console)


def print_preview(preview: Values, console: Console, *, title: str) -> None:
    """Print what a stage's data would be: what there is, what is asked of it, its cost and its distances."""
    console.print(
        f"\n{title}: {preview['tokens']:,} tokens in about {preview['packs']:,} packs of "
        f"{preview['length']:,}, {preview['padding_share']:.2%} padding, "
        f"{preview['pairs_per_token']:,.0f} query-key pairs a token\n"
        f"from a sample of {preview['sample_bytes'] / 1e6:,.1f} MB: {preview['disk_bytes'] / 1e9:,.3g} GB on "
        f"disk, {preview['hours']:,.2g} hours on {preview['workers']} cores\n{preview['engine']}",
        markup=False,
    )
    for line in seen_lines(preview["seen"], held=preview["tokens"]):
        console.print(f"estimated: {line}", markup=False)
    for line in preview["warnings"]:
        console.print(f"warning, estimated: {line}", markup=False, soft_wrap=True)
    head = ("there is", "read", "text, MB", "documents to train", "tokens", "bytes a token")
    print_table(head, (_there(name, source) for name, source in preview["there"].items()), console)
    _print_left_out(preview, console)
    _print_sources(preview, console)
    lengths = (
        (bucket["source"], *(f"{bucket[key]:,}" for key in ("start", "documents", "tokens")))
        for bucket in preview["buckets"]
    )
    print_table(("source", "documents from", "documents", "tokens"), lengths, console)
    _print_dropped(preview, console)
    _print_distances(preview, console)


def _there(name: str, source: Values) -> list[str]:
    return [
        name,
        "all" if source["share"] == 1 else f"1/{1 / source['share']:,.0f}",
        f"{source['text_bytes'] / 1e6:,.1f}",
        f"{source['documents']:,}",
        f"{source['tokens']:,}",
        f"{source['bytes_per_token']:.2f}",
    ]


def _print_sources(report: Values, console: Console) -> None:
    rows = (
        (name, _amounts(source["requested"]), _amounts(source["achieved"]))
        for name, source in report["sources"].items()
    )
    print_table(("source", "requested", "achieved"), rows, console)


def seen_lines(seen: Values, *, held: int) -> Iterator[str]:
    """Say where training sees less than is held, or asks for more."""
    asked, packs = seen["asked_packs"], seen["held_packs"]
    if asked > packs:
        yield (
            f"training asks for {asked:,} packs (steps x batch_tokens / length), the plan holds {packs:,}: "
            "raise data.tokens or lower train.steps"
        )
    elif asked < packs:
        yield (
            f"training sees {seen['tokens']:,} of the {held:,} tokens that are held: {asked:,} of {packs:,} "
            f"packs, for steps x batch_tokens count padding too"
            + (f"; {seen['most_steps']:,} train.steps see more" if seen["most_steps"] > seen["steps"] else "")
        )


def _print_left_out(report: Values, console: Console) -> None:
    """Say what lies beside the files that are read, and why it is not."""
    rows = [
        (source, reason.replace("_", " "), _amounts(amount))
        for source, reasons in report["left_out"].items()
        for reason, amount in reasons.items()
    ]
    if rows:
        print_table(("source", "not read because", "how much"), rows, console)


def _print_dropped(report: Values, console: Console) -> None:
    if not report["dropped"]:
        console.print("dropped nothing")
        return
    rows = ((reason, _amounts(amount)) for reason, amount in report["dropped"].items())
    print_table(("dropped because", "how much"), rows, console)


def _print_distances(report: Values, console: Console) -> None:
    pairs = sum(octave["pairs"] for octave in report["coverage"]) or 1
    rows = (
        (
            f"{octave['start']:,} to {octave['stop'] - 1:,}",
            f"{octave['tokens']:,}",
            f"{octave['pairs']:,}",
            f"{octave['pairs'] / pairs:.1%}",
        )
        for octave in report["coverage"]
    )
    print_table(("distance, tokens", "tokens", "query-key pairs", "share"), rows, console)


def _amounts(amount: Any) -> str:
    """Write counts with thousands and shares as percentages, whatever their names."""
    if isinstance(amount, dict):
        return ", ".join(
            f"{_amounts(value)} {name.removesuffix('s') if value == 1 and isinstance(value, int) else name}"
            for name, value in amount.items()
            if value is not None
        )
    if isinstance(amount, float):
        return f"{amount:.1%}"
    return f"{amount:,}" if isinstance(amount, int) else str(amount)


def print_tasks(values: Values, console: Console) -> None:
    """Say how far the units of each store are."""
    for task in values["stores"]:
        state = f"{task['units']} of {task['of']} units are done" if task["of"] else "merged already"
        console.print(f"task {task['task']} with {task['engine']}: {state} in {task['folder']}", markup=False)


def print_check(values: Values, console: Console) -> None:
    console.print(f"{values['files']:,} files are what they were when written", markup=False)


def print_packs(packs: list[Values], console: Console) -> None:
    """Print the segments of some packs, each with where it comes from and how it begins."""
    for pack in packs:
        spans = ", ".join(f"{start:,} to {stop:,}" for start, stop in pack["groups"])
        console.print(
            f"\npack {pack['pack']}: {pack['tokens']:,} tokens, {pack['trained']:,} trained; "
            f"attention in {spans}",
            markup=False,
        )
        head = ("source", "document", "from token", "tokens", "position", "begins")
        print_table(head, map(_segment, pack["segments"]), console)


def _segment(segment: Values) -> list[str]:
    numbers = (f"{segment[key]:,}" for key in ("start", "tokens", "position"))
    return [segment["source"], segment["id"], *numbers, repr(segment["begins"])[:48]]
