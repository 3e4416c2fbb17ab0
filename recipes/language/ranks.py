"""Do ranks, chunks and kernels suit the model, so that no number depends on them?"""

from collections.abc import Iterator

from ...rope import AttentionScheme
from ...train.errors import shown
from ...train.layout import (
    FLAT_KERNELS,
    MOST_ELEMENTS,
    UNPAIRED_KERNELS,
    divisors,
    legal_heads,
    legal_sequences,
)
from ...train.settings import DeviceLayers, TrainSection
from .facts import ModelFacts
from .schema import Recipe

SIXTEEN_BIT = (*FLAT_KERNELS, "cudnn")
CAP = "final_logit_softcapping"


def layout_problems(recipe: Recipe, facts: ModelFacts, world: int) -> Iterator[str]:
    """Find a degree that is not legal, and where it is, what does not suit the ranks."""
    train, length, whole = recipe.train, recipe.pack_length, needs_whole_heads(recipe)
    wrong = list(sequence_problems("train.sequence", train.sequence, length, facts, world, whole=whole))
    yield from wrong
    if wrong:
        return
    legal = legal_heads(train.sequence, facts.heads, replicate=train.chunk is None)
    legal = [train.sequence] if whole else legal
    if train.heads is not None and train.heads not in legal:
        beyond = "" if train.chunk is None else ", with a chunk by no more ranks than kv heads"
        needed = f"all of them, as rope.kind {recipe.rope.kind} needs" if whole else _counts(facts) + beyond
        yield (
            f"train.heads: must divide the {train.sequence} ranks of train.sequence and {needed}, got "
            f"{train.heads}; use one of {legal} or leave it out"
        )
        return
    yield from _kernel_size_problems(train, length, facts, world)
    if train.kernel in UNPAIRED_KERNELS and (gather := train.layout(world, facts.heads).gather) > 1:
        yield _unpaired(
            train, f"train.sequence {train.sequence}, of which {gather} share the tokens of a head"
        )


def eval_layout_problems(recipe: Recipe, facts: ModelFacts, world: int) -> Iterator[str]:
    yield from measuring_problems(recipe, facts, world, needs_whole_heads(recipe))


def measuring_problems(recipe: Recipe, facts: ModelFacts, world: int, whole: bool) -> Iterator[str]:
    """Find ranks and chunks in which rows cannot be measured, by a scheme that needs `whole` heads or not."""
    degree, length, chunk = recipe.eval.sequence, recipe.target_length, recipe.eval.chunk
    wrong = list(sequence_problems("eval.sequence", degree, length, facts, world, whole=whole))
    yield from wrong
    if chunk is None:
        return
    if whole:
        yield (
            f"eval.chunk: must be left out with a scheme of bands, which need all tokens of a head at once, "
            f"got {chunk}; remove it"
        )
    elif chunk >= length:
        yield (
            f"eval.chunk: must be less than target_length {length}, got {chunk}; leave it out, whole rows "
            "are then in the model"
        )
    elif not wrong:
        yield from _uneven_chunk("eval", chunk, degree)


def sequence_problems(
    key: str, sequence: int, length: int, facts: ModelFacts, world: int, *, whole: bool = False
) -> Iterator[str]:
    """Find a sequence degree that ranks or tokens cannot be divided by; with `whole`, or heads."""
    legal = legal_sequences(world, facts.heads, length=length, whole=whole)
    if sequence not in legal:
        heads = f" and {_counts(facts)}, since a scheme of bands needs all tokens of a head" if whole else ""
        yield (
            f"{key}: must divide the world of {world} ranks (divisors {divisors(world)}), {length} tokens"
            f"{heads}, got {sequence}; use one of {legal}"
        )


def needs_whole_heads(recipe: Recipe) -> bool:
    """Say whether a rank must see all tokens of its heads: schemes of bands turn keys once for each band."""
    return "rope" in recipe.sound and isinstance(recipe.rope.scheme, AttentionScheme)


def chunk_problems(recipe: Recipe, _: int) -> Iterator[str]:
    """Find a chunk that does not cut packs evenly, and a store without one."""
    train, length = recipe.train, recipe.pack_length
    if train.chunk is None:
        if train.store != "device":
            store = shown(train.store if isinstance(train.store, str) else train.store.model_dump())
            yield f"train.store: must come with train.chunk, got {store} alone; set train.chunk or remove it"
        return
    if train.chunk >= length:
        yield (
            f"train.chunk: must be less than a pack of {length} tokens, got {train.chunk}; leave it out, a "
            "whole pack is then in the model"
        )
    elif length % train.sequence == 0:  # else the degree is what is wrong
        yield from _uneven_chunk("train", train.chunk, train.sequence)


