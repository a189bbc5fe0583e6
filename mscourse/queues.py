"""What a search evaluates next, and where.

Two orders matter. The candidates come in the order that the user asked for, so that a search that
is ended early has seen a fair sample. Towards the end the longest evaluations go first, so that no
engine is left alone with one when all others are done.
"""

from __future__ import annotations

import itertools
import threading
from array import array
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mscourse.evaluation import Outcome, Params
from mscourse.pools import EngineId
from mscourse.scheduler import batch_target_s
from mscourse.source import Item

# The end begins when what is left is this many times the longest evaluation, for each engine.
# Before, the order hardly changes when the search is over.
_END_IN_LONGEST = 3.0

# Evaluations that are shorter than this on the average leave no engine alone for long.
_WORTH_ORDERING_S = 0.02

# Towards the end nothing waits behind an evaluation that takes longer: it may go elsewhere.
_MAY_WAIT_S = 0.1

# More than this are not at the end, whatever the first few took.
_MOST_AT_THE_END = 2_000


# An evaluation of a queue: the number of its candidate, and its split.
Place: TypeAlias = tuple[int, int]


class SearchQueue(Protocol):
    """A source for the scheduler, to which candidates may be added, and from which taken."""

    is_open: bool

    @property
    def n_waiting(self) -> int: ...

    def take(
        self, n: int, engine: EngineId, engines: Sequence[EngineId], *, ahead: bool
    ) -> Sequence[Item]: ...

    def learn(self, candidate: int, split: int, outcome: Outcome, engine: EngineId) -> None:
        """Note how long an evaluation took."""

    def add(self, numbers: Iterable[int]) -> int:
        """Add candidates by their number, all splits of each; return how many evaluations."""

    def drop(self, candidate: int) -> int:
        """Take out what waits of a candidate; return how many evaluations."""

    def skip(self, done: Sequence[Place]) -> list[Place]:
        """Take out evaluations that are done; return those that were waiting."""


