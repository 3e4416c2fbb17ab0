"""Are the weight files of a folder whole, and do they fit its config? By their headers; no tensor is read."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from ..families import SUPPORTED
from ..fields import wrong_fields
from ..knobs import shown
from ..scheme import RopeError
from .reader import Config
from .tensors import HEAD, Shape, Wanted, tied, wanted_tensors
from .texts import language_part, read_object

ONE, INDEX = "model.safetensors", "model.safetensors.index.json"
"what transformers looks for, in this order"
PICKLES = "pytorch_model*.bin"
OUTER, LAYER = re.compile(r"^(?:(?:language_|text_)?model\.)+"), re.compile(r"layers\.(\d+)\.")
"what may stand before a tensor's name, as in models that see images too; and the layer in it"
ANGLES = "rotary_emb."
"what old checkpoints keep of the rotation, which readers compute"
FLOATS = ("F64", "F32", "F16", "BF16")
ITS_CONFIG = "take the config.json that belongs to these weights"
AGAIN = "fetch it again (where it is a pointer: git lfs pull)"


@dataclass(frozen=True, kw_only=True)
class Weights:
    """What a folder's weight files say of themselves."""

    shapes: Mapping[str, Shape]
    "of each tensor"
    types: Mapping[str, str]
    "of each tensor's values, as safetensors calls them"
    faults: tuple[str, ...]
    "what is wrong with the files, each by its name"
    pickles: tuple[str, ...]
    "the files that hold the weights where no safetensors file does; none is opened"


def read_weights(folder: Path) -> Weights:
    """Read the headers of the files that transformers would load."""
    shapes: dict[str, Shape] = {}
    types: dict[str, str] = {}
    faults: list[str] = []
    try:
        places = _places(folder)
    except RopeError as error:
        places, faults = {}, [str(error)]
    for name, promised in places.items():
        try:
            held = _header(folder / name)
        except RopeError as error:
            faults.append(str(error))
            continue
        shapes |= {tensor: shape for tensor, (shape, _) in held.items()}
        types |= {tensor: of for tensor, (_, of) in held.items()}
        if absent := promised - set(held):
            faults.append(f"{name}: must hold what {INDEX} places in it, got no {some(absent)}; {AGAIN}")
    if empty := [name for name, shape in shapes.items() if 0 in shape]:
        faults.append(f"weights: every tensor must have values, got none in {some(empty)}; save them again")
    pickles = (
        ()
        if places or faults
        else tuple(sorted(file.name for file in folder.glob(PICKLES) if file.is_file()))
    )
    return Weights(shapes=shapes, types=types, faults=tuple(faults), pickles=tuple(sorted(pickles)))


def _places(folder: Path) -> Mapping[str, set[str]]:
    """Return the weight files, and which tensors the index says each of them holds."""
    if (folder / ONE).exists():
        return {ONE: set()}
    if not (folder / INDEX).exists():
        return {}
    places: defaultdict[str, set[str]] = defaultdict(set)
    try:
        placed = (read_object(folder, INDEX) or {})["weight_map"]
        for tensor, file in placed.items():
            places[str(file)].add(tensor)
    except (RopeError, LookupError, TypeError, AttributeError) as error:
        raise RopeError(
            f"{INDEX}: must be JSON that maps tensors to files, got {error!r}; {AGAIN}"
        ) from error
    return places


def _header(file: Path) -> dict[str, tuple[Shape, str]]:
    """Return the shapes and types in a file whose header fits its size, to the byte."""
    got = "no file"
    try:
        if file.is_file():  # anything else, a pipe, might never end
            got = f"{file.stat().st_size:,} bytes"
            with safe_open(file, "np") as opened:
                slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118
                return {name: (tuple(one.get_shape()), one.get_dtype()) for name, one in slices.items()}
    except (OSError, SafetensorError) as error:
        got += f" ({error})"
    raise RopeError(f"{file.name}: must be a whole safetensors file, got {got}; {AGAIN}")


