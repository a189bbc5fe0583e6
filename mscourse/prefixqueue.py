"""What a search evaluates next if its candidates share fitted steps, and where.

The evaluations that share a prefix on a split are a *group*: one engine does them one after the
other. An engine that finds no new group takes over a part of another one's.
"""

from __future__ import annotations

import heapq
import threading
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from mscourse.evaluation import Outcome, Params
from mscourse.pools import EngineId
from mscourse.prefixes import Prefix
from mscourse.queues import Place
from mscourse.source import Item


class _Rank(NamedTuple):
    """When a group begins, among others: the least first."""

    is_known: bool  # something is known of its kind
    less_s: float  # the seconds that it will take, negative: the longest first
    number: int
    prefix: Prefix


@dataclass(eq=False)
class _Group:
    """Evaluations that share a prefix on a split, or what is left of them.

    Without a prefix there is nothing to keep together: then it is a bundle of groups, of one
    evaluation each.
    """

    prefix: Prefix
    split: int
    candidates: deque[int]

    @property
    def n_at_once(self) -> int:
        """How many evaluations begin together."""
        return len(self.candidates) if self.prefix else min(1, len(self.candidates))


@dataclass
class _Mean:
    """The mean of durations."""

    total_s: float = 0.0
    n: int = 0

    def note(self, seconds: float) -> None:
        self.total_s += seconds
        self.n += 1

    @property
    def seconds(self) -> float | None:
        return self.total_s / self.n if self.n else None


