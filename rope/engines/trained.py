"""What were the weights of a folder trained with, and how far from it is what a reader computes?

Our folders say so themselves, in `ropewalk.json`. Of others we take the config at its word.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from ..base import Base
from ..families import FULL, SLIDING
from ..hf import read_base
from ..install import Installed
from ..rotation import rotation_table
from ..scheme import Frequencies, Scheme, make_scheme
from .reader import Config, Reading

EXACT = 1e-6
"largest relative difference of a frequency or the attention scale that counts as none"
PROBED = 256
"positions before the end of a length at which angles are compared"
ENGINE_KEYS = ("attn_factor", "short_mscale", "long_mscale", "max_trained_positions", "mixed_b", "alpha")
"what engines read beside transformers' own keys"
LAYOUTS = ("rope_parameters", "rope_scaling", "rope_theta", "original_max_position_embeddings")


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
        frequencies = {name: self.frequencies(name, self.target_length) for name in self.bases}
        return Installed(
            scheme=self.scheme,
            target_length=self.target_length,
            bases=dict(self.bases),
            frequencies=frequencies,
        ).fingerprint

    def lengths(self) -> tuple[int, ...]:
        """Return where a reading can differ: in the original window, and at the end of the target's."""
        return tuple(sorted({min(self.bases[FULL].original_length, self.target_length), self.target_length}))


def trained_by_us(config: Config, told: Mapping[str, Any]) -> Trained:
    """Return what `ropewalk.json` says, whatever became of the config's rope."""
    rope = told["rope"]
    # The config is asked for heads and windows only, so that a broken rope cannot hide the truth.
    bare: dict[str, Any] = {key: value for key, value in config.items() if key not in LAYOUTS}
    nested = config.get("rope_parameters") or {}
    bare["rope_theta"] = rope["theta"]
    if "partial_rotary_factor" in nested:
        bare["partial_rotary_factor"] = nested["partial_rotary_factor"]
    if SLIDING in nested:
        bare["rope_local_base_freq"] = nested[SLIDING]["rope_theta"]
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
    bases = read_base(without_engine_keys(config))
    full = bases[FULL]
    trained = Trained(
        bases=bases, scheme=full.current, target_length=full.trained_length, told_by="config.json"
    )
    for length in trained.lengths():
        trained.frequencies(FULL, length)
    return trained


def without_engine_keys(config: Config) -> dict[str, Any]:
    """Return a config without what single engines read beside the common keys."""
    cleaned = dict(config)
    for layout in ("rope_parameters", "rope_scaling"):
        if isinstance(config.get(layout), Mapping):
            cleaned[layout] = {key: value for key, value in config[layout].items() if key not in ENGINE_KEYS}
    return cleaned


def same(read: Frequencies, trained: Frequencies) -> bool:
    """Say whether two sets of frequencies and attention scales are one."""
    return frequency_error(read, trained) <= EXACT and scale_error(read, trained) <= EXACT


def frequency_error(read: Frequencies, trained: Frequencies) -> float:
    """Return the largest relative difference of an inverse frequency."""
    if read.inv_freq.shape[-1] != trained.inv_freq.shape[-1]:
        return float("inf")
    return (read.inv_freq / trained.inv_freq - 1).abs().max().item()


def scale_error(read: Frequencies, trained: Frequencies) -> float:
    """Return the relative difference of the attention scale."""
    return abs(read.attention_scale / trained.attention_scale - 1)


def angle_error(reading: Reading, trained: Frequencies, length: int) -> float:
    """Return the largest error of a reader's cos and sin near the end of `length` tokens.

    Readers take the angle in float32, ours is exact to float64; so some of it is there whatever the config.
    """
    told = reading.at(length)
    if told.inv_freq.shape[-1] != trained.inv_freq.shape[-1]:
        return float("inf")
    at = torch.arange(max(0, length - PROBED), length)[None]
    exact = rotation_table(at, trained, torch.float64)
    read = rotation_table(at, told, torch.float32, angles_in=torch.float32)
    return max((a - b).abs().max().item() for a, b in ((exact.cos, read.cos), (exact.sin, read.sin)))


def differences(reading: Reading, trained: Trained, layer_type: str = FULL) -> list[str]:
    """Name what a reading computes otherwise than was trained."""
    found = []
    if reading.rows is not None and reading.rows < trained.target_length:
        found.append(f"angles for {reading.rows:,} of {trained.target_length:,} positions")
    for length in trained.lengths():
        read, wanted = reading.at(length), trained.frequencies(layer_type, length)
        if not same(read, wanted):
            found.append(f"{_apart(read, wanted)} at {length:,} tokens")
    if len(found) == 2 and len({text.partition(" at ")[0] for text in found}) == 1:
        return [found[0].partition(" at ")[0]]
    return found


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
