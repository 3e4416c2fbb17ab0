"""Which recipe extends a model of one's own? Every value with its reason, from what `beginning` knows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from ....train.layout import Layout
from ...language.errors import RecipeError, raise_all
from ..plan import RunPlan
from .beginning import FEWEST, HOLDOUTS, Asked, Beginning, begin
from .text import NAME
from .written import comment, written

LONG_SHARE = 0.6
"""Of the tokens, in long documents: ProLong's."""
LARGEST_ABF = 64
"""Stretch up to which a larger theta was trained at scale: ProLong's, 8K to 512K."""
LEAST_STEPS = 100
"""Where a text has fewer steps of the published batch, the batch is made smaller."""
DOCUMENTS = 16
PLACEHOLDER = "TEXT_FOLDER"
RENDEZVOUS = "--rdzv-backend c10d --rdzv-endpoint HOST:29500"


class Part(NamedTuple):
    """Sections of a recipe, and by key why some values are so, and where they fall short of what is usual."""

    values: Mapping[str, Any]
    reasons: Mapping[str, str]
    lacks: Mapping[str, str] = {}


def own_recipe(asked: Asked) -> tuple[str, list[str]]:
    """Write the recipe, and check it as `recipes check` does on the GPUs that were named; say what in it
    falls short."""
    this = begin(asked)
    values: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    lacks: dict[str, str] = {}
    for section in (_model, _rope, _data, _train, _eval):
        part = section(this)
        values |= part.values
        reasons |= part.reasons
        lacks |= part.lacks
    reasons |= {key: f"{reasons.get(key, '')} {lack}".lstrip() for key, lack in lacks.items()}
    text = "\n".join([*comment(_heading(this)), *written(values, reasons)]) + "\n"
    with TemporaryDirectory() as folder:
        file = Path(folder) / "mine.yaml"
        file.write_text(text, encoding="utf-8")
        raise_all("recipes new", RunPlan(str(file)).problems(asked.gpus))
    return text, [f"{key}: {lack}" for key, lack in lacks.items()]


def _heading(this: Beginning) -> str:
    world, node = this.asked.gpus, this.asked.node
    machines = "" if world == node else f"--nnodes {world // node} {RENDEZVOUS} "
    return f"""\
Extend {this.asked.name} from {this.trained} to {this.target} tokens: a recipe of one's own.

  ropewalk recipes check mine.yaml --world {world}
  ropewalk prepare mine.yaml
  torchrun {machines}--nproc-per-node {node} -m ropewalk.recipes.extend mine.yaml

Written by ropewalk recipes new. Every value may be changed; recipes check says what no longer fits. That \
the GPUs' memory suffices is not promised, since nothing computes it yet: more GPUs or a smaller \
target_length need less."""


def _model(this: Beginning) -> Part:
    asked, base = this.asked, this.base
    lengths = f"{_short(this.trained)}-{_short(this.target)}"
    values = {
        "run_dir": _free(f"runs/{asked.name}-{lengths}-{_scheme(this)['kind']}"),
        "target_length": this.target,
        **asked.stated,
        "model": {"path": asked.model},
    }
    reasons = {
        "target_length": f"{this.target / this.trained:,.4g} times the trained window.",
        "model": f"{this.facts.config['model_type']}, about {_billions(this.parameters)} parameters, "
        f"{base.query_heads} query and {base.kv_heads} kv heads.",
    }
    return Part(values, reasons)


def _free(folder: str) -> str:
    """Give the folder, numbered where one of that name is there: it may be a run's."""
    names = (folder if number == 1 else f"{folder}-{number}" for number in count(1))
    return next(name for name in names if not Path(name).exists())


def _scheme(this: Beginning) -> dict[str, Any]:
    """Choose by how far the original window is stretched."""
    far = this.target / this.base.original_length > LARGEST_ABF
    values = {"kind": "yarn", "beta_fast": 4, "beta_slow": 1} if far else {"kind": "abf"}
    return values if this.base.current.name == "default" else values | {"replace": True}


def _rope(this: Beginning) -> Part:
    values, stretch = _scheme(this), this.target / this.base.original_length
    if values["kind"] == "abf":
        why = (
            "A larger theta, the smallest that keeps the slowest pair which saw a whole turn inside that "
            f"turn. ProLong trained so to {LARGEST_ABF} times the original window (arXiv:2410.02660); this "
            f"is {stretch:,.4g} times. kind: yarn is the other usual choice."
        )
    else:
        why = (
            f"{stretch:,.4g} times the original window: UltraLong trained these knobs at 128 to 512 times "
            "(arXiv:2504.06214)."
        )
    if "replace" in values:
        why += f" It takes the place of the model's {this.base.current.name}."
    return Part({"rope": values}, {"rope": why})


