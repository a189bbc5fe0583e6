"""Asynchronous successive halving: which candidate goes into which rung next.

One candidate in ``factor`` is promoted from a rung to the next, as soon as it is among the best of
those that are done, and before any other work is begun: L. Li and others, *A System for Massively
Parallel Hyperparameter Tuning*, MLSys 2020.
"""

from __future__ import annotations

import bisect
import itertools
import math
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mscourse.evaluation import Params
from mscourse.pools import EngineId
from mscourse.source import Item

N_SAMPLES = "n_samples"


@dataclass(frozen=True)
class Rung:
    """One rung of a halving search, as far as it has come.

    Attributes
    ----------
    n_resources : int
        What each candidate is given here: rows of the train set, or the value of a parameter.
    scores : dict of int to float
        Number of each candidate that is done here to its mean test score; nan if it failed.
    promoted : frozenset of int
        Candidates that were sent on to the next rung.
    """

    n_resources: int
    scores: dict[int, float]
    promoted: frozenset[int]


@dataclass(frozen=True)
class Ladder:
    """What a candidate is given in each rung.

    Attributes
    ----------
    resource : str
        Rows, or a parameter.
    steps : tuple of int
        The resource of each rung, from the bottom to the top.
    rows : tuple of int
        Rows in the train set of each split, which may have fewer than a rung would give.
    """

    resource: str
    steps: tuple[int, ...]
    rows: tuple[int, ...]

    def params(self, params: Params, rung: int) -> Params:
        """Give the parameters that a candidate has in a rung."""
        return params if self.resource == N_SAMPLES else {**params, self.resource: self.steps[rung]}

    def items(self, candidate: int, params: Params, rung: int) -> list[Item]:
        """List the evaluations of a candidate in a rung."""
        params = self.params(params, rung)
        if self.resource != N_SAMPLES:
            return [(candidate, params, split) for split in range(len(self.rows))]
        return [
            (candidate, params, split, min(self.steps[rung], n_train))
            for split, n_train in enumerate(self.rows)
        ]

    def show(self, rung: int) -> str:
        return f"{self.resource}={self.steps[rung]}"


