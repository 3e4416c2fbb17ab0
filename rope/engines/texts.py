"""What do the texts of a model folder say? JSON objects, each read once, or refused by its name."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from tokenizers import Tokenizer

from ..families import completed
from ..fields import Values, wrong_fields, wrong_values
from ..folder import fetching
from ..knobs import LARGEST, Theta, Tokens
from ..scheme import RopeError
from .reader import Config

Length = Annotated[float, Field(gt=0, le=LARGEST, allow_inf_nan=False)]
"tokens; tokenizers write 1e30 for no end"


class _Tokenizer(Values):
    model_max_length: Length | None = None


class _Generation(Values):
    max_length: Length | None = None


OF_ALL_PARTS = ("quantization_config", "tie_word_embeddings")
"what a model that has a language model inside says of its weights"
BESIDE = {"tokenizer_config.json": _Tokenizer, "generation_config.json": _Generation}


class _Rope(Values):
    scheme: str
    knobs: dict[str, Any]
    theta: Theta
    original_length: Tokens
    target_length: Tokens
    fingerprint: str


class _Ours(Values):
    rope: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Texts:
    """The texts of a folder that say how a model is run; None where there is no such file."""

    config: Config
    "of the language model, where the folder's model has other parts too"
    tokenizer: Config | None
    generation: Config | None
    ours: Config | None
    "ropewalk.json: what the weights were trained with"

    def faults(self) -> Iterator[str]:
        """Yield what is wrong with single values: nothing can be computed from them."""
        yield from wrong_fields(self.config)
        yield from wrong_values(_Tokenizer, self.tokenizer or {}, "tokenizer_config.json ")
        yield from wrong_values(_Generation, self.generation or {}, "generation_config.json ")
        yield from our_faults(self.ours) if self.ours is not None else ()


def our_faults(ours: Config) -> Iterator[str]:
    """Yield what is wrong with single values of ropewalk.json, all of which must be there."""
    if ours.get("format") != 1:
        yield (
            f"ropewalk.json: format must be 1, got {ours.get('format')!r}; read it with the ropewalk that "
            "wrote it"
        )
        return
    wrong = list(wrong_values(_Ours, ours, "ropewalk.json "))
    yield from wrong or wrong_values(_Rope, ours["rope"], "ropewalk.json rope.")


def text_problems(folder: Path) -> Iterator[str]:
    """Yield what is wrong with the texts beside a config, each by itself."""
    for name, kind in BESIDE.items():
        try:
            yield from wrong_values(kind, read_object(folder, name) or {}, f"{name} ")
        except RopeError as error:
            yield str(error)


def tokenizer_faults(folder: Path) -> Iterator[str]:
    """Yield what would never end for whoever looks for a tokenizer, and one that does not load."""
    strange = [path for path in folder.iterdir() if _endless(path)]
    yield from (f"{path.name}: must be a file, got a pipe or a device; delete it" for path in strange)
    file = folder / "tokenizer.json"
    try:
        if file.exists() and not strange:
            Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises bare Exception
        yield f"{file.name}: must be a tokenizer that loads, got {error}; take the one of the model"


def read_texts(folder: Path) -> Texts:
    """Read the texts of a Hugging Face folder."""
    if folder.is_file():
        raise RopeError(
            f"{folder}: must be a Hugging Face folder, got a file; name the folder it was made from (the row "
            "llama.cpp tells what its converter makes of that one)"
        )
    config = read_object(folder, "config.json")
    if config is None:
        raise RopeError(
            f"{folder}: must be a Hugging Face folder, got no config.json in it; name the folder of one"
            f"{fetching(folder)}"
        )
    return Texts(
        config=language_part(config),
        tokenizer=read_object(folder, "tokenizer_config.json"),
        generation=read_object(folder, "generation_config.json"),
        ours=read_object(folder, "ropewalk.json"),
    )


def language_part(config: Config) -> Config:
    """Return the config of the language model, complete; one that sees images too has it inside."""
    inside = config.get("text_config")
    if not isinstance(inside, Mapping) or "model_type" not in inside:
        return completed(config)
    return completed({**inside, **{key: config[key] for key in OF_ALL_PARTS if key in config}})


def read_object(folder: Path, name: str) -> dict[str, Any] | None:
    """Read the object in a file of a folder; None where there is none."""
    file = folder / name
    try:
        if _endless(file):
            raise OSError(errno.EINVAL, "a pipe or a device")
        values = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RopeError(
            f"{file}: must be a file that can be read, got {error.strerror}; repair it"
        ) from error
    except (ValueError, RecursionError) as error:
        raise RopeError(f"{file}: must be JSON, got {error}; repair it") from error
    if not isinstance(values, dict):
        raise RopeError(f"{file}: must hold an object, got {type(values).__name__}; repair it")
    return values


def _endless(file: Path) -> bool:
    """Say whether reading might never end, as of a pipe."""
    return file.exists() and not file.is_file() and not file.is_dir()
