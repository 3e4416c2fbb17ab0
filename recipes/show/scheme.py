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
from .console import print_rows, print_table

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
    analysis = analyse(frequencies, base, target_length=window, reach=reach or 1.0)
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
        "window_factor": analysis.factor,
        "critical_dimension": analysis.critical_dimension,
        "base_lower_bound": base_lower_bound(base.rotary_dim, window),
        "positive_until": analysis.positive_until,
        "wavelength": analysis.wavelength.tolist(),
        "lambda": analysis.divisor.tolist(),
        "turns": {"original": analysis.turns_original.tolist(), "target": analysis.turns_target.tolist()},
        "regions": analysis.regions,
        "unseen": [row.nonzero()[0].tolist() for row in analysis.unseen],
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
    answer = serving(scheme, base, target_length=target_length, engine=engine)
    config = dict(answer.config or {})
    return {
        "serves": answer.verdict != "no",
        "verdict": answer.verdict,
        "why": answer.why,
        "how": answer.how,
        "source": answer.source,
        "flags": list(answer.flags),
        "rope_parameters": config.get("rope_parameters"),
        "config": config or None,
    }


def describe(name: str, base: Base) -> dict[str, Any]:
    """Tell a scheme's source, its knobs with their defaults, and who serves these at 4 times the window."""
    kind = SCHEMES[name]
    source = (inspect.getmodule(kind).__doc__ or "").partition("\n")[0]
    served = {engine: _served(kind(), base, 4 * base.original_length, engine) for engine in ENGINES}
    return {
        "scheme": name,
        "source": source,
        "training_free": kind.training_free,
        "knobs": kind().knobs,
        "engines": {engine: one["verdict"] for engine, one in served.items()},
    }


def print_schemes(described: Sequence[Numbers], base: Base, console: Console) -> None:
    """Print who serves each scheme, then where it is from and what can be set."""
    console.width = min(console.width, WIDTH)
    marks = (
        (
            row["scheme"],
            "yes" if row["training_free"] else "",
            *(MARKS[row["engines"][engine]] for engine in ENGINES),
        )
        for row in described
    )
    print_table(("scheme", "training-free", *ENGINES), marks, console)
    almost = MARKS["difference"]
    console.print(
        f"At {4 * base.original_length:,} tokens of Llama 3 8B, knobs as below. {almost}: with a "
        "difference that `rope show` names.\n"
    )
    about = ((row["scheme"], f"{row['source']}\n{_knobs(row['knobs'])}".strip()) for row in described)
    print_rows(about, console, title="where from, and what to set (without a value: derived)")


def print_numbers(values: Numbers, console: Console) -> None:
    """Print a block of facts and a line a pair."""
    console.width = min(console.width, WIDTH)
    knobs = {name: value for name, value in values["knobs"].items() if value is not None}
    print_rows(_facts(values), console, title=f"{values['scheme']} {_knobs(knobs, ' ')}")
    console.print()
    console.print(_pairs(values))


def _facts(values: Numbers) -> list[tuple[str, str]]:
    """Put the values of the whole scheme into words."""
    original, target = values["original_length"], values["target_length"]
    reach = "" if values["reach"] is None else f", reach {values['reach']:.4g}"
    scale = f"stretch {values['stretch']:.4g}{reach}, attention scale {values['attention_scale']:.4g}"
    first = f"; the first {values['first_tokens']} tokens unscaled" if values["first_tokens"] else ""
    return [
        ("window", f"{original:,} to {target:,} tokens, factor {values['factor']:g}"),
        ("scale", scale + first),
        ("pairs", _regions(values)),
        ("critical dimension", _critical(values)),
        ("attention decay", _decays(values)),
        ("base lower bound", _bound(values)),
        *_engines(values),
        ("fingerprint", values["fingerprint"][:12]),
    ]


def _regions(values: Numbers) -> str:
    """Count what happens to the pairs, of all heads."""
    counts = Counter(region for row in values["regions"] for region in row)
    of = f" in {len(values['regions'])} heads" if len(values["regions"]) > 1 else ""
    unseen = sum(map(len, values["unseen"]))
    meets = f"{unseen or 'none'} with angles that pretraining never showed"
    return ", ".join(f"{count} {region}" for region, count in counts.items()) + f"{of}; {meets}"


def _critical(values: Numbers) -> str:
    """Say which pairs made no whole turn in pretraining."""
    dimension, pairs = values["critical_dimension"], values["rotary_dim"] // 2
    if dimension == values["rotary_dim"]:
        return f"none: every pair made a whole turn in {values['original_length']:,} tokens"
    which, length = f"pairs {dimension // 2} to {pairs - 1}", values["original_length"]
    return f"{dimension} of {values['rotary_dim']}: {which} made no whole turn in {length:,} tokens"


def _decays(values: Numbers) -> str:
    """Say from which distance on like tokens may repel each other."""
    until = [value for value in values["positive_until"] if value is not None]
    apart = "relative position" if values["reach"] else "tokens apart"
    if not until:
        return f"q.k of like tokens stays positive up to {values['target_length']:,} tokens"
    heads = (
        f", in {len(until)} of {len(values['positive_until'])} heads" if len(values["inv_freq"]) > 1 else ""
    )
    return f"q.k of like tokens first turns negative {_range(until)} {apart}{heads}"


def _bound(values: Numbers) -> str:
    """Say which plain theta would keep it positive."""
    bound = values["base_lower_bound"]
    least = f"theta {bound:.1e}".replace("e+0", "e") if bound else "none that holds"
    return f"{least} for {values['target_length']:,} tokens; the model's is {values['theta']:g}"


def _engines(values: Numbers) -> list[tuple[str, str]]:
    """Say who serves the scheme and how, engines of one answer together."""
    said: dict[str, list[str]] = {}
    for engine, one in values["engines"].items():
        flags = f"; start it with {' '.join(one['flags'])}" if one["flags"] else ""
        said.setdefault(f"{SAID[one['verdict']]} {one['why']}".strip() + flags, []).append(engine)
    lines = (f"{', '.join(engines)}: {words}" for words, engines in said.items())
    return list(zip(chain(["engines"], repeat("")), lines, strict=False))


def _pairs(values: Numbers) -> Table:
    """Return the table of the pairs; where heads differ, from the least to the largest."""
    alone = len(values["inv_freq"]) == 1
    windows = (f"turns in {values[name]:,}" for name in ("original_length", "target_length"))
    table = Table(box=None, pad_edge=False)
    for head in ("pair", "wavelength", "lambda", *windows, *(["inv_freq"] if alone else [])):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("region")
    columns = (zip(*values[name], strict=True) for name in ("wavelength", "lambda", "inv_freq", "regions"))
    turns = zip(values["turns"]["original"], zip(*values["turns"]["target"], strict=True), strict=True)
    for pair, (wave, divisor, speed, region, (before, after)) in enumerate(zip(*columns, turns, strict=True)):
        unseen = any(pair in row for row in values["unseen"])
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