@dataclass(eq=False)
class _Kind:
    """All that shares a prefix: groups that have not begun, and how long its evaluations take."""

    prefix: Prefix
    groups: dict[int, _Group] = field(default_factory=dict)  # by number, in order
    is_tried: bool = False  # one has begun
    first: _Mean = field(default_factory=_Mean)  # of evaluations that fitted the prefix
    later: _Mean = field(default_factory=_Mean)  # of the others
    rank: _Rank | None = None  # as it was looked up last
    counted: tuple[float, int] = 0.0, 0  # seconds and groups, likewise

    @property
    def prefix_s(self) -> float | None:
        first_s, each_s = self.first.seconds, self.later.seconds
        return None if first_s is None or each_s is None else max(0.0, first_s - each_s)

    def expected_s(self, n: int, n_groups: int = 1) -> float | None:
        """Predict groups of ``n`` evaluations together; None if no first one is done."""
        first_s = self.first.seconds
        if first_s is None:
            return None
        return n_groups * first_s + (n - n_groups) * (self.later.seconds or 0.0)

    def all_expected(self) -> tuple[float, int]:
        """Predict all groups together, and count them; nothing if that is not known."""
        n = sum(len(group.candidates) for group in self.groups.values())
        n_groups = len(self.groups) if self.prefix else n
        seconds = self.expected_s(n, n_groups)
        return (0.0, 0) if seconds is None else (seconds, n_groups)

    def current_rank(self) -> _Rank | None:
        """Rank the group that would begin; None if there is none, or if it is not known yet."""
        if not self.groups or (self.is_tried and not self.first.n):
            return None
        if not self.first.n:
            return _Rank(False, 0.0, next(iter(self.groups)), self.prefix)
        return min(
            _Rank(True, -(self.expected_s(group.n_at_once) or 0.0), number, self.prefix)
            for number, group in self.groups.items()
        )


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
        self.n_waiting = 0
        self._current: dict[EngineId, _Group] = {}
        self._fresh: set[tuple[EngineId, Prefix, int]] = set()  # begun, and nothing back yet
        self._kinds: dict[Prefix, _Kind] = {}
        self._n_groups = 0  # that there have been
        # Kinds are ranked when the next group is looked for, and only those that have changed.
        self._changed: set[_Kind] = set()
        self._ranks: list[_Rank] = []  # a heap, which also has ranks of before
        self._unsettled: dict[Prefix, _Kind] = {}  # being tried, with groups that wait
        self._known_s, self._n_known = 0.0, 0  # of all groups that are ranked by their seconds
        self._lock = threading.Lock()
        n_whole, n_rest = divmod(len(order) * n_splits if n_most is None else n_most, n_splits)
        self._add(order[:n_whole])
        self._add(order[n_whole : n_whole + 1], n_rest)

    def take(
        self, n: int, engine: EngineId, engines: Sequence[EngineId], *, ahead: bool
    ) -> Sequence[Item]:
        """Hand out up to ``n`` of the group that the engine is at, or of another one."""
        with self._lock:
            for gone in self._current.keys() - set(engines):
                self._put(self._current.pop(gone))
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
            self.n_waiting -= len(chosen)
            return [
                (number, self._candidates[number], group.split, None, self._prefixes[number])
                for number in chosen
            ]

    def learn(self, candidate: int, split: int, outcome: Outcome, engine: EngineId) -> None:
        if not outcome.elapsed_s >= 0:  # nan: its engine has died
            return
        with self._lock:
            kind = self._kind_of(self._prefixes[candidate])
            place = engine, kind.prefix, split
            (kind.first if place in self._fresh else kind.later).note(outcome.elapsed_s)
            self._fresh.discard(place)
            self._changed.add(kind)

    def add(self, numbers: Iterable[int]) -> int:
        with self._lock:
            return self._add(list(numbers))

    def know(self, prefixes: Mapping[int, Prefix]) -> None:
        """Learn the prefixes of candidates that will be added."""
        self._prefixes.update(prefixes)

    def drop(self, candidate: int) -> int:
        with self._lock:
            kind = self._kind_of(self._prefixes[candidate])
            n = 0
            for group in [*kind.groups.values(), *self._current.values()]:
                if candidate in group.candidates:
                    group.candidates.remove(candidate)
                    n += 1
            self._forget_empty(kind)
            self.n_waiting -= n
            return n

    def skip(self, done: Sequence[Place]) -> list[Place]:
        with self._lock:
            of_split: dict[int, set[int]] = defaultdict(set)
            for candidate, split in done:
                of_split[split].add(candidate)
            waiting = []
            for kind in self._kinds.values():  # no group has begun
                for group in kind.groups.values():
                    gone = of_split[group.split]
                    waiting += [(each, group.split) for each in group.candidates if each in gone]
                    group.candidates = deque(each for each in group.candidates if each not in gone)
                self._forget_empty(kind)
            self.n_waiting -= len(waiting)
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
        n_splits = self._n_splits if n_splits is None else n_splits
        for split in range(n_splits):
            for prefix in in_order:
                self._put(_Group(prefix, split, deque(by_prefix[prefix])))
        self.n_waiting += len(numbers) * n_splits
        return len(numbers) * n_splits

    def _put(self, group: _Group) -> None:
        """Let a group wait behind all others."""
        if group.candidates:
            kind = self._kind_of(group.prefix)
            kind.groups[self._n_groups] = group
            self._n_groups += 1
            self._changed.add(kind)

    def _kind_of(self, prefix: Prefix) -> _Kind:
        return self._kinds.setdefault(prefix, _Kind(prefix))

    def _forget_empty(self, kind: _Kind) -> None:
        kind.groups = {i: group for i, group in kind.groups.items() if group.candidates}
        self._changed.add(kind)

    def _next_group(self) -> _Group | None:
        """Begin a kind of group that is unknown, or else the longest."""
        self._rank_changed()
        best = self._ranks[0] if self._ranks else None
        if self._unsettled and (best is None or best.is_known):
            # A kind that is being tried counts as the mean of the others.
            mean_s = self._known_s / self._n_known if self._n_known else 0.0
            number, prefix = min((next(iter(k.groups)), p) for p, k in self._unsettled.items())
            tried = _Rank(True, -mean_s, number, prefix)
            best = tried if best is None else min(best, tried)
        return None if best is None else self._begin(self._kinds[best.prefix], best.number)

    def _begin(self, kind: _Kind, number: int) -> _Group:
        """Take a group out, or the first one of a bundle."""
        kind.is_tried = True
        self._changed.add(kind)
        group = kind.groups[number]
        n = group.n_at_once
        if n == len(group.candidates):
            return kind.groups.pop(number)
        return _Group(kind.prefix, group.split, deque([group.candidates.popleft()]))

    def _rank_changed(self) -> None:
        for kind in self._changed:
            before, kind.rank = kind.rank, kind.current_rank()
            if kind.rank is not None and kind.rank != before:
                heapq.heappush(self._ranks, kind.rank)
            if kind.groups and kind.rank is None:
                self._unsettled[kind.prefix] = kind
            else:
                self._unsettled.pop(kind.prefix, None)
            (seconds_before, n_before), kind.counted = kind.counted, kind.all_expected()
            self._known_s += kind.counted[0] - seconds_before
            self._n_known += kind.counted[1] - n_before
        self._changed.clear()
        while self._ranks and self._ranks[0] != self._kinds[self._ranks[0].prefix].rank:
            heapq.heappop(self._ranks)

    def _part_of_another(self, engine: EngineId) -> _Group | None:
        """Take over the end of the group that would last longest, if that saves time.

        Of r evaluations of i seconds, after a prefix of p seconds, this engine is done with n at
        p + n i, the other one with the rest at (r - n) i: both at once for n = (r - p / i) / 2.
        """
        best: tuple[float, _Group, int] | None = None
        for other, group in self._current.items():
            n_left = len(group.candidates)
            kind = self._kinds[group.prefix]
            each_s, prefix_s = kind.later.seconds, kind.prefix_s
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
