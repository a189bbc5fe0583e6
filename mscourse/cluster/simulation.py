"""A search in virtual time: the scheduler itself, with engines that only pretend to work.

`mscourse.scheduler.Scheduler` decides what is sent where, as in a real search. Only its waiting is
replaced: the clock is set to when the next message comes, see `mscourse.cluster.virtual`. Nothing
sleeps here and no thread is started, so that the same seed gives the same result.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mscourse.cluster.virtual import (
    Batch,
    Evaluations,
    Machine,
    NodeLife,
    Overheads,
    SimulatedNode,
    as_durations,
    check_number,
)
from mscourse.errors import ParameterError
from mscourse.pools import EngineId, Pool
from mscourse.scheduler import Scheduler

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
    evaluations = Evaluations(known, len(known) if n_evaluations is None else n_evaluations)
    kind = _SkippingMachine if skip else Machine
    machine = kind(evaluations, nodes, overheads or Overheads(), random_deaths)
    _VirtualScheduler(evaluations, machine).run()
    finish_s = machine.end()
    return Simulation(
        finish_s=finish_s,
        busy_fraction=machine.work_s / machine.engine_s if machine.engine_s else 0.0,
        client_fraction=min(1.0, machine.client_s / finish_s) if finish_s else 0.0,
        n_messages=round(machine.n_messages + machine.n_skipped),
        n_evaluations=evaluations.n_ended,
        n_given_up=evaluations.n_given_up,
        n_rerun=machine.n_rerun,
        n_interruptions=machine.n_interruptions,
        lives=tuple(machine.lives),
    )


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


class _SkippingMachine(Machine):
    """A machine that skips what is alike.

    A long search is the same for hours. When its pace is known, most of what waits is done at that
    pace, up to the next thing that happens to a node, or nearly to the end.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._consider_at = 1.0  # when so many messages have been sent
        self._began: _Mark | None = None
        self._pace: _Pace | None = None

    def wait(self) -> list[Batch]:
        if self.n_messages >= self._consider_at:
            self._consider_skipping()
        return super().wait()

    def _happen(self) -> bool:
        has_joined = super()._happen()
        self._consider_at = max(self._consider_at, self._settled_at())
        return has_joined

    def _settled_at(self) -> int:
        return self.n_messages + _SETTLE * len(self._all)

    def _mark(self) -> _Mark:
        self._count_engine_s(self.now_s + self.skipped_s)
        under_way = (batch for engine in self._all.values() for batch in engine.batches)
        to_do_s = sum(batch.work_s * batch.left_at(self.now_s) for batch in under_way)
        return _Mark(
            engine_s=self.engine_s,
            useful_s=self.work_s - to_do_s,
            client_s=self.client_s,
            n_messages=self.n_messages,
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
                n_each = max(1.0, mark.n_taken / max(1, self.n_messages))
                self._consider_at = self.n_messages + max(
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
            until_s = self._events[0][0] - self.skipped_s - self.now_s
            n = min(n, int(per_second * until_s))
        if n * pace.messages_each < n_engines:
            return
        evaluations.skip(n)
        evaluations.n_ended += n
        self.skipped_s += n / per_second
        self.work_s += n * evaluations.mean_s
        self.client_s += n * pace.client_s_each
        self.n_skipped += n * pace.messages_each


class _VirtualScheduler(Scheduler):
    """The scheduler, which waits for a virtual clock."""

    def __init__(self, evaluations: Evaluations, machine: Machine) -> None:
        super().__init__(abs, evaluations, nullcontext(machine), evaluations.end)
        self._machine = machine
        self._n_changes = -1

    def run(self) -> None:
        """Run to the end, in this thread."""
        self._serve(self._machine)

    def _send_to(self, pool: Pool) -> Exception | None:
        self._machine.has_lost = bool(self._lost)
        return super()._send_to(pool)

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
