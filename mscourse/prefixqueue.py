"""What a search evaluates next if its candidates share fitted steps, and where.

The evaluations that share a prefix on a split are a *group*: one engine does them one after the
other. An engine that finds no new group takes over a part of another one's.
"""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mscourse.evaluation import Outcome, Params
from mscourse.pools import EngineId
from mscourse.prefixes import Prefix
from mscourse.queues import Place
from mscourse.source import Item


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
                group_left = self._current.pop(gone)
                if group_left.candidates:
                    self._groups.append(group_left)
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

    def skip(self, done: Sequence[Place]) -> list[Place]:
        with self._lock:
            of_split: dict[int, set[int]] = defaultdict(set)
            for candidate, split in done:
                of_split[split].add(candidate)
            waiting = []
            for group in self._groups:  # none has begun
                found = [each for each in group.candidates if each in of_split[group.split]]
                waiting += [(candidate, group.split) for candidate in found]
                gone = set(found)
                group.candidates = deque(each for each in group.candidates if each not in gone)
            self._groups = [group for group in self._groups if group.candidates]
            return waiting

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
