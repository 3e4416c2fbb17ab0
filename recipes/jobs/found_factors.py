"""What did a search of factors find, and what did it cost? The words and the numbers of its result."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...eval import Interval

FOUND = "found"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One scheme: mean losses (nats) on both sets of documents, and how much better the found vector is."""

    name: str
    searched: float
    held_out: float
    gain: Interval | None


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a search found, beside the published schemes."""

    file: Path
    rows: tuple[Row, ...]
    searched: int
    checked: int
    tokens: int
    forwards: int
    factors: tuple[float, ...]
    rounds: tuple[tuple[int, float], ...]
    "tokens read and the best loss (nats) on the searched documents, after each round"

    @property
    def best_seed(self) -> Row:
        """Return the published scheme that is best on the held-out documents."""
        return min((row for row in self.rows if row.gain is not None), key=lambda row: row.held_out)

    @property
    def tokens_per_nat(self) -> float | None:
        """Return tokens read in the search for each nat gained over the best published scheme."""
        gain = self.best_seed.gain
        return self.tokens / gain.estimate if gain is not None and gain.estimate > 0 else None

    def verdict(self) -> str:
        """Say in words what was gained over the best published scheme, for how many tokens."""
        seed = self.best_seed
        gain = seed.gain
        assert gain is not None
        span = f"{gain.low:+.4f} to {gain.high:+.4f} nats on {gain.n} documents not searched on"
        paid = f"{self.tokens:,} tokens in {self.forwards:,} forwards"
        if not gain.distinguishable:
            return f"A tie: the found vector and {seed.name} are not distinguishable ({span}); {paid}."
        verdict = "better" if gain.estimate > 0 else "worse"
        each = "" if self.tokens_per_nat is None else f", {self.tokens_per_nat:,.0f} tokens a nat"
        size = abs(gain.estimate)
        return f"The found vector is {size:.4f} nats {verdict} than {seed.name} ({span}); {paid}{each}."

    def json(self) -> dict[str, Any]:
        """Return it as JSON values, the file's path among them."""
        told = asdict(self) | {"file": str(self.file), "verdict": self.verdict()}
        return told | {"tokens_per_nat": self.tokens_per_nat}
