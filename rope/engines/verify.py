"""What will each reader compute from a folder, is it what was trained, and what is wrong with the folder?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..analysis import angle_error, frequency_error
from ..families import FULL
from ..keys import DUAL_CHUNK
from ..relative import AttentionScheme
from ..scheme import RopeError, make_scheme
from .faults import beside_faults, config_faults, cure, inexpressible, theta_faults, written
from .reader import CannotRead, Config, Question, Reader, Reading
from .serving import ENGINES, READERS, judge, serving_of, started
from .texts import Texts, read_texts, tokenizer_faults
from .trained import Trained, trained_by_config, trained_by_us
from .transformers import ASKED
from .weights import Weights, misfits, quantised, read_weights

IN_FOLDERS = (ASKED, *READERS[1:])
"the readers, of which the installed transformers is really run"


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one reader computes in one kind of layer."""

    reader: Reader
    layer_type: str
    reading: Reading | None = None
    "None where it stops"
    verdict: str = "not compared"
    "exact, difference, no; or not compared, where nothing says what was trained"
    why: str = ""
    flags: tuple[str, ...] = ()
    trained_error: float | None = None
    "largest error of cos and sin near the end of the trained length"
    target_error: float | None = None
    "and of the target length"

    def facts(self) -> dict[str, Any]:
        """Return the row as JSON values."""
        read = self.reading
        at = None if read is None else read.at(read.window)
        return {
            "reader": self.reader.engine,
            "version": self.reader.version,
            "how": self.reader.how,
            "source": self.reader.source(read.kind if read else ""),
            "layer_type": self.layer_type,
            "kind": read and read.kind,
            "theta": read and read.theta,
            "factor": read and read.factor,
            "attention_scale": at and at.attention_scale,
            "window": read and read.window,
            "angle_error_at_trained": self.trained_error,
            "angle_error_at_target": self.target_error,
            "verdict": self.verdict,
            "why": self.why,
            "flags": list(self.flags),
        }


@dataclass(frozen=True, kw_only=True)
class FolderReport:
    """What was found in a folder."""

    folder: str
    rows: tuple[Row, ...]
    faults: tuple[str, ...]
    trained: Trained | None
    target_length: int | None
    engines: tuple[str, ...] = ()
    "engines that were named: their readers must compute what was trained"
    notes: tuple[str, ...] = ()
    "what was not looked at"

    @property
    def verified(self) -> bool:
        """Say whether nothing is wrong with the folder, for the engines that were named if any were."""
        named = [row for row in self.rows if row.reader.engine in self.engines]
        return not self.faults and self.trained is not None and all(row.verdict == "exact" for row in named)

    def checks(self) -> dict[str, Any]:
        """Return what the installed transformers reads, by the names that `convert` gives its checks."""
        row = next((r for r in self.rows if r.reader is ASKED and r.layer_type == FULL), None)
        if row is None or row.reading is None or self.trained is None:
            return {}
        length, trained = self.trained.target_length, self.trained
        wanted, read = trained.frequencies(FULL, length), row.reading.at(length)
        kept = trained.kept_fingerprint
        return {
            "window": row.reading.window,
            "trained_frequencies": None if kept is None else trained.fingerprint == kept,
            "frequency_error": frequency_error(read, wanted),
            "attention_scale": read.attention_scale,
            "angle_error_at_window": row.trained_error,
        }


def verify_folder(
    folder: Path, *, engines: Sequence[str] = (), target_length: int | None = None
) -> FolderReport:
    """Read a folder's texts as every reader does (or the named engines'), and the headers of its weights."""
    unknown = [engine for engine in engines if engine not in ENGINES]
    if unknown:
        raise RopeError(f"engine: must be one of {', '.join(ENGINES)}, got {unknown[0]}; name one of them")
    texts, weights = read_texts(folder), read_weights(folder)
    faults, trained, rows = list(texts.faults()), None, ()
    if not faults:
        trained, faults = _trained(texts)
        readers = [reader for reader in IN_FOLDERS if not engines or reader.engine in engines]
        rows = tuple(_rows(readers, texts, trained, target_length))
        faults += misfits(weights, texts.config)
    if trained is not None:
        faults += [*_too_long(trained, target_length), *_curable(rows, texts.config, trained)]
    faults += _unread(rows, faults)
    return FolderReport(
        folder=str(folder),
        rows=rows,
        faults=tuple(dict.fromkeys([*faults, *weights.faults, *tokenizer_faults(folder)])),
        trained=trained,
        target_length=target_length or (trained.target_length if trained else None),
        engines=tuple(engines),
        notes=tuple(_notes(weights, texts.config)),
    )


def _notes(weights: Weights, config: Config) -> Iterator[str]:
    """Say which weights are there and were not looked at."""
    if weights.pickles:
        yield (
            f"weights: {', '.join(weights.pickles)} is a pickle, which is not opened here; save the model as "
            "safetensors to have its weights checked"
        )
    if method := quantised(config):
        yield f"weights: a model quantised by {method} has tensors of its own, which are not compared"


