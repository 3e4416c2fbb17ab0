"""What do a recipe's checks know of its model? Its config and the rotary facts, from config.json alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...rope.folder import fetching, read_config
from ...rope.hf import read_base
from ...rope.scheme import Base
from ...train.layout import head_counts
from ...train.settings import ModelSection
from .errors import RecipeError
from .schema import Recipe


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """Hold what a recipe's checks need of its model: the config and the rotary facts of each layer type."""

    config: Mapping[str, Any]
    bases: Mapping[str, Base]

    @property
    def heads(self) -> list[tuple[int, int]]:
        """List the (query, kv) head counts, one of each kind."""
        return head_counts(self.bases)

    @property
    def trained_length(self) -> int:
        """Give the window the weights were last trained at, tokens."""
        return max(base.trained_length for base in self.bases.values())

    @property
    def query_width(self) -> int:
        """Count the elements of a token's queries in the widest layer."""
        return max(base.query_heads * base.head_dim for base in self.bases.values())


def model_facts(recipe: Recipe) -> ModelFacts:
    """Read the model's config and its rotary facts; a kind of model that is not handled is a RopeError."""
    config = model_config(recipe.model)
    lengths = {"original_length": recipe.original_length, "trained_length": recipe.trained_length}
    return ModelFacts(config=config, bases=read_base(config, **lengths))


def facts_of(recipe: Recipe, folder: Path) -> ModelFacts:
    """Read those of another model's folder, with the lengths that the recipe states."""
    return model_facts(recipe.model_copy(update={"model": ModelSection(path=str(folder))}))


def model_config(model: ModelSection) -> dict[str, Any]:
    """Give the config fields: config.json of the folder, or those stated where there is no folder."""
    if model.path is None:
        return model.stated
    file = Path(model.path) / "config.json"
    if file.is_file():
        return read_config(file)
    if model.config is None:
        raise RecipeError(
            f"model.path: must be a Hugging Face folder with a config.json, got {model.path}; "
            f"correct the path{fetching(model.path)} (a plan without weights needs the facts in model.config)"
        )
    return model.stated
