"""Luck that depends on what is evaluated, not on when or where.

An estimator without a ``random_state`` draws from the global generators of its process, so that its
score depends on what that process did before. Here each evaluation gets generators of its own,
seeded by the candidate and the split.
"""

from __future__ import annotations

import random
import struct
import threading
import zlib

import numpy as np
from numpy.random.mtrand import get_bit_generator, set_bit_generator

# The legacy generator that ``numpy.random.seed`` and scikit-learn's ``random_state=None`` use. It
# takes the place of the process's own for as long as an evaluation lasts: to save and restore the
# state instead would take 60 us.
_OWN = np.random.MT19937(0)


class _OwnGenerators:
    """Leaves the global generators of this process as they are, whatever draws from them.

    They are one for all threads. So are these, and threads that evaluate side by side share their
    luck; the last one to leave puts back what the first one found.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_inside = 0

    def __enter__(self) -> None:
        with self._lock:
            if not self._n_inside:
                self._found = get_bit_generator(), random.getstate()
                set_bit_generator(_OWN)
            self._n_inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._n_inside -= 1
            if not self._n_inside:
                numpys, pythons = self._found
                set_bit_generator(numpys)
                random.setstate(pythons)


own_generators = _OwnGenerators()


def reseed(*numbers: int) -> None:
    """Seed the global generators by some integers."""
    seed = zlib.crc32(struct.pack(f"<{len(numbers)}q", *numbers))
    np.random.seed(seed)
    random.seed(seed)
