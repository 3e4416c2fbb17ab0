from .ledger import Ledger, Trial
from .published import Published
from .racing import Racing
from .space import CriticalSpace, Space, Candidate
