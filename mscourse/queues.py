"""What a search evaluates next, and where.

Two orders matter. The candidates come in the order that the user asked for, so that a search that
is ended early has seen a fair sample. Towards the end the longest evaluations go first, so that no
engine is left alone with one when all others are done.

Where candidates share a prefix, the evaluations that share it on a split are a *group*: one engine
does them one after the other. An engine that finds no new group takes over a part of another one's.
"""

from __future__ import annotations

import itertools
import threading
from array import array
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mscourse.evaluation import Outcome, Params
from mscourse.pools import EngineId
from mscourse.prefixes import Prefix
from mscourse.scheduler import BATCH_TARGET_S, Item

# The end begins when what is left is this many times the longest evaluation, for each engine.
# Before, the order hardly changes when the search is over.
_END_IN_LONGEST = 3.0

# Evaluations that are shorter than this on the average leave no engine alone for long.
_WORTH_ORDERING_S = 0.02

# Towards the end nothing waits behind an evaluation that takes longer: it may go elsewhere.
_MAY_WAIT_S = 0.1

# More than this are not at the end, whatever the first few took.
_MOST_AT_THE_END = 2_000


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
        self._n_dropped = 0  # of those from position to stop
        # What is left of each candidate at the end, when the order is another one.
        self._end: dict[int, deque[int]] = defaultdict(deque)
        self._n_end = 0
        self._durations = _Durations()
        self._latest: tuple[int, Params] = (-1, {})
        self._lock = threading.Lock()

    @property
    def n_waiting(self) -> int:
        return self._n_end + self._stop - self._position - self._n_dropped

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
                if expected_s >= BATCH_TARGET_S:
                    break
            return items

    def learn(self, candidate: int, split: int, outcome: Outcome, engine: EngineId) -> None:
        self._durations.note(candidate, outcome)

    def add(self, numbers: Iterable[int]) -> int:
        with self._lock:
            self._order = np.concatenate(
                # What was left out by a limit stays left out.
                [self._order[: -(-self._stop // self._n_splits)], np.fromiter(numbers, np.int64)]
            )
            n_more = len(self._order) * self._n_splits - self._stop
            self._stop += n_more
            return n_more

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
                self._n_dropped += max(0, stop - start)
            return n_end + n_waiting - self.n_waiting

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
            if candidate in self._dropped:
                self._n_dropped -= 1
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


# -- shared prefixes -------------------------------------------------------------------------------


@dataclass(eq=False)
class _Group:
    """Evaluations that share a prefix on a split, or what is left of them."""

    prefix: Prefix
    split: int
    candidates: deque[int] = field(default_factory=deque)


@dataclass
class _Cost:
    """What is known of a prefix: seconds of evaluations that fitted it, and of the others."""

    first_s: list[float] = field(default_factory=list)
    later_s: list[float] = field(default_factory=list)

    @property
    def each_s(self) -> float | None:
        return float(np.mean(self.later_s)) if self.later_s else None

    @property
    def prefix_s(self) -> float | None:
        if not self.first_s or not self.later_s:
            return None
        return max(0.0, float(np.mean(self.first_s)) - float(np.mean(self.later_s)))

    def expected_s(self, n: int) -> float | None:
        """Predict a whole group; None if no evaluation of its kind is done."""
        if not self.first_s:
            return None
        return float(np.mean(self.first_s)) + (n - 1) * (self.each_s or 0.0)


class PrefixQueue:
    """Groups of evaluations that share a prefix, each on one engine as long as that is fair.

    Parameters
    ----------
    candidates : sequence of dict
        The candidates.
    prefixes : mapping of int to Prefix
        That of each candidate.
    order : iterable of int
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
        prefixes: Mapping[int, Prefix],
        order: Sequence[int],
        n_splits: int,
        n_most: int | None = None,
    ) -> None:
        self._candidates = candidates
        self._prefixes = dict(prefixes)
        self._n_splits = n_splits
        self._groups: list[_Group] = []  # not begun
        self._current: dict[EngineId, _Group] = {}
        self._costs: dict[Prefix, _Cost] = defaultdict(_Cost)
        self._fresh: set[tuple[EngineId, Prefix, int]] = set()  # begun, and nothing back yet
        self._lock = threading.Lock()
        n_whole, n_rest = divmod(len(order) * n_splits if n_most is None else n_most, n_splits)
        self._add(order[:n_whole])
        self._add(order[n_whole : n_whole + 1], n_rest)

    @property
    def n_waiting(self) -> int:
        groups = [*self._groups, *self._current.values()]
        return sum(len(group.candidates) for group in groups)

    def take(
        self, n: int, engine: EngineId, engines: Sequence[EngineId], *, ahead: bool
    ) -> Sequence[Item]:
        """Hand out up to ``n`` of the group that the engine is at, or of another one."""
        with self._lock:
            for gone in self._current.keys() - set(engines):
                self._groups.append(self._current.pop(gone))
            group = self._current.get(engine)
            if group is None or not group.candidates:
                if ahead:
                    return []  # what it begins next is decided when it is free
                group = self._next_group() or self._part_of_another(engine)
                if group is None:
                    self._current.pop(engine, None)
                    return []
                self._current[engine] = group
                self._fresh.add((engine, group.prefix, group.split))
            chosen = [group.candidates.popleft() for _ in range(min(n, len(group.candidates)))]
            return [
                (number, self._candidates[number], group.split, None, self._prefixes[number])
                for number in chosen
            ]

    def learn(self, candidate: int, split: int, outcome: Outcome, engine: EngineId) -> None:
        with self._lock:
            prefix = self._prefixes[candidate]
            cost = self._costs[prefix]
            place = engine, prefix, split
            if place in self._fresh:
                self._fresh.discard(place)
                cost.first_s.append(outcome.elapsed_s)
            else:
                cost.later_s.append(outcome.elapsed_s)

    def add(self, numbers: Iterable[int]) -> int:
        with self._lock:
            return self._add(list(numbers))

    def know(self, prefixes: Mapping[int, Prefix]) -> None:
        """Learn the prefixes of candidates that will be added."""
        self._prefixes.update(prefixes)

    def drop(self, candidate: int) -> int:
        with self._lock:
            n = 0
            for group in [*self._groups, *self._current.values()]:
                if candidate in group.candidates:
                    group.candidates.remove(candidate)
                    n += 1
            self._groups = [group for group in self._groups if group.candidates]
            return n

    def _add(self, numbers: Sequence[int], n_splits: int | None = None) -> int:
        by_prefix: dict[Prefix, list[int]] = defaultdict(list)
        for number in numbers:
            by_prefix[self._prefixes[number]].append(number)
        # Those that share the first steps follow each other, even if they part later.
        rank: dict[Prefix, int] = {}
        for i, prefix in enumerate(by_prefix):
            for depth in range(len(prefix) + 1):
                rank.setdefault(prefix[:depth], i)
        in_order = sorted(
            by_prefix, key=lambda p: [rank[p[:depth]] for depth in range(1, len(p) + 1)]
        )
        n = 0
        for split in range(self._n_splits if n_splits is None else n_splits):
            for prefix in in_order:
                # Without a prefix there is nothing to keep together.
                members = by_prefix[prefix]
                parts = [members] if prefix else [[member] for member in members]
                self._groups += [_Group(prefix, split, deque(part)) for part in parts]
                n += len(members)
        return n

    def _next_group(self) -> _Group | None:
        """Begin a kind of group that is unknown, or else the longest."""
        if not self._groups:
            return None
        expected_s = [
            self._costs[group.prefix].expected_s(len(group.candidates)) for group in self._groups
        ]
        under_way = {(prefix, split) for _, prefix, split in self._fresh}
        tried = {prefix for prefix, _ in under_way}
        unknown = [
            i
            for i, seconds in enumerate(expected_s)
            if seconds is None and self._groups[i].prefix not in tried
        ]
        if unknown:
            return self._groups.pop(unknown[0])
        # A kind that is being tried counts as the mean of the others.
        known = [seconds for seconds in expected_s if seconds is not None]
        mean_s = float(np.mean(known)) if known else 0.0
        longest = max(
            range(len(expected_s)),
            key=lambda i: (mean_s if expected_s[i] is None else expected_s[i], -i),
        )
        return self._groups.pop(longest)

    def _part_of_another(self, engine: EngineId) -> _Group | None:
        """Take over the end of the group that would last longest, if that saves time.

        Of r evaluations of i seconds, after a prefix of p seconds, this engine is done with n at
        p + n i, the other one with the rest at (r - n) i: both at once for n = (r - p / i) / 2.
        """
        best: tuple[float, _Group, int] | None = None
        for other, group in self._current.items():
            n_left = len(group.candidates)
            cost = self._costs[group.prefix]
            each_s, prefix_s = cost.each_s, cost.prefix_s
            if other == engine or not n_left or each_s is None or prefix_s is None:
                continue
            n_taken = int((n_left - prefix_s / max(each_s, 1e-9)) / 2)
            if n_taken > 0 and (best is None or n_left * each_s > best[0]):
                best = n_left * each_s, group, n_taken
        if best is None:
            return None
        _, group, n_taken = best
        taken = [group.candidates.pop() for _ in range(n_taken)]
        return _Group(group.prefix, group.split, deque(reversed(taken)))
