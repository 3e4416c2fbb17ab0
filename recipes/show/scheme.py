"""What is there to say about a scheme? The numbers of `rope list` and `rope show`, and their tables."""

from __future__ import annotations

import inspect
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain, repeat
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from ...rope import SCHEMES, Base, Frequencies, Scheme
from ...rope.analysis import analyse, attention_decay, base_lower_bound, relative_positions
from ...rope.engines import ENGINES, serving
from .tables import print_rows

Numbers = Mapping[str, Any]
WIDTH = 100
"columns of a terminal that every table fits"
MARKS = {"exact": "yes", "difference": "almost", "no": "-"}
SAID = {"exact": "served exactly", "difference": "served, but", "no": "not served:"}
POINTS = 256
"distances at which attention decay is told, evenly spaced on a log scale"


def numbers(scheme: Scheme, base: Base, *, target_length: int, length: int | None = None) -> dict[str, Any]:
    """Return everything `rope show` tells, as JSON values; lists of lists have a row a head that differs."""
    frequencies = scheme.frequencies(base, target_length=target_length, length=length)
    window = target_length if length is None else length
    reach = getattr(scheme, "reach", lambda *_, **__: None)(base, target_length=target_length)
    told = analyse(frequencies, base, target_length=window, reach=reach or 1.0)
    return {
        "scheme": scheme.name,
        "knobs": dict(scheme.knobs),
        "factor": scheme.knobs.get("factor") or target_length / base.original_length,
        "stretch": frequencies.stretch(base),
        "reach": reach,
        "inv_freq": frequencies.inv_freq.tolist(),
        "attention_scale": frequencies.attention_scale,
        "first_tokens": frequencies.first_tokens,
        "fingerprint": frequencies.fingerprint,
        "theta": base.theta,
        "rotary_dim": base.rotary_dim,
        "original_length": base.original_length,
        "target_length": window,
        "window_factor": told.factor,
        "critical_dimension": told.critical_dimension,
        "base_lower_bound": base_lower_bound(base.rotary_dim, window),
        "positive_until": told.positive_until,
        "wavelength": told.wavelength.tolist(),
        "lambda": told.divisor.tolist(),
        "turns": {"original": told.turns_original.tolist(), "target": told.turns_target.tolist()},
        "regions": told.regions,
        "unseen": [row.nonzero()[0].tolist() for row in told.unseen],
        "decay": _decay(scheme, base, frequencies, window),
        "engines": {engine: _served(scheme, base, target_length, engine) for engine in ENGINES},
    }


def _decay(scheme: Scheme, base: Base, frequencies: Frequencies, window: int) -> dict[str, Any]:
    """Tell how q.k of like tokens fades with distance, by the scheme and without it."""
    points = np.logspace(0, math.log10(max(window - 1, 1)), POINTS)
    distances = np.unique(points.round().astype(np.int64))
    relative = relative_positions(scheme, base, distances, target_length=window)
    unscaled = Frequencies(inv_freq=base.unscaled()[None])
    return {
        "distance": distances.tolist(),
        "relative_position": relative.tolist(),
        "scheme": attention_decay(frequencies, relative).tolist(),
        "unscaled": attention_decay(unscaled, distances)[0].tolist(),
    }


def _served(scheme: Scheme, base: Base, target_length: int, engine: str) -> dict[str, Any]:
    """Tell whether an engine serves the scheme, and by which config."""
    found = serving(scheme, base, target_length=target_length, engine=engine)
    config = dict(found.config or {})
    return {
        "serves": found.verdict != "no",
        "verdict": found.verdict,
        "why": found.why,
        "how": found.how,
        "source": found.source,
        "flags": list(found.flags),
        "rope_parameters": config.get("rope_parameters"),
        "config": config or None,
    }


def describe(name: str, base: Base) -> dict[str, Any]:
    """Tell a scheme's source, its knobs with their defaults, and who serves these at 4 times the window."""
    kind = SCHEMES[name]
    source = (inspect.getmodule(kind).__doc__ or "").partition("\n")[0]
    told = {"scheme": name, "source": source, "training_free": kind.training_free, "knobs": kind().knobs}
    served = {engine: _served(kind(), base, 4 * base.original_length, engine) for engine in ENGINES}
    return told | {"engines": {engine: one["verdict"] for engine, one in served.items()}}


def print_schemes(described: Sequence[Numbers], base: Base, console: Console) -> None:
    """Print who serves each scheme, then where it is from and what can be set."""
    console.width = min(console.width, WIDTH)
    marks = Table("scheme", "training-free", *ENGINES, box=None, pad_edge=False)
    for row in described:
        served = (MARKS[row["engines"][engine]] for engine in ENGINES)
        marks.add_row(row["scheme"], "yes" if row["training_free"] else "", *served)
    console.print(marks)
    almost = MARKS["difference"]
    console.print(
        f"At {4 * base.original_length:,} tokens of Llama 3 8B, knobs as below. {almost}: with a "
        "difference that `rope show` names.\n"
    )
    about = ((row["scheme"], f"{row['source']}\n{_knobs(row['knobs'])}".strip()) for row in described)
    print_rows(about, console, title="where from, and what to set (without a value: derived)")


def print_numbers(told: Numbers, console: Console) -> None:
    """Print a block of facts and a line a pair."""
    console.width = min(console.width, WIDTH)
    knobs = {name: value for name, value in told["knobs"].items() if value is not None}
    print_rows(_facts(told), console, title=f"{told['scheme']} {_knobs(knobs, ' ')}")
    console.print()
    console.print(_pairs(told))