def _data(this: Beginning) -> Part:
    text, place = this.text, f"data.sources.{NAME}"
    if text is None:
        source: dict[str, Any] = {"kind": "files", "paths": [PLACEHOLDER]}
        why = (
            "Put the folder of your text here. Of kind files each .txt, .md, .rst and .py is a document; "
            "for jsonl, parquet and more see docs/data.md. recipes new --text FOLDER finds the kind, and "
            "fits the steps to what is there."
        )
    else:
        source = dict(text.source)
        said = "" if text.share == 1 else f", from a sample of 1/{1 / text.share:,.0f}"
        why = f"{text.about}: about {text.tokens():,} tokens to train on{said}."
    held = "Share of the documents that is measured on and never trained."
    if this.holdout > HOLDOUTS[0]:
        held += f" Of {HOLDOUTS[0]} there would be too few to tell a gain."
    reasons = {place: why, "data.holdout": held}
    lacks: dict[str, str] = {}
    if text is not None and text.skipped:
        counts = " and ".join(f"{number:,} {fault}" for fault, number in text.skipped.items())
        lacks[f"{place}.on_error"] = f"Documents that cannot be read are skipped; in the sample {counts}."
    source["weight"] = 1.0
    if text is None or text.tokens(this.long) < LONG_SHARE * text.tokens():
        source["long"] = {"at_least": this.long, "share": LONG_SHARE}
        reasons[f"{place}.long"] = (
            "Short documents are left out until long ones hold this share of the tokens (ProLong's): only "
            "they have distances beyond the trained window."
        )
    return Part({"data": {"holdout": this.holdout, "sources": {NAME: source}}}, reasons, lacks)


def _budget(this: Beginning) -> float:
    """Give the tokens to train on: as many as were published, or as the text has in the mix that is asked."""
    if this.text is None:
        return this.published.tokens
    there = min(this.text.tokens(), this.text.tokens(this.long) / LONG_SHARE)
    sure = 0.95 if this.text.share == 1 else 0.9  # a mix does not end where a text does
    return min(this.published.tokens, sure * there)