def weight_problems(folder: Path) -> list[str]:
    """Return all that is wrong with the weights that are in a folder, for whoever loads them to compute."""
    weights = read_weights(folder)
    try:
        config = language_part(read_object(folder, "config.json") or {})
    except RopeError:  # said where the config is read
        config = {}
    problems = [*weights.faults, *(() if any(wrong_fields(config)) else misfits(weights, config))]
    if found := quantised(config):
        problems.append(
            f"config.quantization_config: must not be there, as all weights are computed with in full, got "
            f"{found}; take the model that is not quantised"
        )
    return problems


def missing_weights(folder: Path) -> list[str]:
    """Return that there are none, if so."""
    weights = read_weights(folder)
    if weights.shapes or weights.pickles or weights.faults:
        return []
    return [f"weights: must be in {ONE}, or in parts with {INDEX}, got neither; put them there"]


def quantised(config: Config) -> str | None:
    """Return how a model is quantised, if it is."""
    stated = config.get("quantization_config")
    method = stated.get("quant_method") if isinstance(stated, Mapping) else None
    return str(method or shown(stated)) if stated else None


def misfits(weights: Weights, config: Config) -> Iterator[str]:
    """Yield where tensors are missing, strange, or of other shapes or types than the config says.

    Only for models that we know; a quantised one has tensors of its own.
    """
    known = config.get("model_type") in SUPPORTED and not quantised(config)
    # Where a file is broken its tensors are missing for that reason.
    if not known or weights.faults or not weights.shapes:
        return
    held = {OUTER.sub("", name): name for name in weights.shapes}
    layers = {int(found[1]) for name in held if (found := LAYER.match(name))}
    count = config.get("num_hidden_layers")
    if count is not None and set(range(count)) != layers:
        yield (
            f"weights: must be those of config.num_hidden_layers = {count} layers, got {len(layers)}"
            f"{f', up to layer {max(layers)}' if layers else ''}; {ITS_CONFIG}"
        )
    wanted = dict(wanted_tensors(config, sorted(layers)))
    yield from _unlike(weights, held, wanted)
    if missing := wanted.keys() - held.keys() - ({HEAD} if tied(config) else set()):
        yield f"weights: must hold {some(missing)}, got none, which readers draw at random; save them again"
    if strange := [name for name in held if LAYER.match(name) and name not in wanted and ANGLES not in name]:
        yield (
            f"weights: must hold in a layer only what {config['model_type']} has by config.json, got "
            f"{some(strange)}, which readers leave out; {ITS_CONFIG}"
        )


def _unlike(weights: Weights, held: Mapping[str, str], wanted: Mapping[str, Wanted]) -> Iterator[str]:
    """Find tensors of another shape, one line for those of all layers, and of a type that is no float."""
    there = [name for name in wanted if name in held]
    unlike: dict[str, str] = {}
    for name in there:
        want, got = wanted[name], weights.shapes[held[name]]
        if not _fits(got, want):
            unlike.setdefault(LAYER.sub("", name), f"{_by(want)} by config.json, got {_by(got)}")
    for name, told in unlike.items():
        yield f"weights: {name} must be {told}; {ITS_CONFIG}"
    types = {name: weights.types[held[name]] for name in there}
    if others := [name for name in there if types[name] not in FLOATS]:
        yield (
            f"weights: must be of {', '.join(FLOATS)}, got {types[others[0]]} in {some(others)}; take the "
            "model that is not quantised"
        )


def _fits(got: Shape, wanted: Sequence[int | None]) -> bool:
    return len(got) == len(wanted) and all(
        want in (None, have) for have, want in zip(got, wanted, strict=True)
    )


def _by(shape: Sequence[int | None]) -> str:
    """Write a shape, in which a number may be left open."""
    return " x ".join("?" if size is None else str(size) for size in shape)


def some(names: Collection[str]) -> str:
    """Name a few of many."""
    first = ", ".join(sorted(names)[:3])
    return first if len(names) <= 3 else f"{first} and {len(names) - 3} more"