def _facts(told: Numbers) -> list[tuple[str, str]]:
    """Put the numbers of the whole scheme into words."""
    original, target = told["original_length"], told["target_length"]
    reach = "" if told["reach"] is None else f", reach {told['reach']:.4g}"
    scale = f"stretch {told['stretch']:.4g}{reach}, attention scale {told['attention_scale']:.4g}"
    first = f"; the first {told['first_tokens']} tokens unscaled" if told["first_tokens"] else ""
    return [
        ("window", f"{original:,} to {target:,} tokens, factor {told['factor']:g}"),
        ("scale", scale + first),
        ("pairs", _regions(told)),
        ("critical dimension", _critical(told)),
        ("attention decay", _decays(told)),
        ("base lower bound", _bound(told)),
        *_engines(told),
        ("fingerprint", told["fingerprint"][:12]),
    ]


def _regions(told: Numbers) -> str:
    """Count what happens to the pairs, of all heads."""
    counts = Counter(region for row in told["regions"] for region in row)
    of = f" in {len(told['regions'])} heads" if len(told["regions"]) > 1 else ""
    unseen = sum(map(len, told["unseen"]))
    meets = f"{unseen or 'none'} with angles that pretraining never showed"
    return ", ".join(f"{count} {region}" for region, count in counts.items()) + f"{of}; {meets}"


def _critical(told: Numbers) -> str:
    """Say which pairs made no whole turn in pretraining."""
    dimension, pairs = told["critical_dimension"], told["rotary_dim"] // 2
    if dimension == told["rotary_dim"]:
        return f"none: every pair made a whole turn in {told['original_length']:,} tokens"
    which, length = f"pairs {dimension // 2} to {pairs - 1}", told["original_length"]
    return f"{dimension} of {told['rotary_dim']}: {which} made no whole turn in {length:,} tokens"


def _decays(told: Numbers) -> str:
    """Say from which distance on like tokens may repel each other."""
    until = [value for value in told["positive_until"] if value is not None]
    apart = "relative position" if told["reach"] else "tokens apart"
    if not until:
        return f"q.k of like tokens stays positive up to {told['target_length']:,} tokens"
    heads = f", in {len(until)} of {len(told['positive_until'])} heads" if len(told["inv_freq"]) > 1 else ""
    return f"q.k of like tokens first turns negative {_range(until)} {apart}{heads}"


def _bound(told: Numbers) -> str:
    """Say which plain theta would keep it positive."""
    bound = told["base_lower_bound"]
    least = f"theta {bound:.1e}".replace("e+0", "e") if bound else "none that holds"
    return f"{least} for {told['target_length']:,} tokens; the model's is {told['theta']:g}"


def _engines(told: Numbers) -> list[tuple[str, str]]:
    """Say who serves the scheme and how, engines of one answer together."""
    said: dict[str, list[str]] = {}
    for engine, one in told["engines"].items():
        verdict = {"exact": "served exactly", "difference": "served, but", "no": "not served:"}[
            one["verdict"]
        ]
        flags = f"; start it with {' '.join(one['flags'])}" if one["flags"] else ""
        said.setdefault(f"{verdict} {one['why']}".strip() + flags, []).append(engine)
    lines = (f"{', '.join(engines)}: {words}" for words, engines in said.items())
    return list(zip(chain(["engines"], repeat("")), lines, strict=False))


def _pairs(told: Numbers) -> Table:
    """Return the table of the pairs; where heads differ, from the least to the largest."""
    alone = len(told["inv_freq"]) == 1
    windows = (f"turns in {told[name]:,}" for name in ("original_length", "target_length"))
    table = Table(box=None, pad_edge=False)
    for head in ("pair", "wavelength", "lambda", *windows, *(["inv_freq"] if alone else [])):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("region")
    columns = (zip(*told[name], strict=True) for name in ("wavelength", "lambda", "inv_freq", "regions"))
    turns = zip(told["turns"]["original"], zip(*told["turns"]["target"], strict=True), strict=True)
    for pair, (wave, divisor, speed, region, (before, after)) in enumerate(zip(*columns, turns, strict=True)):
        unseen = any(pair in row for row in told["unseen"])
        words = " or ".join(dict.fromkeys(region)) + (", unseen angles" if unseen else "")
        cells = [_range(wave), _range(divisor), _number(before), _range(after)]
        table.add_row(str(pair), *cells, *([f"{speed[0]:.4e}"] if alone else []), words)
    return table


def _range(values: Sequence[float]) -> str:
    """Write one number, or the least and the largest."""
    least, largest = (_number(value) for value in (min(values), max(values)))
    return least if least == largest else f"{least}-{largest}"


def _number(value: float) -> str:
    """Write four digits, thousands and millions in full."""
    return f"{value / 1e6:.4g}M" if value >= 1e6 else f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _knobs(knobs: Mapping[str, Any], separator: str = ", ") -> str:
    """Write knobs as they are typed; those without a value by name alone."""
    return separator.join(
        name if value is None else f"{name}={_short(value)}" for name, value in knobs.items()
    )


def _short(value: Any) -> str:
    """Write a value as YAML, long lists and unset knobs left out."""
    if isinstance(value, Mapping):
        return (
            "{" + ", ".join(f"{name}: {_short(one)}" for name, one in value.items() if one is not None) + "}"
        )
    if isinstance(value, list | tuple) and len(value) > 4:
        return f"[{value[0]:g}, {value[1]:g}, ... {value[-1]:g}]"
    return str(value).lower() if isinstance(value, bool) else str(value)