class _RungState:
    """Who is in a rung, and who may leave it for the next."""

    def __init__(self, factor: float) -> None:
        self.n_begun = 0
        self.scores: dict[int, float] = {}
        self.promoted: set[int] = set()
        self.promotable: list[int] = []
        self._factor = factor
        self._ranked: list[int] = []  # best first, equal ones as they came; without failed ones

    @property
    def n_succeeded(self) -> int:
        return len(self._ranked)

    @property
    def n_failed(self) -> int:
        return len(self.scores) - len(self._ranked)

    def record(self, candidate: int, score: float) -> None:
        self.scores[candidate] = score
        if not math.isnan(score):
            bisect.insort(self._ranked, candidate, key=lambda each: -self.scores[each])
        top = self._ranked[: int(len(self.scores) // self._factor)]
        self.promotable = [each for each in top if each not in self.promoted]

    def promote(self, candidate: int) -> None:
        self.promoted.add(candidate)
        self.promotable = [each for each in self.promotable if each != candidate]

    def best_left(self) -> int | None:
        return next((each for each in self._ranked if each not in self.promoted), None)


class Asha:
    """The rules: which candidate goes into which rung next. Knows neither engines nor splits.

    Parameters
    ----------
    order : sequence of int
        The candidates, in the order in which to begin with them.
    n_rungs : int
        How many rungs there are.
    factor : float
        One candidate in so many is promoted.
    """

    def __init__(self, order: Sequence[int], n_rungs: int, factor: float) -> None:
        self.rungs = [_RungState(factor) for _ in range(n_rungs)]
        self._factor = factor
        self._new = deque(order)
        self._n_candidates = len(order)

    @property
    def n_ready(self) -> int:
        """How often `begin_next` would have an answer now."""
        n_promotable = sum(len(rung.promotable) for rung in self.rungs[:-1])
        return len(self._new) + n_promotable or int(self._last_resort() is not None)

    @property
    def n_expected(self) -> int:
        """How often a candidate will have gone into a rung at the end, as far as can be told."""
        in_rung = total = self._n_candidates
        for rung, above in itertools.pairwise(self.rungs):
            may_go_on = in_rung - rung.n_failed
            in_rung = max(above.n_begun, min(may_go_on, max(1, int(in_rung // self._factor))))
            total += in_rung
        return max(total, sum(rung.n_begun for rung in self.rungs) + self.n_ready)

    def begin_next(self) -> tuple[int, int] | None:
        """Decide on the next candidate and its rung; None if there is nothing to do now."""
        for k in reversed(range(len(self.rungs) - 1)):
            if self.rungs[k].promotable:
                return self._promote(self.rungs[k].promotable[0], k)
        if self._new:
            self.rungs[0].n_begun += 1
            return self._new.popleft(), 0
        last_resort = self._last_resort()
        return None if last_resort is None else self._promote(*last_resort)

    def record(self, candidate: int, rung: int, score: float) -> None:
        """Learn what a candidate has come to in a rung; nan if it failed."""
        self.rungs[rung].record(candidate, score)

    def _promote(self, candidate: int, k: int) -> tuple[int, int]:
        self.rungs[k].promote(candidate)
        self.rungs[k + 1].n_begun += 1
        return candidate, k + 1

    def _last_resort(self) -> tuple[int, int] | None:
        """Who goes on, from which rung, if else the search would end without one at the top."""
        is_busy = any(rung.n_begun > len(rung.scores) for rung in self.rungs)
        if is_busy or self.rungs[-1].n_succeeded:
            return None
        for k in reversed(range(len(self.rungs) - 1)):
            candidate = self.rungs[k].best_left()
            if candidate is not None:
                return candidate, k
        return None


class Promotions:
    """What the scheduler takes its items from: a candidate in a rung is an item for each split.

    Attributes
    ----------
    n_total : int
        Evaluations to be expected, done ones included.
    progress : float
        The part that is done, 0 to 1.
    """

    is_open = False

    def __init__(self, asha: Asha, candidates: Sequence[Params], ladder: Ladder) -> None:
        self._asha = asha
        self._candidates = candidates
        self._ladder = ladder
        self._n_splits = len(ladder.rows)
        self._lock = threading.Lock()  # the rungs are looked at from other threads
        self._waiting: deque[tuple[int, Item]] = deque()  # rung and item
        self._scores: dict[int, tuple[int, dict[int, float]]] = {}  # rung and scores under way
        self._n_under_way = 0
        self._n_done = 0
        self._one_by_one = True
        self.n_total = self._n_splits * asha.n_expected
        self.progress = 0.0

    @property
    def n_waiting(self) -> int:
        if self._one_by_one and self._n_under_way:
            return len(self._waiting)
        return len(self._waiting) + self._n_splits * self._asha.n_ready

    def take(
        self, n: int, engine: EngineId, engines: Sequence[EngineId], *, ahead: bool
    ) -> Sequence[Item]:
        """Hand out about as much work as ``n`` items of the bottom rung are, and one at least.

        As long as there is only one engine, a candidate is begun when the one before is done, so
        that what is promoted does not depend on how long anything takes. From the second engine on
        nobody waits.
        """
        with self._lock:
            if len(engines) > 1:
                self._one_by_one = False
            items = []
            work = float(n)
            while work > 0 and (self._waiting or self._begin_next()):
                rung, item = self._waiting.popleft()
                work -= self._ladder.steps[rung] / self._ladder.steps[0]
                items.append(item)
                self._n_under_way += 1
            return items

    def learn(self, candidate: int, split: int, score: float) -> None:
        """Learn what has come of an item: its test score."""
        with self._lock:
            self._n_under_way -= 1
            self._n_done += 1
            rung, scores = self._scores[candidate]
            scores[split] = score
            if len(scores) == self._n_splits:
                del self._scores[candidate]
                # In the order of the splits: a sum in another order may differ in the last bit.
                mean = np.mean([scores[split] for split in range(self._n_splits)])
                self._asha.record(candidate, rung, float(mean))
            self.n_total = self._n_splits * self._asha.n_expected
            self.progress = max(self.progress, self._n_done / self.n_total)

    def rungs(self) -> list[Rung]:
        with self._lock:
            return [
                Rung(n_resources, dict(rung.scores), frozenset(rung.promoted))
                for n_resources, rung in zip(self._ladder.steps, self._asha.rungs, strict=True)
            ]

    def _begin_next(self) -> bool:
        """Have the items of one more candidate wait; False if there is none."""
        if self._one_by_one and self._n_under_way:
            return False
        chosen = self._asha.begin_next()
        if chosen is None:
            return False
        candidate, rung = chosen
        self._scores[candidate] = rung, {}
        items = self._ladder.items(candidate, self._candidates[candidate], rung)
        self._waiting.extend((rung, item) for item in items)
        return True