class CandidateQueue:
    """Candidates one after the other, all splits of each; the longest first at the end.

    Parameters
    ----------
    candidates : sequence of dict
        Read when an evaluation is handed out, so that they may be lazy.
    order : ndarray of int
        Numbers of the candidates, in the order in which to evaluate them.
    n_splits : int
        Splits of each.
    n_most : int, optional
        Hand out no more than this many evaluations.
    """

    is_open = False

    def __init__(
        self,
        candidates: Sequence[Params],
        order: NDArray[np.int64],
        n_splits: int,
        n_most: int | None = None,
    ) -> None:
        self._candidates = candidates
        self._n_splits = n_splits
        self._order = order
        n_all = len(order) * n_splits
        # Evaluations are numbered in this order. From position to stop nothing is handed out yet.
        self._position, self._stop = 0, n_all if n_most is None else min(n_most, n_all)
        self._dropped: set[int] = set()
        self._skipped: set[Place] = set()
        self._n_left_out = 0  # dropped or skipped, of those from position to stop
        # What is left of each candidate at the end, when the order is another one.
        self._end: dict[int, deque[int]] = defaultdict(deque)
        self._n_end = 0
        self._durations = _Durations()
        self._latest: tuple[int, Params] = (-1, {})
        self._lock = threading.Lock()

    @property
    def n_waiting(self) -> int:
        return self._n_end + self._stop - self._position - self._n_left_out

    def take(
        self, n: int, engine: EngineId, engines: Sequence[EngineId], *, ahead: bool
    ) -> Sequence[Item]:
        """Hand out up to ``n``, and no more of those known than make a batch."""
        with self._lock:
            if self._is_near_the_end(len(engines)):
                for candidate, split in self._in_order():
                    self._end[candidate].append(split)
                    self._n_end += 1
            at_the_end = self._position == self._stop
            if at_the_end and ahead and self._durations.mean_s > _MAY_WAIT_S:
                return []
            chosen = self._from_the_end() if at_the_end else self._in_order()
            items = []
            expected_s = 0.0
            for candidate, split in itertools.islice(chosen, n):
                items.append((candidate, self._params(candidate), split))
                expected_s += self._durations.of(candidate) or 0.0
                if expected_s >= batch_target_s(len(engines)):
                    break
            return items

    def learn(self, candidate: int, split: int, outcome: Outcome, engine: EngineId) -> None:
        self._durations.note(candidate, outcome)

    def add(self, numbers: Iterable[int]) -> int:
        with self._lock:
            # What was left out by a limit stays left out, the rest of a candidate too.
            n_begun = -(-self._stop // self._n_splits)
            n_rest = n_begun * self._n_splits - self._stop
            for split in range(self._n_splits - n_rest, self._n_splits):
                self._skipped.add((int(self._order[n_begun - 1]), split))
            self._n_left_out += n_rest
            self._order = np.concatenate([self._order[:n_begun], np.fromiter(numbers, np.int64)])
            self._stop = len(self._order) * self._n_splits
            return (len(self._order) - n_begun) * self._n_splits

    def drop(self, candidate: int) -> int:
        with self._lock:
            n_end = len(self._end.pop(candidate, ()))
            self._n_end -= n_end
            if candidate in self._dropped:
                return n_end
            self._dropped.add(candidate)
            n_waiting = self.n_waiting
            for place in np.flatnonzero(self._order == candidate).tolist():
                start = max(self._position, place * self._n_splits)
                stop = min(self._stop, (place + 1) * self._n_splits)
                splits = (position % self._n_splits for position in range(start, stop))
                self._n_left_out += sum((candidate, split) not in self._skipped for split in splits)
            return n_end + n_waiting - self.n_waiting

    def skip(self, done: Sequence[Place]) -> list[Place]:
        with self._lock:
            place_of = {candidate: place for place, candidate in enumerate(self._order.tolist())}
            waiting = [
                (candidate, split)
                for candidate, split in done
                if self._position <= place_of[candidate] * self._n_splits + split < self._stop
            ]
            self._skipped.update(waiting)
            self._n_left_out += len(waiting)
            return waiting

    def _params(self, candidate: int) -> Params:
        # The same object for all splits of a candidate travels once, and is copied once.
        if self._latest[0] != candidate:
            self._latest = candidate, self._candidates[candidate]
        return self._latest[1]

    def _in_order(self) -> Iterator[tuple[int, int]]:
        while self._position < self._stop:
            place, split = divmod(self._position, self._n_splits)
            candidate = int(self._order[place])
            self._position += 1
            if candidate in self._dropped or (candidate, split) in self._skipped:
                self._n_left_out -= 1
            else:
                yield candidate, split

    def _is_near_the_end(self, n_engines: int) -> bool:
        n, known = self.n_waiting, self._durations
        return (
            n <= _MOST_AT_THE_END
            and known.mean_s >= _WORTH_ORDERING_S
            and n * known.mean_s <= _END_IN_LONGEST * known.longest_s * n_engines
        )

    def _from_the_end(self) -> Iterator[tuple[int, int]]:
        """Choose one evaluation of each candidate that is unknown, then the longest."""
        while self._end:
            durations = {candidate: self._durations.of(candidate) for candidate in self._end}
            candidate = next((c for c, seconds in durations.items() if seconds is None), -1)
            if candidate < 0:
                candidate = max(durations, key=lambda c: durations[c] or 0.0)
            splits = self._end[candidate]
            split = splits.popleft()
            self._n_end -= 1
            if not splits:
                del self._end[candidate]
            yield candidate, split


class _Durations:
    """How long the evaluations of each candidate took."""

    def __init__(self) -> None:
        self._sum_s = array("d")
        self._n = array("l")
        self._all_s = 0.0
        self._n_all = 0
        self._seen: set[tuple[str, int]] = set()
        self.longest_s = 0.0

    @property
    def mean_s(self) -> float:
        return self._all_s / self._n_all if self._n_all else 0.0

    def of(self, candidate: int) -> float | None:
        """Give the mean duration of a candidate's evaluations, or None if none is known."""
        if candidate >= len(self._n) or not self._n[candidate]:
            return None
        return self._sum_s[candidate] / self._n[candidate]

    def note(self, candidate: int, outcome: Outcome) -> None:
        seconds = outcome.elapsed_s
        process = outcome.host, outcome.pid
        if process not in self._seen:
            self._seen.add(process)  # its first evaluation has imported what it needs
            return
        if not seconds >= 0:  # nan: its engine has died
            return
        if candidate >= len(self._n):
            more = candidate + 1 - len(self._n)
            self._sum_s.extend([0.0] * more)
            self._n.extend([0] * more)
        self._sum_s[candidate] += seconds
        self._n[candidate] += 1
        self._all_s += seconds
        self._n_all += 1
        self.longest_s = max(self.longest_s, seconds)
