"""A model ready to train: loaded or drawn, its scheme installed, its layers checkpointed."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
import torch.distributed as dist
import transformers
from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM, PreTrainedModel

from ..rope import install, layer_fingerprint
from ..rope.engines import missing_weights, weight_problems
from ..rope.engines.weights import ANGLES, read_weights, some
from ..rope.hf import read_base
from ..rope.original import keep_stated
from .errors import TrainError, nearest
from .layout import Layout, head_counts
from .mesh import Mesh
from .settings import ModelSection, Stage

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def build_model(stage: Stage, weights: Path | None = None) -> PreTrainedModel:
    """Load `weights` (a checkpoint), else the stage's own model folder, else draw one from `train.seed`.

    In float32 whatever `train.dtype` is, since the optimizer's weights begin as these: 4 bytes a parameter on
    the host of each rank, 30 GiB for 8 billion, and 2 more while the engine rounds them for its forwards.
    A checkpoint's config describes the scheme that is installed, perhaps as another theta, and schemes are
    computed from the theta before it: so the config is always that of the recipe's model.
    """
    config = config_of(stage.model)
    source = weights or (Path(stage.model.path) if stage.model.path else None)
    if source is None:
        torch.manual_seed(stage.train.seed)
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    return load_model(source, config=config)


def layout_of(stage: Stage, world: int) -> Layout:
    """Arrange the ranks of the world as a stage says, by the heads of its model."""
    lengths = {"original_length": stage.original_length, "trained_length": stage.trained_length}
    return stage.train.layout(world, head_counts(read_base(config_of(stage.model), **lengths)))


def install_scheme(model: PreTrainedModel, stage: Stage) -> PreTrainedModel:
    """Install the stage's scheme for its target."""
    return install(
        model,
        stage.scheme,
        target_length=stage.target_length,
        replace=stage.replace,
        original_length=stage.original_length,
        trained_length=stage.trained_length,
    )


def check_same_frequencies(model: PreTrainedModel, mesh: Mesh) -> None:
    """Refuse to start where a rank's layers would turn q and k otherwise than rank 0's do; a collective."""
    if mesh.layout.world == 1:
        return
    prints: list[str] = [""] * mesh.layout.world
    dist.all_gather_object(prints, layer_fingerprint(model))
    others = [f"rank {rank} {one[:12]}" for rank, one in enumerate(prints) if one != prints[0]]
    if others:
        raise TrainError(
            f"rope: every rank must turn q and k alike, got {', '.join(others)} and rank 0 {prints[0][:12]}; "
            "give every rank the same model folder, recipe and ropewalk"
        )


def load_model(folder: Path, dtype: torch.dtype = torch.float32, config: Any = None) -> PreTrainedModel:
    """Load safetensors, or `.bin` files as far as they hold tensors: a pickle could run anything."""
    if problems := [*missing_weights(folder), *weight_problems(folder)]:
        raise TrainError("\n".join(f"{folder}: {problem}" for problem in problems))
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            config=folder_config(folder) if config is None else config,
            dtype=dtype,
            local_files_only=True,
            weights_only=True,
            ignore_mismatched_sizes=True,  # which are refused below, by name
            output_loading_info=True,
        )
    except (UnpicklingError, EOFError) as error:
        raise _spoilt_pickle(folder, error) from error
    except (AttributeError, ImportError, LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error):
            raise
        if isinstance(error, RuntimeError) and read_weights(folder).pickles:
            raise _spoilt_pickle(folder, error) from error
        raise TrainError(
            f"{folder}: must load as a model of transformers {transformers.__version__}, got "
            f"{type(error).__name__}: {error}; repair what it names"
        ) from error
    model, told = loaded
    _refuse_misfits(folder, told)
    return model


def _refuse_misfits(folder: Path, told: Mapping[str, Any]) -> None:
    """Refuse weights that transformers would draw or leave out; those in pickles are only known now."""
    drawn = [*told["missing_keys"], *(name for name, *_ in told["mismatched_keys"])]
    strange = [name for name in told["unexpected_keys"] if "layers." in name and ANGLES not in name]
    if drawn or strange:
        raise TrainError(
            f"{folder}: weights: must be those of the model that config.json makes, got none that fits for "
            f"{some(drawn) or 'no tensor'}, and no place for {some(strange) or 'no tensor'}; take the "
            "config.json that belongs to these weights"
        )


def _spoilt_pickle(folder: Path, error: Exception) -> TrainError:
    told = str(error).rpartition("WeightsUnpickler error:")[2].strip() or "the end of a file"
    return TrainError(
        f"{folder}: .bin weights must be whole and hold nothing but tensors, got "
        f"{told.partition('. ')[0].splitlines()[0]}; fetch them again, or take them as safetensors"
    )


def config_of(model: ModelSection) -> Any:
    """Return the Hugging Face config of a model: its folder's, or the one it is drawn from."""
    if model.path is not None:
        return folder_config(Path(model.path))
    wrong = list(config_problems(model))
    if wrong:
        raise TrainError("\n".join(wrong))
    return keep_stated(AutoConfig.for_model(**model.stated), model.stated)


def folder_config(folder: Path) -> Any:
    """Return the Hugging Face config of a folder."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    return keep_stated(config, json.loads((folder / "config.json").read_text(encoding="utf-8")))


def config_problems(model: ModelSection) -> Iterator[str]:
    """Find stated fields that no config of the model's kind has, which transformers would keep unread, and
    values of which it makes no model; no weights are drawn."""
    if model.config is None:
        return
    kind = model.stated["model_type"]
    if kind not in CONFIG_MAPPING:
        yield f"model.config.model_type: must be a kind that transformers knows, got {kind!r}; correct it"
        return
    known = CONFIG_MAPPING[kind]().to_dict().keys() | {"rope_theta", "rope_scaling"}
    for key in model.config:
        if key not in known:
            yield f"model.config.{key}: must be a field of {kind} configs, got {key!r}; {nearest(key, known)}"
    try:
        with torch.device("meta"):
            AutoModelForCausalLM.from_config(AutoConfig.for_model(**model.stated))
    except Exception as error:  # whatever a wrong value meets inside transformers and torch
        reason = " ".join(str(error).split())[:200]
        yield (
            f"model.config: must be a config that transformers makes a model of, got {type(error).__name__}: "
            f"{reason}; correct that value"
        )


def for_training(model: PreTrainedModel, *, gradient_checkpointing: bool) -> PreTrainedModel:
    model.train()
    if gradient_checkpointing:
        # transformers 5.2x renames the switch and warns about the old name
        old = model.gradient_checkpointing_enable
        getattr(model, "activation_checkpointing_enable", old)({"use_reentrant": False})
    return model
