"""Which files of the model must be there for a recipe, and does the tokenizer fit?"""

from collections.abc import Iterator
from pathlib import Path

from ...data import DataError, load_encoder
from ...data.corpus.work import refuse_other_tokenizers
from ...rope.engines import missing_weights
from ...rope.folder import fetching
from ...rope.scheme import RopeError
from .check import model_config
from .errors import RecipeError
from .schema import Recipe


def missing_files(recipe: Recipe) -> list[str]:
    """List what a real run reads of the model and does not find."""
    if "model" not in recipe.sound:
        return []
    model, lines = recipe.model, []
    if model.path is not None:
        folder = Path(model.path)
        if not (folder / "config.json").is_file():
            lines.append(
                f"model.path: must be a Hugging Face folder with a config.json, got {folder}; "
                f"put the model there or correct the path{fetching(model.path)}"
            )
        else:
            lines += [f"model.path: {folder}: {problem}" for problem in missing_weights(folder)]
    if not any(model.tokenizer_folder.glob("tokenizer*")):
        lines.append(
            f"model.tokenizer: must be a folder with a tokenizer, got {model.tokenizer_folder}; "
            f"put the tokenizer there or correct the path{fetching(model.tokenizer_folder)}"
        )
    return lines


def tokenizer_problems(recipe: Recipe) -> Iterator[str]:
    """Find what is wrong with a tokenizer that is there: for the data, and for the model's vocabulary."""
    if not recipe.sound >= {"model", "data"} or not any(recipe.model.tokenizer_folder.glob("tokenizer*")):
        return
    data, folder = recipe.data, recipe.model.tokenizer_folder
    try:
        encoder = load_encoder(folder, opens=data.opens, closes=data.closes, engine=data.engine)
        refuse_other_tokenizers(data, encoder)
    except DataError as error:
        yield str(error) if str(error).startswith("data.") else f"model.tokenizer: {error}"
        return
    try:
        rows = model_config(recipe.model).get("vocab_size")
    except (RecipeError, RopeError):
        return  # said where the model is checked
    if isinstance(rows, int) and encoder.most > rows:
        yield (
            f"model.tokenizer: must give ids below the model's vocab_size of {rows}, got {encoder.most - 1} "
            f"in {folder}; use the tokenizer the model was trained with"
        )
