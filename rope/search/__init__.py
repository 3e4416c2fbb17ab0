"""search: which divisors of the frequencies suit a model best, and how few tokens tell?

    space.py      what is searched over: LongRoPE's and LongRoPE2's vectors, and their published operators
    ledger.py     what was paid for: every trial once, in a journal that a stopped search goes on from
    published.py  the published search: a population on every document
    racing.py     the search for less: a cloud (CMA-ES) that races over few documents first

The fitness is passed in: nothing here has a model.
"""

from .ledger import Fitness, Ledger, Trial
from .published import Published
from .racing import Racing
from .space import FIRST_TOKENS, Candidate, CriticalSpace, Space, published_schemes

ALGORITHMS = {"published": Published, "racing": Racing}
METHODS = {"longrope": Space, "longrope2": CriticalSpace}

__all__ = [
    "ALGORITHMS",
    "FIRST_TOKENS",
    "METHODS",
    "Candidate",
    "CriticalSpace",
    "Fitness",
    "Ledger",
    "Published",
    "Racing",
    "Space",
    "Trial",
    "published_schemes",
]