def _uneven_chunk(section: str, chunk: int, sequence: int) -> Iterator[str]:
    if chunk % sequence:
        near = max(sequence, chunk // sequence * sequence)
        yield (
            f"{section}.chunk: must be a multiple of {section}.sequence {sequence}, got {chunk} tokens; "
            f"use {near} or {near + sequence}"
        )


def kernel_problems(recipe: Recipe, _: int) -> Iterator[str]:
    """Find what a kernel, a type of numbers or a scheme cannot do, and a switch that does nothing."""
    train = recipe.train
    if train.dtype == "float32" and train.kernel in SIXTEEN_BIT:
        yield (
            f"train.kernel: {train.kernel} takes numbers of 16 bits only, got train.dtype float32; use auto, "
            "or train.dtype bfloat16"
        )
    if train.keep_attention and train.chunk is None and not train.gradient_checkpointing:
        yield (
            "train.keep_attention: must come with train.chunk or train.gradient_checkpointing, got true "
            "where everything is kept anyway; remove it"
        )
    if train.kernel in UNPAIRED_KERNELS and train.chunk is not None:
        yield _unpaired(train, f"train.chunk {train.chunk}")
    if train.kernel in UNPAIRED_KERNELS and train.keep_attention:
        yield _unpaired(train, "train.keep_attention true")
    if not needs_whole_heads(recipe):
        return
    for key, value in (("chunk", train.chunk), ("keep_attention", train.keep_attention)):
        if value:
            yield (
                f"train.{key}: must be left out with rope.kind {recipe.rope.kind}, whose bands need all "
                f"tokens of a head at once, got {shown(value)}; remove it"
            )


def memory_problems(recipe: Recipe, facts: ModelFacts, _: int) -> Iterator[str]:
    """Find more layers in the store than the model has, and dropout that would be lost."""
    train, layers = recipe.train, int(facts.config.get("num_hidden_layers") or 0)
    if isinstance(train.store, DeviceLayers) and train.store.device_layers > layers:
        yield (
            f"train.store.device_layers: must be at most the model's {layers} layers, got "
            f"{train.store.device_layers}; lower it, or use store: device"
        )
    cure = "model.config" if recipe.model.from_scratch else f"config.json of {recipe.model.path}"
    for key, value in facts.config.items():
        if not _is_dropout(key) or not isinstance(value, int | float) or not value > 0:
            continue
        if key == "attention_dropout":
            yield (
                f"model.config.{key}: must be 0 in training, which drops no attention, got {value}; "
                f"set it to 0 in {cure}"
            )
        elif train.chunk is not None:
            yield (
                f"model.config.{key}: must be 0 with train.chunk, whose two passes would drop different "
                f"values, got {value}; set it to 0 in {cure}, or leave train.chunk out"
            )


def head_problems(facts: ModelFacts, where: str = "model.config") -> Iterator[str]:
    """Find a cap of the logits, which the head that scores tokens here does not have."""
    if value := facts.config.get(CAP):
        yield (
            f"{where}.{CAP}: must be off or gone, got {shown(value)}, which neither training nor evaluation "
            "applies; use a model that was trained without it"
        )


def _kernel_size_problems(train: TrainSection, length: int, facts: ModelFacts, world: int) -> Iterator[str]:
    """Find more queries on a rank than flat kernels count in 32 bits; auto takes one of them on a GPU."""
    flat = train.kernel in FLAT_KERNELS or (train.kernel == "auto" and train.dtype == "bfloat16")
    layout, tokens = train.layout(world, facts.heads), train.chunk or length
    elements = train.micro_batch * tokens * facts.query_width // layout.sequence
    if flat and elements >= MOST_ELEMENTS:
        named = "auto is varlen on a GPU, which" if train.kernel == "auto" else train.kernel
        cures = "raise train.sequence or lower train.micro_batch or train.chunk"
        yield (
            f"train.kernel: {named} takes at most {MOST_ELEMENTS - 1} elements of a rank's queries, got "
            f"{elements} = micro_batch {train.micro_batch} x {tokens // layout.gather} tokens x "
            f"{facts.query_width // layout.heads} of its heads; {cures}"
        )


def _unpaired(train: TrainSection, what: str) -> str:
    return (
        f"train.kernel: must give the log-sum-exp from which blocks are joined, for {what}, got "
        f"{train.kernel}, which does not; use auto"
    )


def _is_dropout(key: str) -> bool:
    return "dropout" in key or key.endswith("pdrop")


def _counts(facts: ModelFacts) -> str:
    return " and ".join(f"the {query} query and {kv} kv heads" for query, kv in facts.heads)