def _batch(this: Beginning, tokens: float) -> tuple[int, int]:
    """Give steps and the tokens of each: the published batch, smaller where the text is."""
    share = this.target * (this.asked.gpus // this.sequence)
    most = min(this.published.batch_tokens, tokens / LEAST_STEPS)
    batch = share * max(1, int(most // share))
    if batch > tokens and this.text is None:
        raise RecipeError(
            f"--to: one step of {this.asked.gpus} GPUs must be less than the published budget of "
            f"{int(tokens)} tokens, got {batch}; lower --to or --gpus"
        )
    if batch > tokens:
        raise RecipeError(
            f"--text: must hold the {batch} tokens of one step, {LONG_SHARE:.0%} of them in documents of at "
            f"least {this.long}, got about {int(tokens)}; add long documents, or lower --to or --gpus"
        )
    return int(tokens // batch), batch


def _train(this: Beginning) -> Part:
    run, gpus, sequence = this.published, this.asked.gpus, this.sequence
    tokens = _budget(this)
    steps, batch = _batch(this, tokens)
    why = f"so that there are {LEAST_STEPS} steps" if steps >= LEAST_STEPS else "the least these GPUs take"
    fewer = "" if 2 * batch > run.batch_tokens else f", fewer here, {why}"
    values = {
        "steps": steps,
        "batch_tokens": batch,
        "sequence": sequence,
        "zero_stage": 3 if this.parameters >= 1e9 else 2,
        "dtype": "bfloat16",
        "deterministic": False,
        "learning_rate": run.learning_rate,
        "optimizer": {"betas": [0.9, 0.95], "weight_decay": 0.1, "clip": 1.0},
        "schedule": {"kind": "cosine", "warmup": min(steps // 10, steps - 1), "floor": 0.1},
        "checkpoint_every": max(1, steps // 10),
    }
    reasons = {
        "train": f"Learning rate, batch and budget of {run.source} ({_billions(run.parameters)} "
        "parameters), the nearest in size and window of those we know. Optimizer and schedule are ProLong's.",
        "train.steps": f"{steps * batch:,} tokens; {run.tokens:,.0f} there"
        + ("." if tokens == run.tokens else ", but the text holds no more in this mix.")
        + ("" if steps >= LEAST_STEPS else " These are few steps: more text or fewer GPUs make more."),
        "train.batch_tokens": f"{run.batch_tokens:,} there{fewer}. It must be a multiple of "
        f"{this.target * (gpus // sequence)} = target_length x data {gpus // sequence} x micro_batch 1.",
        "train.sequence": "GPUs that share a pack: " + _shared(this),
        "train.zero_stage": "Weights, gradients and optimizer states take 18 bytes a parameter, together "
        f"{18 * this.parameters / 1e9:.3g} GB; stage 3 divides all of it, stage 2 not the weights.",
        "train.deterministic": "true repeats a run bit for bit, with slower kernels.",
    }
    return Part({"train": values}, reasons)


def _shared(this: Beginning) -> str:
    """Say why so many GPUs share a pack, and what of it they divide."""
    sequence, node = this.sequence, this.asked.node
    if sequence > node:
        why = "more than a machine has, since the kernels count a GPU's queries in 32 bits."
    elif sequence == node:
        why = "all of a machine, since each then holds the least of it."
    else:
        why = (
            f"the most of a machine that divide {this.target} tokens, since each then holds the least of it."
        )
    layout = Layout.of(this.asked.gpus, sequence, this.facts.heads)
    if layout.gather == 1:
        return why
    heads = " and ".join(f"{query} query and {kv} kv heads" for query, kv in this.facts.heads)
    return f"{why} {layout.heads} of them divide the {heads}, {layout.gather} the tokens of each."


def _eval(this: Beginning) -> Part:
    """Choose the tasks that the held-out documents are enough for; say which they are not."""
    tasks = dict(_tasks(this))
    why = (
        "Of the base, the base with the scheme, and the result, on the same documents; the base's own "
        f"window is {this.trained}."
    )
    lack = " ".join(_too_short(this, tasks))
    section = {"eval": {"sequence": this.sequence, "tasks": tasks}}
    return Part(section, {"eval.tasks": why}, {"eval.tasks": lack} if lack else {})


def _too_short(this: Beginning, tasks: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Say what the held-out text is not enough for."""
    if lacking := {"position-loss", "needles", "context-gain"} - tasks.keys():
        yield f"The text that is held out is too short for {' and '.join(sorted(lacking))}."
    if "needles" in tasks and (reach := tasks["needles"]["lengths"][-1]) < this.target:
        yield f"Held-out text is too short for needles beyond {reach} of {this.target} tokens."
    if "position-loss" in tasks and (held := tasks["position-loss"]["documents"]) < FEWEST:
        yield (
            f"Held out are {held} documents of {this.target} tokens, too few to tell any gain or loss from "
            f"none, which takes {FEWEST}: add some."
        )


def _tasks(this: Beginning) -> Iterator[tuple[str, Mapping[str, Any]]]:
    text, trained, target = this.text, this.trained, this.target
    documents = DOCUMENTS if text is None else min(DOCUMENTS, text.heldout_documents(target))
    room = target if text is None else 0.9 * text.heldout_tokens()
    if documents > 1:
        yield "position-loss", {"kind": "position_loss", "length": target, "documents": documents}
    doublings = math.ceil(math.log2(target / trained))
    lengths = [length for length in [trained << k for k in range(doublings)] + [target] if length <= room]
    if lengths and lengths[-1] > trained:
        depths = [0.1, 0.3, 0.5, 0.7, 0.9]
        yield "needles", {"kind": "needles", "lengths": lengths, "depths": depths, "per_cell": 4}
    if documents > 1:
        start = max(trained, target // 2)
        stride = min(max(1, trained // 16), target - start)
        window = {"start": start, "stop": target, "window": trained, "stride": stride}
        yield "context-gain", {"kind": "context_gain", **window, "documents": documents}


def _short(length: int) -> str:
    """Write a length as the names of recipes do."""
    for unit, letter in ((1 << 20, "m"), (1 << 10, "k")):
        if length % unit == 0:
            return f"{length // unit}{letter}"
    return str(length)


def _billions(count: float) -> str:
    return f"{count / 1e9:.2g} billion" if count >= 1e9 else f"{count / 1e6:.2g} million"