def _too_long(trained: Trained, target_length: int | None) -> Iterator[str]:
    """Yield it if more is asked for than was trained."""
    if target_length is not None and target_length > trained.target_length:
        yield (
            f"target_length: must be at most the trained window of {trained.target_length} tokens, got "
            f"{target_length}; extend the model first, or ask for less"
        )


def _trained(texts: Texts) -> tuple[Trained | None, list[str]]:
    """Return what the weights were trained with, and what is wrong before any reader is asked."""
    config, faults = texts.config, []
    trained = None
    try:
        trained = trained_by_config(config)
    except RopeError as error:
        faults += str(error).splitlines()
    if texts.ours is not None:
        trained, doubts = _ours(config, texts.ours)
        faults += doubts
    elif lost := list(theta_faults(config)):
        trained, faults = None, faults + lost
    window = trained.target_length if trained else config.get("max_position_embeddings")
    beside = beside_faults(texts.tokenizer, texts.generation, window or 0)
    return trained, [*faults, *config_faults(config, trained), *beside]


def _ours(config: Config, ours: Mapping[str, Any]) -> tuple[Trained | None, list[str]]:
    """Return what `ropewalk.json` says, and what is wrong with it."""
    try:
        trained = trained_by_us(config, ours)
    except RopeError as error:
        return None, [f"ropewalk.json: must say what was trained, got {error}; take the one of the run"]
    doubts = list(inexpressible(ours))
    if trained.fingerprint != trained.kept_fingerprint:
        doubts.append(
            f"ropewalk.json: must keep the fingerprint of its own scheme, {trained.fingerprint[:12]}, got "
            f"{str(trained.kept_fingerprint)[:12]}; take the file of the run that trained these weights"
        )
    return trained, doubts


def _rows(
    readers: Iterable[Reader], texts: Texts, trained: Trained | None, target_length: int | None
) -> Iterator[Row]:
    """Ask each reader about each kind of layer."""
    length = (texts.tokenizer or {}).get("model_max_length") if trained else None
    for reader in readers:
        for layer_type in trained.bases if trained else (FULL,):
            question = Question(layer_type=layer_type, tokenizer_length=length)
            yield _row(reader, texts.config, question, trained, target_length)


def _row(
    reader: Reader,
    config: Config,
    question: Question,
    trained: Trained | None,
    target_length: int | None,
) -> Row:
    """Ask one reader about one kind of layer."""
    row = Row(reader=reader, layer_type=question.layer_type)
    try:
        row = replace(row, reading=reader.ask(config, question))
        if trained is None:
            return row
        judged = judge(reader, config, trained, question)
        row = replace(row, verdict=judged.verdict, why=judged.why, flags=judged.flags)
        at_target, _ = started(reader, config, trained.target_length, question)
        lengths = (trained.target_length, target_length or trained.target_length)
        errors = [
            angle_error(at_target.at(n), trained.frequencies(question.layer_type, n), n) for n in lengths
        ]
        return replace(row, trained_error=errors[0], target_error=errors[1])
    except CannotRead as error:
        return replace(row, verdict="no", why=f"an error: {error}")


def _curable(rows: Sequence[Row], config: Config, trained: Trained) -> Iterator[str]:
    """Yield a fault where another config would serve better: what the reader computes, and what to write."""
    if isinstance(trained.scheme, AttentionScheme):
        # No config makes a reader attend so, but it must turn by the right frequencies.
        config = {key: value for key, value in config.items() if key != DUAL_CHUNK}
        trained = replace(trained, scheme=make_scheme("default"))
    engines, model_type = {row.reader.engine for row in rows}, str(config.get("model_type"))
    best = {engine: serving_of(trained, engine, model_type) for engine in engines}
    for row in rows:
        could, question = best[row.reader.engine], Question(layer_type=row.layer_type)
        now = judge(row.reader, config, trained, question)
        if could.rank < now.rank and could.config is not None and "gguf" not in could.config:
            wanted = {**could.config, "head_dim": trained.bases[row.layer_type].head_dim}
            changes = cure(config, wanted, trained, row.reader, question)
            got = "; ".join([*_lost(row, could.config["rope_parameters"]), now.why])
            if changes:
                yield f"{row.reader.name}: must compute what was trained, got {got}; write {written(changes)}"


def _unread(rows: Sequence[Row], faults: Sequence[str]) -> Iterator[str]:
    """Yield it if the installed transformers stops, and no other fault says what to write."""
    for row in rows:
        if row.reader is ASKED and row.reading is None and not any(f.startswith(ASKED.name) for f in faults):
            yield f"{ASKED.name}: must be able to read config.json, got {row.why}; repair what it names"


def _lost(row: Row, wanted: Mapping[str, Any]) -> Iterator[str]:
    """Name the theta and the kind of scaling, where these are what was lost."""
    wanted = wanted.get(row.layer_type, wanted)
    if row.reading is not None and row.reading.theta != wanted["rope_theta"]:
        yield f"theta {row.reading.theta:,.10g} and not {wanted['rope_theta']:,.10g}"
    if row.reading is not None and row.reading.kind != wanted["rope_type"]:
        yield f"type {row.reading.kind} and not {wanted['rope_type']}"
