"""The virtual time that simulated searches run in: nodes, their engines, network and client.

::

    Scheduler ─→ client's time ─→ latency ─→ engine's time ─→ latency ─→ client's time ─→ Scheduler
                                                 ↑
                              nodes boot, are interrupted, are replaced

`Machine` is what the scheduler takes for its pool of engines. Nothing sleeps here: the clock is set
to when the next thing happens.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mscourse.batch import BatchReport, Pickled
from mscourse.errors import ParameterError
from mscourse.pools import EngineId, Future
from mscourse.scheduler import _LOOK_FOR_ENGINES_S
from mscourse.source import Ended, Item

# A direct view hears of an engine's death after about so long.
_NEWS_OF_DEATH_S = 0.05

#: Per hour and node. A node that lives for less than a minute gets nothing done.
MOST_INTERRUPTIONS = 60


def check_number(name: str, value: float, *, at_least: float) -> None:
    """Raise a ParameterError unless a number is finite and large enough."""
    if not (math.isfinite(value) and value >= at_least):
        raise ParameterError(f"{name} must be a number from {at_least:g} on; it is {value!r}.")


def as_durations(durations_s: ArrayLike) -> NDArray[np.float64]:
    """Make an array of seconds; raise a ParameterError if they cannot be durations."""
    known = np.asarray(durations_s, dtype=float)
    if known.ndim != 1 or not known.size or not np.isfinite(known).all() or known.min() < 0:
        raise ParameterError(
            "durations_s must be at least one number of seconds, each finite and not negative; "
            f"it is {durations_s!r}."
        )
    return known


@dataclass(frozen=True)
class Overheads:
    """What a search costs besides its evaluations.

    The defaults were measured with local engines on a machine of two cores.

    Attributes
    ----------
    latency_s : float
        From the client to an engine and back, without anybody's work.
    client_s_per_message, client_s_per_item : float
        What the client, or else the controller, is busy with each batch and each evaluation. One
        thing at a time: this is what limits how many engines one client can feed.
    client_s_per_engine : float
        What the client is busy each time that it looks for engines without work, per engine.
    engine_s_per_message, engine_s_per_item : float
        What an engine is busy with, besides the evaluations themselves.
    """

    latency_s: float = 0.005
    client_s_per_message: float = 0.003
    client_s_per_item: float = 1e-5
    client_s_per_engine: float = 4e-7
    engine_s_per_message: float = 0.0045
    engine_s_per_item: float = 3e-6

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            check_number(name, value, at_least=0.0)


#: For tests and for comparison: nothing takes time but the evaluations.
NO_OVERHEADS = Overheads(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class SimulatedNode:
    """A machine with engines.

    Attributes
    ----------
    n_engines : int
    launched_s : float
        When it is asked for, in seconds from the beginning.
    boot_s : float
        From then until its engines have joined.
    interruptions_per_hour : float
        How often it is taken away, up to 60. All its engines die together. It is replaced at once
        by one that takes as long to boot.
    """

    n_engines: int
    launched_s: float = 0.0
    boot_s: float = 0.0
    interruptions_per_hour: float = 0.0

    def __post_init__(self) -> None:
        check_number("n_engines", self.n_engines, at_least=1)
        for name in ("launched_s", "boot_s", "interruptions_per_hour"):
            check_number(name, getattr(self, name), at_least=0.0)
        if self.interruptions_per_hour > MOST_INTERRUPTIONS:  # else the search might never end
            raise ParameterError(
                f"interruptions_per_hour must be at most {MOST_INTERRUPTIONS}; it is "
                f"{self.interruptions_per_hour!r}."
            )


@dataclass(frozen=True)
class NodeLife:
    """A machine from launch to end: the number of its node, and two times in seconds."""

    node: int
    launched_s: float
    ended_s: float


class Evaluations:
    """A source of numbered evaluations, each of which has its duration, however often it is run."""

    is_open = False

    def __init__(self, durations_s: NDArray[np.float64], n: int) -> None:
        self._n_known = len(durations_s)
        sums: list[float] = np.concatenate([[0.0], np.cumsum(durations_s)]).tolist()
        self._sums_s = sums
        self.mean_s = max(sums[-1] / self._n_known, 1e-12)
        self._next = 0
        self.n = self.n_waiting = n
        self.n_ended = self.n_given_up = 0

    def take(
        self, n: int, engine: EngineId, engines: Sequence[EngineId], *, ahead: bool
    ) -> Sequence[Item]:
        first, n = self._next, min(n, self.n_waiting)
        self.skip(n)
        return [(number,) for number in range(first, first + n)]

    def skip(self, n: int) -> None:
        self._next += n
        self.n_waiting -= n

    def end(self, ended: Sequence[Ended]) -> None:
        self.n_ended += len(ended)
        self.n_given_up += sum(each.failure is not None for each in ended)

    def work_s(self, first: int, n: int) -> float:
        """How long so many take, one after the other."""
        start = first % self._n_known
        if start + n <= self._n_known:
            return self._sums_s[start + n] - self._sums_s[start]
        rounds, rest = divmod(start + n, self._n_known)
        return rounds * self._sums_s[-1] + self._sums_s[rest] - self._sums_s[start]


class _DeathError(Exception):
    """An engine has died."""


_DIED = _DeathError()


class Batch:
    """A batch under way; to the scheduler it is the future of its result."""

    __slots__ = ("arrives_s", "done", "end_s", "engine", "error", "first", "n", "start_s", "work_s")

    def __init__(
        self, engine: Engine, first: int, n: int, start_s: float, work_s: float, end_s: float
    ) -> None:
        self.engine, self.first, self.n = engine, first, n
        self.start_s, self.work_s, self.end_s = start_s, work_s, end_s
        self.arrives_s = end_s
        self.error: Exception | None = None

    def left_at(self, now_s: float) -> float:
        """Give the part of it that is not done yet."""
        if now_s >= self.end_s:
            return 0.0
        return min(1.0, (self.end_s - now_s) / (self.end_s - self.start_s))

    def add_done_callback(self, callback: Callable[[Any], None]) -> object:
        self.done = callback
        return None

    def result(self) -> BatchReport:
        if self.error is not None:
            raise self.error
        return BatchReport([(None, None)] * self.n, self.work_s)


class Engine:
    """An engine by its number: when it is free, and what it has."""

    __slots__ = ("batches", "free_s", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.free_s = 0.0
        self.batches: list[Batch] = []


class Engines(Sequence[EngineId]):
    """All engines by their number, of which only those are listed that could be given work.

    The scheduler asks each engine how much it has, and goes on to the next if it has enough: with
    thousands of engines that is most of its time, and leads to nothing.
    """

    def __init__(self, n: int, listed: Sequence[int]) -> None:
        self._n, self._listed = n, listed

    def __len__(self) -> int:
        return self._n

    def __iter__(self) -> Iterator[EngineId]:
        return iter(self._listed)

    def __getitem__(self, index: Any) -> Any:
        return self._listed[index]


class Machine:
    """Nodes, their engines, the network and the client's time, on a virtual clock.

    The clock stands at `now_s`, but for the seconds that were skipped. Batches know nothing of
    these, so that a skip leaves what is under way as it is; nodes live by the clock.
    """

    shares_fate = False

    def __init__(
        self,
        evaluations: Evaluations,
        nodes: Sequence[SimulatedNode],
        overheads: Overheads,
        random: np.random.Generator,
    ) -> None:
        self._evaluations, self._nodes, self._costs = evaluations, nodes, overheads
        self._random = random
        self.now_s = self.skipped_s = 0.0
        self._latency_s = overheads.latency_s / 2  # one way

        self._all: dict[int, Engine] = {}
        self._idle: set[int] = set()
        self._with_one: set[int] = set()
        self._n_numbers = self._n_events = self.n_changes = 0
        self._arriving: list[tuple[float, int, Batch]] = []
        # When what happens to which node: it joins, or it is interrupted with its engines.
        self._events: list[tuple[float, int, int, list[Engine] | None]] = []
        self._launched: dict[int, float] = {}
        self.lives: list[NodeLife] = []
        for number, node in enumerate(nodes):
            self._launch(number, node.launched_s)

        self.client_s = self.work_s = self.engine_s = self._engine_since_s = 0.0
        self.n_messages = self.n_rerun = self.n_interruptions = 0
        self.has_lost = False  # whether the scheduler has taken evaluations back
        self.n_skipped = 0.0  # messages

    # -- what the scheduler asks of a pool -------------------------------------------------------

    def engines(self) -> Sequence[EngineId]:
        self._spend(self._costs.client_s_per_engine * len(self._all))
        # The scheduler sends nothing ahead of an engine when the rest is for whoever is free first.
        ahead = self.has_lost or self._evaluations.n_waiting >= len(self._all)
        room = self._idle | self._with_one if ahead else self._idle
        return Engines(len(self._all), sorted(room))

    def send(self, engine: EngineId, function: Pickled, items: Sequence[Item]) -> Future:
        there = self._all[engine]  # type: ignore[index]  # here, engines are numbers
        first, n, costs = items[0][0], len(items), self._costs
        self._spend((costs.client_s_per_message + n * costs.client_s_per_item) / 2)
        self.n_messages += 1
        work_s = self._evaluations.work_s(first, n)
        start_s = max(self.now_s + self._latency_s, there.free_s) + costs.engine_s_per_message
        end_s = there.free_s = start_s + work_s + n * costs.engine_s_per_item
        batch = Batch(there, first, n, start_s, work_s, end_s)
        self.work_s += work_s
        there.batches.append(batch)
        self._note_room(there)
        self._will_arrive(batch, end_s + self._latency_s)
        return batch

    def is_death(self, error: BaseException) -> bool:
        return error is _DIED

    def forget(self, future: Any) -> None:
        costs, there = self._costs, future.engine
        self._spend((costs.client_s_per_message + future.n * costs.client_s_per_item) / 2)
        there.batches.remove(future)
        if there.number in self._all:
            self._note_room(there)

    def was_cancelled(self, error: BaseException) -> bool:
        return False

    def cancel(self, engine: EngineId, futures: Sequence[Any]) -> None:
        pass

    def replace(self, engine: EngineId) -> None:
        pass  # its node is replaced

    def retire(self, engine: EngineId) -> None:
        pass  # none leaves: here, interruptions come without notice

    def is_replacing(self) -> bool:
        return True

    def is_gone(self) -> bool:
        return False

    def why_empty(self) -> str:
        return "Its nodes boot."

    def _spend(self, seconds: float) -> None:
        self.client_s += seconds
        self.now_s += seconds

    def _note_room(self, engine: Engine) -> None:
        n_batches, number = len(engine.batches), engine.number
        (self._idle.add if n_batches == 0 else self._idle.discard)(number)
        (self._with_one.add if n_batches == 1 else self._with_one.discard)(number)

    # -- what happens meanwhile ------------------------------------------------------------------

    def _will_arrive(self, batch: Batch, at_s: float) -> None:
        batch.arrives_s = at_s
        self._n_events += 1  # of two that come at the same time, the one sent first is the first
        heapq.heappush(self._arriving, (at_s, self._n_events, batch))

    def wait(self) -> list[Batch]:
        """Set the clock to when the scheduler wakes; give the batches that have come back."""
        looked_s, look_s = self.now_s, math.inf
        while True:
            while self._arriving and self._arriving[0][0] != self._arriving[0][2].arrives_s:
                heapq.heappop(self._arriving)  # its engine has died before
            arrives_s = self._arriving[0][0] if self._arriving else math.inf
            wakes_s = min(max(arrives_s, self.now_s), look_s)
            happens_s = self._events[0][0] - self.skipped_s if self._events else math.inf
            if happens_s > wakes_s or happens_s == math.inf:
                break
            if self._happen():  # engines that join are seen when it looks for them
                periods = math.ceil((happens_s - looked_s) / _LOOK_FOR_ENGINES_S)
                look_s = min(look_s, looked_s + max(periods, 0) * _LOOK_FOR_ENGINES_S)
        assert wakes_s < math.inf  # nodes are always replaced
        self.now_s = max(self.now_s, wakes_s)
        back = []
        while self._arriving and self._arriving[0][0] <= self.now_s:
            at_s, _, batch = heapq.heappop(self._arriving)
            if at_s == batch.arrives_s:
                back.append(batch)
        return back

    def _launch(self, number: int, at_s: float) -> None:
        self._launched[number] = at_s
        heapq.heappush(self._events, (at_s + self._nodes[number].boot_s, number, 0, None))

    def _happen(self) -> bool:
        """Let the next thing happen to a node; return whether it has joined."""
        at_s, number, _, engines = heapq.heappop(self._events)
        node = self._nodes[number]
        self.n_changes += 1
        self._count_engine_s(at_s)
        if engines is None:
            numbers = range(self._n_numbers, self._n_numbers + node.n_engines)
            self._n_numbers += node.n_engines
            joined = [Engine(each) for each in numbers]
            self._all.update(zip(numbers, joined, strict=True))
            self._idle.update(numbers)
            if node.interruptions_per_hour:
                lives_s = self._random.exponential(3600 / node.interruptions_per_hour)
                heapq.heappush(self._events, (at_s + lives_s, number, 1, joined))
            return True
        self.n_interruptions += 1
        for engine in engines:
            self._kill(engine, at_s - self.skipped_s)
        self.lives.append(NodeLife(number, self._launched[number], at_s))
        self._launch(number, at_s)
        return False

    def _kill(self, engine: Engine, at_s: float) -> None:
        del self._all[engine.number]
        self._idle.discard(engine.number)
        self._with_one.discard(engine.number)
        for batch in engine.batches:
            if batch.end_s > at_s:  # else its result is on its way
                self.work_s -= batch.work_s
                self.n_rerun += self._n_begun(batch, at_s)
                batch.error = _DIED
                self._will_arrive(batch, at_s + _NEWS_OF_DEATH_S)

    def _n_begun(self, batch: Batch, at_s: float) -> int:
        each_s, first = self._costs.engine_s_per_item, batch.first
        return sum(
            batch.start_s + self._evaluations.work_s(first, n) + n * each_s <= at_s
            for n in range(batch.n)
        )

    def _count_engine_s(self, at_s: float) -> None:
        self.engine_s += len(self._all) * (at_s - self._engine_since_s)
        self._engine_since_s = at_s

    def end(self) -> float:
        """Tell when the search has ended, and end the lives of all machines that there are."""
        finish_s = self.now_s + self.skipped_s
        self._count_engine_s(finish_s)
        self.lives += [
            NodeLife(number, launched_s, finish_s)
            for number, launched_s in self._launched.items()
            if launched_s < finish_s
        ]
        return finish_s
