"""Are the weight files of a folder whole, and do they fit its config? By their headers; no tensor is read."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from ..families import SUPPORTED
from ..fields import wrong_fields
from ..scheme import RopeError
from .reader import Config
from .texts import read_texts
from .transformers import HEAD_DIM

Shape = tuple[int, ...]
ONE, INDEX = "model.safetensors", "model.safetensors.index.json"
"what transformers looks for, in this order"
PICKLES = "pytorch_model*.bin"
LAYER = re.compile(r"(?:model\.)?layers\.(\d+)\.(.+)")
AGAIN = "fetch it again (where it is a pointer: git lfs pull)"


@dataclass(frozen=True, kw_only=True)
class Weights:
    """What a folder's weight files say of themselves."""

    shapes: Mapping[str, Shape]
    "of each tensor"
    faults: tuple[str, ...]
    "what is wrong with the files, each by its name"
    pickles: tuple[str, ...]
    "the files that hold the weights where no safetensors file does; none is opened"


def read_weights(folder: Path) -> Weights:
    """Read the headers of the files that transformers would load."""
    shapes: dict[str, Shape] = {}
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
        shapes |= held
        if absent := promised - set(held):
            faults.append(f"{name}: must hold what {INDEX} places in it, got no {_some(absent)}; {AGAIN}")
    if empty := [name for name, shape in shapes.items() if 0 in shape]:
        faults.append(f"weights: every tensor must have values, got none in {_some(empty)}; save them again")
    pickles = () if places or faults else tuple(sorted(file.name for file in folder.glob(PICKLES)))
    return Weights(shapes=shapes, faults=tuple(faults), pickles=pickles)


def _places(folder: Path) -> Mapping[str, set[str]]:
    """Return the weight files, and which tensors the index says each of them holds."""
    if (folder / ONE).exists():
        return {ONE: set()}
    if not (folder / INDEX).exists():
        return {}
    places: defaultdict[str, set[str]] = defaultdict(set)
    try:
        placed = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"]
        for tensor, file in placed.items():
            places[str(file)].add(tensor)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise RopeError(
            f"{INDEX}: must be JSON that maps tensors to files, got {error!r}; {AGAIN}"
        ) from error
    return places


def _header(file: Path) -> dict[str, Shape]:
    """Return the shapes of a file whose header fits its size, to the byte."""
    try:
        with safe_open(file, "np") as opened:
            return {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        got = f"{file.stat().st_size:,} bytes ({error})" if file.is_file() else "no file"
        raise RopeError(f"{file.name}: must be a whole safetensors file, got {got}; {AGAIN}") from error


def weight_problems(folder: Path) -> list[str]:
    """Return all that is wrong with the weights that are in a folder."""
    weights = read_weights(folder)
    try:
        config = read_texts(folder).config
    except RopeError:  # said where the config is read
        config = {}
    return [*weights.faults, *(() if any(wrong_fields(config)) else misfits(weights, config))]


def missing_weights(folder: Path) -> list[str]:
    """Return that there are none, if so."""
    weights = read_weights(folder)
    if weights.shapes or weights.pickles or weights.faults:
        return []
    return [f"weights: must be in {ONE}, or in parts with {INDEX}, got neither; put them there"]


def misfits(weights: Weights, config: Config) -> Iterator[str]:
    """Yield where tensors are missing, or have other shapes than the config says.

    Only for models that we know, whose layers are alike; a quantised one has tensors of other shapes.
    """
    layers: defaultdict[int, dict[str, Shape]] = defaultdict(dict)
    for name, shape in weights.shapes.items():
        if found := LAYER.fullmatch(name):
            layers[int(found[1])][found[2]] = shape
    known = config.get("model_type") in SUPPORTED and not config.get("quantization_config")
    # Where a file is broken its tensors are missing for that reason.
    if not known or not layers or weights.faults:
        return
    yield from _layer_misfits(layers, config)
    rest = {name.removeprefix("model."): shape for name, shape in weights.shapes.items()}
    for name, shape in _wanted(config):
        got = rest.get(name) or layers[min(layers)].get(name)
        if got is not None and not _fits(got, shape):
            yield (
                f"weights: {name} must be {_by(shape)} by config.json, got {_by(got)}; take the config.json "
                "that belongs to these weights"
            )
    tied = config.get("tie_word_embeddings", config["model_type"] == "gemma3_text")
    for name in ("embed_tokens.weight", "norm.weight", *(() if tied else ("lm_head.weight",))):
        if name not in rest:
            yield f"weights: must hold {name}, got none, which readers draw at random; save them again"


def _layer_misfits(layers: Mapping[int, Mapping[str, Shape]], config: Config) -> Iterator[str]:
    """Find layers without weights, weights without a layer, and layers that are not like most."""
    count = config.get("num_hidden_layers")
    if count is not None and set(range(count)) != set(layers):
        yield (
            f"weights: must be those of config.num_hidden_layers = {count} layers, got {len(layers)}, up to "
            f"layer {max(layers)}; take the config.json that belongs to these weights"
        )
    every = {name for held in layers.values() for name in held}
    if lacking := [f"layers.{at}.{name}" for at, held in layers.items() for name in every - set(held)]:
        yield (
            f"weights: every layer must have the same tensors, got no {_some(lacking)}, which readers draw "
            "at random; save them again"
        )


def _wanted(config: Config) -> Iterator[tuple[str, tuple[int | None, ...]]]:
    """Yield tensors and their shapes by the config, None where it does not say."""
    width, heads = config.get("hidden_size"), config.get("num_attention_heads")
    yield from (
        (name, (config.get("vocab_size"), width)) for name in ("embed_tokens.weight", "lm_head.weight")
    )
    kv_heads, size = config.get("num_key_value_heads", heads), config.get("head_dim")
    if size is None and width and heads and config["model_type"] not in HEAD_DIM:
        size = width // heads
    if heads is not None and kv_heads is not None and size is not None:
        yield "self_attn.q_proj.weight", (heads * size, width)
        yield "self_attn.k_proj.weight", (kv_heads * size, width)
        yield "self_attn.qkv_proj.weight", ((heads + 2 * kv_heads) * size, width)


def _fits(got: Shape, wanted: Sequence[int | None]) -> bool:
    return len(got) == len(wanted) and all(
        want in (None, have) for have, want in zip(got, wanted, strict=True)
    )


def _by(shape: Sequence[int | None]) -> str:
    """Write a shape, in which a number may be left open."""
    return " x ".join("?" if size is None else str(size) for size in shape)


def _some(names: Collection[str]) -> str:
    """Name a few of many."""
    first = ", ".join(sorted(names)[:3])
    return first if len(names) <= 3 else f"{first} and {len(names) - 3} more"
