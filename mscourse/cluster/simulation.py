"""A search in virtual time: the scheduler itself, with engines that only pretend to work.

::

    Scheduler ─→ client's time ─→ latency ─→ engine's time ─→ latency ─→ client's time ─→ Scheduler
                                                 ↑
                              nodes boot, are interrupted, are replaced

`mscourse.scheduler.Scheduler` decides what is sent where, as in a real search. Only its waiting is
replaced: the clock is set to when the next message comes. Nothing sleeps here and no thread is
started, so that the same seed gives the same result.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mscourse.errors import ParameterError
from mscourse.pools import BatchReport, EngineId, Future, Pool
from mscourse.scheduler import _LOOK_FOR_ENGINES_S, Ended, Item, Scheduler

# A direct view hears of an engine's death after about so long.
_NEWS_OF_DEATH_S = 0.05

# Durations that are drawn; with more evaluations they come again. The mean of so many is off by
# less than 0.2 % of their standard deviation.
_MOST_DRAWN = 2**18

# Messages per engine before the pace is taken for steady, and while it is measured. The first two
# are of one evaluation each, since nothing is known of their durations.
_SETTLE, _WINDOW = 4, 8

# The pace of fewer messages, or of fewer evaluations, says too little.
_LEAST_MESSAGES, _LEAST_EVALUATIONS = 50, 20_000

# A pace holds for about as many engines as it was measured with.
_AS_MANY = 0.2


def check_number(name: str, value: float, *, at_least: float) -> None:
    if not (math.isfinite(value) and value >= at_least):
        raise ParameterError(f"{name} must be a number from {at_least:g} on; it is {value!r}.")


#: Per hour and node. A node that lives for less than a minute gets nothing done.
MOST_INTERRUPTIONS = 60


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


@dataclass(frozen=True)
class Simulation:
    """What became of a search that was simulated.

    Attributes
    ----------
    finish_s : float
        When the client had the last result.
    busy_fraction : float
        The part of the engines' time, from when they joined, that evaluations took whose results
        came back.
    client_fraction : float
        The part of the time that the client was busy. Near 1, more engines bring nothing.
    n_messages : int
        Batches that were sent.
    n_evaluations, n_given_up, n_rerun : int
        How many ended; how many of these killed too many engines; how many were begun once more,
        since the engine died that had begun them.
    n_interruptions : int
        Nodes that were taken away.
    lives : tuple of NodeLife
        All machines there were.
    """

    finish_s: float
    busy_fraction: float
    client_fraction: float
    n_messages: int
    n_evaluations: int
    n_given_up: int
    n_rerun: int
    n_interruptions: int
    lives: tuple[NodeLife, ...]

    @property
    def node_hours(self) -> float:
        """Hours of all machines together."""
        return sum(life.ended_s - life.launched_s for life in self.lives) / 3600


def simulate(
    durations_s: ArrayLike,
    nodes: Sequence[SimulatedNode],
    *,
    n_evaluations: int | None = None,
    overheads: Overheads | None = None,
    seed: int = 0,
    skip: bool = True,
) -> Simulation:
    """Simulate a search.

    Parameters
    ----------
    durations_s : array of float
        Of evaluations, as they were measured.
    nodes : sequence of SimulatedNode
        What it runs on. The engines of a node have the numbers that follow the previous node's.
    n_evaluations : int, optional
        How many there are to do: their durations are drawn, with replacement. By default those that
        are given are done, each once and in their order.
    overheads : Overheads, optional
        By default those of a typical machine.
    seed : int
        Of durations and interruptions.
    skip : bool
        Whether to skip most of a long search when its pace is known. Its beginning, its end, and
        what follows when a node joins or is interrupted are simulated all the same. It changes
        times by less than 1 %, but by about 10 % where the client is the limit, since the sizes of
        batches go up and down there.

    Returns
    -------
    Simulation

    Raises
    ------
    ParameterError
        If durations or nodes cannot be right.
    """
    known = as_durations(durations_s)
    if not nodes:
        raise ParameterError("A search needs at least one node.")
    random_durations, random_deaths = (
        np.random.default_rng(each) for each in np.random.SeedSequence(seed).spawn(2)
    )
    if n_evaluations is not None:
        check_number("n_evaluations", n_evaluations, at_least=1)
        known = random_durations.choice(known, min(n_evaluations, _MOST_DRAWN))
    evaluations = _Evaluations(known, len(known) if n_evaluations is None else n_evaluations)
    machine = _Machine(evaluations, nodes, overheads or Overheads(), random_deaths, skip=skip)
    scheduler = _VirtualScheduler(evaluations, machine)
    scheduler.run()
    return machine.summary()


def as_durations(durations_s: ArrayLike) -> NDArray[np.float64]:
    known = np.asarray(durations_s, dtype=float)
    if known.ndim != 1 or not known.size or not np.isfinite(known).all() or known.min() < 0:
        raise ParameterError(
            "durations_s must be at least one number of seconds, each finite and not negative; "
            f"it is {durations_s!r}."
        )
    return known


class _Evaluations:
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


class _Batch:
    """A batch under way; to the scheduler it is the future of its result."""

    __slots__ = ("arrives_s", "done", "end_s", "engine", "error", "first", "n", "start_s", "work_s")

    def __init__(
        self, engine: _Engine, first: int, n: int, start_s: float, work_s: float, end_s: float
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


class _Engine:
    __slots__ = ("batches", "free_s", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.free_s = 0.0
        self.batches: list[_Batch] = []


class _Engines(Sequence[EngineId]):
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


@dataclass(frozen=True)
class _Pace:
    """What a search gets done, with about so many engines."""

    per_engine_s: float  # evaluations
    messages_each: float
    client_s_each: float
    n_taken: int  # evaluations, while it was measured
    n_engines: int

    def is_for(self, n_engines: int) -> bool:
        return abs(n_engines - self.n_engines) <= _AS_MANY * self.n_engines


@dataclass(frozen=True)
class _Mark:
    """Where a search stands."""

    engine_s: float
    useful_s: float
    client_s: float
    n_messages: int
    n_taken: int
    n_engines: int

    def is_for(self, n_engines: int) -> bool:
        return abs(n_engines - self.n_engines) <= _AS_MANY * self.n_engines

    def since(self, began: _Mark, mean_s: float) -> _Pace | None:
        """Give the pace; None if nothing has taken any time."""
        n_taken = self.n_taken - began.n_taken
        engine_s = self.engine_s - began.engine_s
        # Their durations differ, so that work tells more than numbers do, if there is any.
        n_done = (self.useful_s - began.useful_s) / mean_s or n_taken
        if not engine_s or not n_taken:
            return None
        return _Pace(
            per_engine_s=n_done / engine_s,
            messages_each=(self.n_messages - began.n_messages) / n_taken,
            client_s_each=(self.client_s - began.client_s) / n_taken,
            n_taken=n_taken,
            n_engines=self.n_engines,
        )


class _Machine:
    """Nodes, their engines, the network and the client's time, on a virtual clock.

    The clock stands at `now_s`, but for the seconds that were skipped. Batches know nothing of
    these, so that a skip leaves what is under way as it is; nodes live by the clock.
    """

    def __init__(
        self,
        evaluations: _Evaluations,
        nodes: Sequence[SimulatedNode],
        overheads: Overheads,
        random: np.random.Generator,
        *,
        skip: bool,
    ) -> None:
        self._evaluations, self._nodes, self._costs = evaluations, nodes, overheads
        self._random = random
        self.now_s = self._skipped_s = 0.0
        self._latency_s = overheads.latency_s / 2  # one way

        self._all: dict[int, _Engine] = {}
        self._idle: set[int] = set()
        self._with_one: set[int] = set()
        self._n_numbers = self._n_events = self.n_changes = 0
        self._arriving: list[tuple[float, int, _Batch]] = []
        # When what happens to which node: it joins, or it is interrupted with its engines.
        self._events: list[tuple[float, int, int, list[_Engine] | None]] = []
        self._launched: dict[int, float] = {}
        self._lives: list[NodeLife] = []
        for number, node in enumerate(nodes):
            self._launch(number, node.launched_s)

        self._client_s = self._work_s = self._engine_s = self._engine_since_s = 0.0
        self._n_messages = self._n_rerun = self._n_interruptions = 0
        self.has_lost = False  # whether the scheduler has taken evaluations back
        self._consider_at = 1.0 if skip else math.inf
        self._began: _Mark | None = None
        self._pace: _Pace | None = None
        self._n_skipped = 0.0  # messages

    # -- what the scheduler asks of a pool -------------------------------------------------------

    def engines(self) -> Sequence[EngineId]:
        self._spend(self._costs.client_s_per_engine * len(self._all))
        # The scheduler sends nothing ahead of an engine when the rest is for whoever is free first.
        ahead = self.has_lost or self._evaluations.n_waiting >= len(self._all)
        room = self._idle | self._with_one if ahead else self._idle
        return _Engines(len(self._all), sorted(room))

    def send(self, engine: EngineId, function: bytes, items: Sequence[Item]) -> Future:
        there, first, n, costs = self._all[engine], items[0][0], len(items), self._costs  # type: ignore[index]
        self._spend((costs.client_s_per_message + n * costs.client_s_per_item) / 2)
        self._n_messages += 1
        work_s = self._evaluations.work_s(first, n)
        start_s = max(self.now_s + self._latency_s, there.free_s) + costs.engine_s_per_message
        end_s = there.free_s = start_s + work_s + n * costs.engine_s_per_item
        batch = _Batch(there, first, n, start_s, work_s, end_s)
        self._work_s += work_s
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

    def cancel(self, future: Any) -> None:
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
        self._client_s += seconds
        self.now_s += seconds

    def _note_room(self, engine: _Engine) -> None:
        n_batches, number = len(engine.batches), engine.number
        (self._idle.add if n_batches == 0 else self._idle.discard)(number)
        (self._with_one.add if n_batches == 1 else self._with_one.discard)(number)

    # -- what happens meanwhile ------------------------------------------------------------------

    def _will_arrive(self, batch: _Batch, at_s: float) -> None:
        batch.arrives_s = at_s
        self._n_events += 1  # of two that come at the same time, the one sent first is the first
        heapq.heappush(self._arriving, (at_s, self._n_events, batch))

    def wait(self) -> list[_Batch]:
        """Set the clock to when the scheduler wakes; give the batches that have come back."""
        if self._n_messages >= self._consider_at:
            self._consider_skipping()
        looked_s, look_s = self.now_s, math.inf
        while True:
            while self._arriving and self._arriving[0][0] != self._arriving[0][2].arrives_s:
                heapq.heappop(self._arriving)  # its engine has died before
            arrives_s = self._arriving[0][0] if self._arriving else math.inf
            wakes_s = min(max(arrives_s, self.now_s), look_s)
            happens_s = self._events[0][0] - self._skipped_s if self._events else math.inf
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
            joined = [_Engine(each) for each in numbers]
            self._all.update(zip(numbers, joined, strict=True))
            self._idle.update(numbers)
            self._consider_at = max(self._consider_at, self._settled_at())
            if node.interruptions_per_hour:
                lives_s = self._random.exponential(3600 / node.interruptions_per_hour)
                heapq.heappush(self._events, (at_s + lives_s, number, 1, joined))
            return True
        self._n_interruptions += 1
        for engine in engines:
            self._kill(engine, at_s - self._skipped_s)
        self._consider_at = max(self._consider_at, self._settled_at())
        self._lives.append(NodeLife(number, self._launched[number], at_s))
        self._launch(number, at_s)
        return False

    def _kill(self, engine: _Engine, at_s: float) -> None:
        del self._all[engine.number]
        self._idle.discard(engine.number)
        self._with_one.discard(engine.number)
        for batch in engine.batches:
            if batch.end_s > at_s:  # else its result is on its way
                self._work_s -= batch.work_s
                self._n_rerun += self._n_begun(batch, at_s)
                batch.error = _DIED
                self._will_arrive(batch, at_s + _NEWS_OF_DEATH_S)

    def _n_begun(self, batch: _Batch, at_s: float) -> int:
        each_s, first = self._costs.engine_s_per_item, batch.first
        return sum(
            batch.start_s + self._evaluations.work_s(first, n) + n * each_s <= at_s
            for n in range(batch.n)
        )

    def _count_engine_s(self, at_s: float) -> None:
        self._engine_s += len(self._all) * (at_s - self._engine_since_s)
        self._engine_since_s = at_s

    # -- skipping what is alike ------------------------------------------------------------------

    def _settled_at(self) -> int:
        return self._n_messages + _SETTLE * len(self._all)

    def _mark(self) -> _Mark:
        self._count_engine_s(self.now_s + self._skipped_s)
        under_way = (batch for engine in self._all.values() for batch in engine.batches)
        to_do_s = sum(batch.work_s * batch.left_at(self.now_s) for batch in under_way)
        return _Mark(
            engine_s=self._engine_s,
            useful_s=self._work_s - to_do_s,
            client_s=self._client_s,
            n_messages=self._n_messages,
            n_taken=self._evaluations.n - self._evaluations.n_waiting,
            n_engines=len(self._all),
        )

    def _consider_skipping(self) -> None:
        """Skip evaluations up to the next thing that happens to a node, or up to the end."""
        n_engines = len(self._all)
        if self._pace is None or not self._pace.is_for(n_engines):
            mark, began = self._mark(), self._began
            if began is None or not began.is_for(n_engines):
                self._began, self._pace = mark, None
                n_each = max(1.0, mark.n_taken / max(1, self._n_messages))
                self._consider_at = self._n_messages + max(
                    _WINDOW * n_engines, _LEAST_MESSAGES, _LEAST_EVALUATIONS / n_each
                )
                return
            self._pace = mark.since(began, self._evaluations.mean_s)
            self._began = None
        pace, evaluations = self._pace, self._evaluations
        if pace is None:
            return
        per_second = pace.per_engine_s * n_engines
        # As many as it was measured with are left, for the end is not like the middle.
        n = evaluations.n_waiting - pace.n_taken
        if n <= 0:
            self._consider_at = math.inf
            return
        self._consider_at = self._settled_at()
        if self._events:
            until_s = self._events[0][0] - self._skipped_s - self.now_s
            n = min(n, int(per_second * until_s))
        if n * pace.messages_each < n_engines:
            return
        evaluations.skip(n)
        evaluations.n_ended += n
        self._skipped_s += n / per_second
        self._work_s += n * evaluations.mean_s
        self._client_s += n * pace.client_s_each
        self._n_skipped += n * pace.messages_each

    def summary(self) -> Simulation:
        """Tell what became of the search, when the scheduler has ended."""
        finish_s = self.now_s + self._skipped_s
        self._count_engine_s(finish_s)
        alive = [
            NodeLife(number, launched_s, finish_s)
            for number, launched_s in self._launched.items()
            if launched_s < finish_s
        ]
        return Simulation(
            finish_s=finish_s,
            busy_fraction=self._work_s / self._engine_s if self._engine_s else 0.0,
            client_fraction=min(1.0, self._client_s / finish_s) if finish_s else 0.0,
            n_messages=round(self._n_messages + self._n_skipped),
            n_evaluations=self._evaluations.n_ended,
            n_given_up=self._evaluations.n_given_up,
            n_rerun=self._n_rerun,
            n_interruptions=self._n_interruptions,
            lives=tuple(self._lives + alive),
        )


class _VirtualScheduler(Scheduler):
    """The scheduler, which waits for a virtual clock."""

    def __init__(self, evaluations: _Evaluations, machine: _Machine) -> None:
        super().__init__(abs, evaluations, nullcontext(machine), evaluations.end)
        self._machine = machine
        self._n_changes = -1

    def run(self) -> None:
        """Run to the end, in this thread."""
        self._serve(self._machine)

    def _send_to(self, pool: Pool) -> None:
        self._machine.has_lost = bool(self._lost)
        super()._send_to(pool)

    def _note_engines(self, pool: Pool, engines: Sequence[EngineId]) -> None:
        # It compares all engines with those it knew, which is for nothing if none came or went.
        if self._n_changes != self._machine.n_changes:
            self._n_changes = self._machine.n_changes
            super()._note_engines(pool, engines)

    def _wait_for_batches(self) -> list[Any]:
        for batch in self._machine.wait():
            batch.done(batch)
        self.wake()  # whatever has come back: the virtual clock has waited already
        return super()._wait_for_batches()
