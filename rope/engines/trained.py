"""What were the weights of a folder trained with, and how far from it is what a reader computes?

Our folders say so themselves, in `ropewalk.json`. Of others we take the config at its word.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..analysis import frequency_error, scale_error
from ..families import FULL, ONLY_LONGROPE, SLIDING
from ..hf import read_base
from ..keys import DUAL_CHUNK, unread
from ..record import Installed
from ..scheme import Base, Frequencies, RopeError, Scheme, make_scheme
from .reader import LAYOUTS, OLDER_NAMES, ORIGINAL, Config, Reading

EXACT = 1e-6
"largest relative difference of a frequency or the attention scale that counts as none"
ENGINE_KEYS = ("attn_factor", "short_mscale", "long_mscale", "max_trained_positions", "mixed_b", "alpha")
"what engines read beside transformers' own keys"
ROPE = (*LAYOUTS, "rope_theta", ORIGINAL, DUAL_CHUNK)


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What the weights were trained with."""

    bases: Mapping[str, Base]
    scheme: Scheme
    "of the layers that see everything"
    target_length: int
    told_by: str
    "the file that says so"
    kept_fingerprint: str | None = None
    "of what was installed in training, where it was kept"

    def frequencies(self, layer_type: str, length: int) -> Frequencies:
        """Return the frequencies of a sequence of `length` tokens."""
        base = self.bases[layer_type]
        if layer_type != FULL:
            return base.current.frequencies(base, target_length=base.trained_length, length=length)
        return self.scheme.frequencies(base, target_length=self.target_length, length=length)

    @property
    def fingerprint(self) -> str:
        """Return what training with this would keep."""
        return Installed.of(self.bases, self.scheme, self.target_length).fingerprint

    def lengths(self) -> tuple[int, ...]:
        """Return where a reading can differ: in the original window, and at the end of the target's."""
        return tuple(sorted({min(self.bases[FULL].original_length, self.target_length), self.target_length}))


def trained_by_us(config: Config, ours: Mapping[str, Any]) -> Trained:
    """Return what `ropewalk.json` says, whatever became of the config's rope."""
    rope = ours["rope"]
    # The config is asked for heads and windows only, so that a broken rope cannot hide the truth.
    gone = {*ROPE, *unread(config)}
    bare: dict[str, Any] = {key: value for key, value in config.items() if key not in gone}
    nested = config.get("rope_parameters") or {}
    bare["rope_theta"] = rope["theta"]
    if "partial_rotary_factor" in nested:
        bare["partial_rotary_factor"] = nested["partial_rotary_factor"]
    if nested.get(SLIDING):
        bare["rope_local_base_freq"] = nested[SLIDING].get("rope_theta")
    lengths = {"original_length": rope["original_length"], "trained_length": rope["target_length"]}
    scheme = make_scheme(rope["scheme"], **rope["knobs"])
    bases = read_base(bare, **lengths)
    full = replace(bases[FULL], current=scheme)
    trained = Trained(
        bases=bases | {FULL: full},
        scheme=scheme,
        target_length=rope["target_length"],
        told_by="ropewalk.json",
        kept_fingerprint=rope["fingerprint"],
    )
    trained.frequencies(FULL, trained.target_length)
    return trained


def trained_by_config(config: Config) -> Trained:
    """Return what the config means; RopeError where it contradicts itself or says too little."""
    flat = config.get("rope_parameters") or {}
    if config.get("model_type") == "gemma3_text" and flat and FULL not in flat:
        raise RopeError(
            f"config.rope_parameters: must be stated under {FULL} and {SLIDING} for gemma3_text, got "
            f"{', '.join(flat)} for all layers, which no reader reads; write them where they were trained"
        )
    bases = read_base(plain(config))
    full = bases[FULL]
    trained = Trained(
        bases=bases, scheme=full.current, target_length=full.trained_length, told_by="config.json"
    )
    for length in trained.lengths():
        trained.frequencies(FULL, length)
    return trained


def plain(config: Config) -> dict[str, Any]:
    """Return a config without what single engines read beside the common keys, by today's names."""
    cleaned = dict(config)
    for layout in LAYOUTS:
        if isinstance(config.get(layout), Mapping):
            cleaned[layout] = {key: value for key, value in config[layout].items() if key not in ENGINE_KEYS}
    return todays(cleaned)


def todays(config: Config) -> dict[str, Any]:
    """Return a config with Phi-3's older names of longrope replaced."""
    renamed = dict(config)
    for layout in LAYOUTS if config.get("model_type") in ONLY_LONGROPE else ():
        if stated := config.get(layout):
            names = {key: "longrope" for key in ("type", "rope_type") if stated.get(key) in OLDER_NAMES}
            renamed[layout] = {**stated, **names}
    return renamed


def same(read: Frequencies, trained: Frequencies) -> bool:
    """Say whether two sets of frequencies and attention scales are one."""
    return frequency_error(read, trained) <= EXACT and scale_error(read, trained) <= EXACT


def differences(reading: Reading, trained: Trained, layer_type: str = FULL) -> list[str]:
    """Name what a reading computes otherwise than was trained."""
    apart = []
    if reading.rows is not None and reading.rows < trained.target_length:
        apart.append(f"angles for {reading.rows:,} of {trained.target_length:,} positions")
    for length in trained.lengths():
        read, wanted = reading.at(length), trained.frequencies(layer_type, length)
        if not same(read, wanted):
            apart.append(f"{_apart(read, wanted)} at {length:,} tokens")
    if len(apart) == 2 and len({text.partition(" at ")[0] for text in apart}) == 1:
        return [apart[0].partition(" at ")[0]]
    return apart


def _apart(read: Frequencies, wanted: Frequencies) -> str:
    """Say by how much frequencies and attention scales differ."""
    parts = []
    if read.inv_freq.shape[-1] != wanted.inv_freq.shape[-1]:
        parts.append(f"{read.inv_freq.shape[-1]} frequencies and not {wanted.inv_freq.shape[-1]}")
    elif frequency_error(read, wanted) > EXACT:
        ratio = read.inv_freq / wanted.inv_freq
        parts.append(f"frequencies {ratio.min():.4g} to {ratio.max():.4g} times the trained ones")
    if scale_error(read, wanted) > EXACT:
        parts.append(f"attention scale {read.attention_scale:.5g} and not {wanted.attention_scale:.5g}")
    return ", ".join(parts)
