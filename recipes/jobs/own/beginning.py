"""What is known before any value is chosen: what a person asks, the model's facts, the text?"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from ....eval.paired import fewest
from ....rope import FULL, Base
from ....rope.families import whole
from ....rope.folder import fetching
from ....rope.hf import read_base
from ....rope.scheme import RopeError
from ....train.layout import MOST_ELEMENTS, divisors, legal_sequences
from ....train.settings import ModelSection
from ...language.check import ModelFacts, model_config
from ...language.errors import RecipeError
from .published import Published, nearest
from .text import Text, read_text

NODE = 8
"""The most GPUs of a machine."""
HOLDOUTS = (0.1, 0.2, 0.3)
"""Shares to hold out: a larger one where the documents of a smaller one are too few to tell anything."""
FEWEST = fewest()
LEAST_GROWTH = 1.2
"""Below it hardly a pair of tokens lies beyond the trained window, and `extend` would stop for that."""
UNWRITABLE = re.compile(r"\$\{|[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
"""What YAML cannot hold, or a recipe would fill in."""
SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a person says of the run."""

    model: str
    target_length: int
    gpus: int = NODE
    text: str | None = None
    field: str | None = None
    original_length: int | None = None
    trained_length: int | None = None

    @property
    def name(self) -> str:
        """Give the name of the model's folder, also where it is said as `.`."""
        return Path(os.path.abspath(Path(self.model).expanduser())).name

    @property
    def node(self) -> int:
        """Count the GPUs of a machine, as many as divide them all evenly."""
        return max(count for count in divisors(self.gpus) if count <= NODE)

    @property
    def stated(self) -> dict[str, int]:
        """Give the lengths that are said because no config says them."""
        lengths = {"original_length": self.original_length, "trained_length": self.trained_length}
        return {key: length for key, length in lengths.items() if length is not None}


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """The facts from which a recipe is made."""

    asked: Asked
    facts: ModelFacts
    parameters: float
    text: Text | None = None

    @property
    def base(self) -> Base:
        """Give the rotary facts of the layers that see the whole sequence."""
        return self.facts.bases[FULL]

    @property
    def trained(self) -> int:
        return self.facts.trained_length

    @property
    def target(self) -> int:
        return self.asked.target_length

    @property
    def long(self) -> int:
        """Give the tokens from which on a document is long: half of it lies beyond the trained window."""
        return min(2 * self.trained, self.target)

    @cached_property
    def published(self) -> Published:
        return nearest(self.parameters, self.target)

    @property
    def holdout(self) -> float:
        return HOLDOUTS[0] if self.text is None else self.text.holdout

    @cached_property
    def sequence(self) -> int:
        """Give the largest legal sequence degree in a machine, or beyond it the smallest that will do."""
        queries = self.facts.query_width * self.target
        inside = max(self._legal(self.asked.node))
        beyond = [degree for degree in self._legal(self.asked.gpus) if degree > inside]
        for degree in [inside, *beyond]:
            if queries // degree < MOST_ELEMENTS:
                return degree
        raise RecipeError(
            f"--gpus: must be so many that a GPU's queries stay below 2^31 elements, which is as far as the "
            f"kernels count, got {self.asked.gpus}, of which {max([inside, *beyond])} can share "
            f"{queries}; raise --gpus or lower --to"
        )

    def _legal(self, world: int) -> list[int]:
        """List the ranks that may share a pack of the whole window."""
        return legal_sequences(world, self.facts.heads, length=self.target)


def begin(asked: Asked) -> Beginning:
    """Read the model's facts and the text; refuse what no recipe can do."""
    _refuse_names(asked)
    model = ModelSection(path=asked.model)
    if not (Path(model.path or "") / "config.json").is_file():
        raise RecipeError(
            f"--model: must be a Hugging Face folder with a config.json, got {asked.model}; "
            f"correct the path{fetching(asked.model)}"
        )
    config = model_config(model)
    try:
        facts = ModelFacts(config=config, bases=read_base(config, **asked.stated))
        this = Beginning(asked=asked, facts=facts, parameters=parameters_of(facts))
    except RopeError as error:
        raise RecipeError(f"--model {asked.model}: {error}") from error
    if asked.target_length < (least := math.ceil(LEAST_GROWTH * facts.trained_length)):
        raise RecipeError(
            f"--to: must be at least {least}, a fifth more than {asked.model} was trained at, got "
            f"{asked.target_length}; raise it, or say --trained-length where its config claims too much"
        )
    if asked.text is None:
        return this
    return replace(this, text=_long_enough(this, asked.text, model.tokenizer_folder))


def parameters_of(facts: ModelFacts) -> float:
    """Estimate a model's parameters: attention, gated MLP, embeddings."""
    config, base = facts.config, facts.bases[FULL]
    hidden, inner, layers, words = (whole(config, key) for key in SIZES)
    attention = 2 * hidden * base.head_dim * (base.query_heads + base.kv_heads)
    tables = 1 if config.get("tie_word_embeddings") else 2
    return float(layers * (attention + 3 * hidden * inner) + tables * hidden * words)


def _refuse_names(asked: Asked) -> None:
    """Refuse names that would not be read as they are written."""
    names = (("--model", asked.model), ("--model", asked.name), ("--text", asked.text))
    lines = [
        f"{option}: must be printable UTF-8 without ${{, which recipes fill in, got {name!r}; rename it, or "
        "write out what it stands for"
        for option, name in (*names, ("--text-field", asked.field))
        if UNWRITABLE.search(name or "")
    ]
    if lines:
        raise RecipeError("\n".join(dict.fromkeys(lines)))


def _long_enough(this: Beginning, folder: str, tokenizer: Path) -> Text:
    text = _held_out(this, folder, tokenizer)
    if not text.tokens(this.long):
        raise RecipeError(
            f"--text: must hold documents of at least {this.long} tokens, which alone teach distances beyond "
            f"the trained window of {this.trained}, got a longest of {max(text.train, default=0)}; add "
            "books, papers or whole repositories, each one document"
        )
    return text


def _held_out(this: Beginning, folder: str, tokenizer: Path) -> Text:
    """Read the text with the smallest share held out that has documents enough, else with the first."""
    read: list[Text] = []
    for holdout in HOLDOUTS:
        text = read_text(folder, this.asked.field, tokenizer=tokenizer, holdout=holdout)
        read.append(text)
        if text.heldout_documents(this.target) >= FEWEST:
            return text
        if text.documents(this.target) * HOLDOUTS[-1] < FEWEST:
            break
    return read[0]
