"""Keep engines busy with a queue of items, whatever happens to the engines.

::

    source ─→ batches ─→ engines ─→ outcomes ─→ on_ended([(item, value, failure, engine), ...])
                 ↑          │
                 └── lost ──┘   (an engine died), or given back (it leaves)

What is to be done comes from a source: a queue, or something that decides by what has come back
already. It stays on the client. One thread does everything; callbacks of futures only wake it. Each
engine has at most two batches, one that runs and one that waits, so that an engine that joins finds
work, an abort is immediate, and no message is lost in a queue elsewhere.

The scheduler knows nothing of what the items mean.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from mscourse.batch import Pickled
from mscourse.errors import ClusterError, MSCourseError, NoEnginesError
from mscourse.pools import EngineId, Future, Pool
from mscourse.source import Ended, Item, Source

# About as much work as makes the 5 ms of a message negligible, and little enough to lose, to wait
# for after an abort, and to balance at the end.
BATCH_TARGET_S = 0.2

# What a message costs the client: 3.4 ms by benchmarks/cluster_plan.py, and some headroom. With
# more than fifty engines, messages of 0.2 s of work would be more than it can send.
_CLIENT_S_PER_MESSAGE = 0.004

# Towards the end batches shrink, but not below this part of what they were: smaller ones would be
# mostly message.
_BATCH_LEAST = 0.05

# A batch of items that take no time at all must still fit into a message.
_BATCH_MOST_ITEMS = 5000

# Weight of the latest batch in the estimate of an item's duration: durations of neighbours are
# alike, and the first one includes imports.
_LATEST_WEIGHT = 0.5

# An item that was running on three engines when they died is taken for the cause.
MOST_DEATHS = 3

# How often to look for engines that have joined, if nothing else wakes the thread.
_LOOK_FOR_ENGINES_S = 0.25


def batch_target_s(n_engines: int) -> float:
    """Tell how many seconds of work a message should hold, so that one client can feed so many."""
    return max(BATCH_TARGET_S, n_engines * _CLIENT_S_PER_MESSAGE)


OnEnded = Callable[[Sequence[Ended]], None]


@dataclass(eq=False)
class _Task:
    """An item on its way."""

    item: Item
    n_deaths: int = 0  # engines that died while they ran it
    has_ended: bool = False


@dataclass(eq=False)
class _Batch:
    tasks: Sequence[_Task]
    engine: EngineId
    future: Future | None = None


class Scheduler:
    """Run a function on each item of a source, on all engines of a pool, in the background.

    Parameters
    ----------
    function : callable
        Called on an engine as ``function(*item)``. Travels by cloudpickle.
    source : Source
        What to run.
    pool : context manager of Pool
        Opened when the scheduler starts, closed when it ends.
    on_ended : callable
        Called from the scheduler's thread with all items that have ended since it looked last:
        each item exactly once.
    on_over : callable, optional
        Called from that thread when nothing more will come, before anybody is told.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        source: Source,
        pool: AbstractContextManager[Pool],
        on_ended: OnEnded,
        on_over: Callable[[], None] = lambda: None,
    ) -> None:
        self._function = Pickled.of(function)
        self._source = source
        self._opening = pool
        self._on_ended = on_ended
        self._on_over = on_over
        self._ended: list[Ended] = []

        self._lost: deque[_Task] = deque()  # taken back from dead engines; sent one by one
        self._given_back: deque[_Task] = deque()  # by engines that leave; sent before all others
        self._under_way: dict[EngineId, list[_Batch]] = {}
        self._item_duration_s: float | None = None
        self._without_engines_since_s: float | None = None
        self.n_engines = 0  # at the latest look

        self._wake = threading.Condition()
        self._arrived: deque[_Batch] = deque()
        self._is_awake = False
        self._is_ending = False
        self._aborted = False
        self._over = threading.Event()
        self._error: BaseException | None = None
        # A daemon: leaving Python does not wait for a search that nobody waits for.
        self._thread = threading.Thread(target=self._run, name="mscourse-scheduler", daemon=True)

    @property
    def n_bytes(self) -> int:
        """How large the function is on its way: to each engine once, to an executor each time."""
        return len(self._function.content or b"")

    def start(self) -> None:
        """Begin to send items; returns at once."""
        self._thread.start()

    def wake(self) -> None:
        """Have the source asked now: it has something new."""
        with self._wake:
            self._is_awake = True
            self._wake.notify()

    def offer(self, put: Callable[[], None]) -> bool:
        """Put something into the source, unless the scheduler has found it empty already.

        Parameters
        ----------
        put : callable
            Puts it there. Not called if it is too late.

        Returns
        -------
        bool
            Whether it will be taken.
        """
        with self._wake:
            if self._is_ending:
                return False
            put()
            self._is_awake = True
            self._wake.notify()
            return True

    def abort(self) -> None:
        """Send nothing more, take back what waits, and forget what is running."""
        with self._wake:
            self._aborted = True
            self._wake.notify()
        if threading.current_thread() is not self._thread:
            self._over.wait()

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come: all is done, or it was aborted, or it broke."""
        return self._over.is_set()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the scheduler is over; return whether it is.

        Raises
        ------
        NoEnginesError
            If there can be no engine any more.
        ClusterError
            If the engines cannot run the function at all.
        DamagedSplitsError
            If an engine has found that the data are not what was written.
        MSCourseError
            If it is called in the scheduler's own thread.
        """
        if threading.current_thread() is self._thread:
            raise MSCourseError(
                "What is called with each evaluation cannot wait for the search: it would wait for "
                "itself."
            )
        over = self._over.wait(timeout_s)
        if self._error is not None:
            raise self._error
        return over

    def without_engines(self) -> tuple[float, str] | None:
        """Tell for how many seconds there has been no engine, and what to do."""
        since_s = self._without_engines_since_s
        if since_s is None or self.is_over:
            return None
        return time.monotonic() - since_s, self._why_empty

    def _run(self) -> None:
        try:
            with self._opening as pool:
                self._serve(pool)
        except BaseException as error:  # noqa: BLE001  # it is raised again where somebody waits
            self._error = error
        finally:
            with self._wake:
                self._is_ending = True
            try:
                self._on_over()
            except BaseException as error:  # noqa: BLE001  # such as a disk that has gone
                self._error = self._error or error
            finally:
                self._over.set()

    def _serve(self, pool: Pool) -> None:
        refusal = None
        try:
            while self._goes_on():
                if refusal is None:
                    refusal = self._send_to(pool)
                fatal = None
                try:
                    for batch in self._wait_for_batches():
                        fatal = self._take_in(batch, pool) or fatal
                finally:
                    self._hand_over()
                # What an executor is running comes to its end, also when it takes nothing more.
                may_come = pool.shares_fate and any(self._under_way.values())
                fatal = fatal or (None if may_come else refusal)
                if fatal is not None:
                    raise fatal
        finally:
            for engine, batches in self._under_way.items():
                pool.cancel(engine, [batch.future for batch in batches])

    def _hand_over(self) -> None:
        ended, self._ended = self._ended, []
        if ended:
            self._on_ended(ended)

    def _goes_on(self) -> bool:
        with self._wake:
            self._is_ending = self._aborted or not (
                any(self._under_way.values())
                or self._lost
                or self._given_back
                or self._source.n_waiting
                or self._source.is_open
            )
            return not self._is_ending

    def _wait_for_batches(self) -> list[_Batch]:
        with self._wake:
            if not self._arrived and not self._is_awake and not self._aborted:
                self._wake.wait(_LOOK_FOR_ENGINES_S)
            self._is_awake = False
            arrived = list(self._arrived)
            self._arrived.clear()
        return arrived

    # -- sending ---------------------------------------------------------------------------------

    def _send_to(self, pool: Pool) -> Exception | None:
        """Give each engine what to do; return what is to end all, if nothing more can be sent."""
        engines = pool.engines()
        try:
            self._note_engines(pool, engines)
            for depth in (1, 2):  # first something to do for everyone, then something to wait
                for engine in engines:
                    if len(self._under_way.get(engine, ())) < depth:
                        tasks = self._next_tasks(pool, engine, engines, ahead=depth == 2)
                        if tasks:
                            self._send(pool, engine, tasks)
        except (ClusterError, NoEnginesError) as error:
            return error  # and not raised: what has come back meanwhile counts
        return None

    def _next_tasks(
        self, pool: Pool, engine: EngineId, engines: Sequence[EngineId], *, ahead: bool
    ) -> Sequence[_Task]:
        if self._lost:
            # One by one, and only to idle engines: if one more dies, the culprit is known.
            in_company = pool.shares_fate and any(self._under_way.values())
            return [] if ahead or in_company else [self._lost.popleft()]
        n_waiting = len(self._given_back) + self._source.n_waiting
        if not n_waiting or (ahead and n_waiting < len(engines)):
            return []  # the last ones go to whoever is free first
        n = self._batch_size(n_waiting, len(engines))
        if self._given_back:
            n = min(n, len(self._given_back))
            return [self._given_back.popleft() for _ in range(n)]
        return [_Task(item) for item in self._source.take(n, engine, engines, ahead=ahead)]

    def _batch_size(self, n_waiting: int, n_engines: int) -> int:
        if self._item_duration_s is None:
            return 1
        duration_s = max(self._item_duration_s, 1e-9)
        target_s = batch_target_s(n_engines)
        by_time = int(target_s / duration_s)
        fair_share = math.ceil(n_waiting / (2 * n_engines))
        least = int(_BATCH_LEAST * target_s / duration_s)
        return max(1, min(by_time, max(fair_share, least), _BATCH_MOST_ITEMS))

    def _send(self, pool: Pool, engine: EngineId, tasks: Sequence[_Task]) -> None:
        batch = _Batch(tasks, engine)
        try:
            batch.future = pool.send(engine, self._function, [task.item for task in tasks])
        except Exception as error:
            self._lost.extendleft(reversed(tasks))
            if engine not in pool.engines():  # it has gone between the two calls
                return
            raise ClusterError(f"Engine {engine} cannot be sent work: {error}") from error
        self._under_way.setdefault(engine, []).append(batch)
        batch.future.add_done_callback(lambda _: self._arrive(batch))

    def _arrive(self, batch: _Batch) -> None:
        """Hand a finished batch to the thread. Called from any thread."""
        with self._wake:
            self._arrived.append(batch)
            self._wake.notify()

    def _note_engines(self, pool: Pool, engines: Sequence[EngineId]) -> None:
        self.n_engines = len(engines)
        for engine in self._under_way.keys() - set(engines):
            if not self._under_way[engine]:
                del self._under_way[engine]
        if pool.is_gone():
            raise NoEnginesError(f"Not all is done. {pool.why_empty()}")
        if engines or pool.is_replacing():
            self._without_engines_since_s = None
        elif self._without_engines_since_s is None:
            self._why_empty = pool.why_empty()
            self._without_engines_since_s = time.monotonic()

    # -- taking in -------------------------------------------------------------------------------

    def _take_in(self, batch: _Batch, pool: Pool) -> Exception | None:
        """End what has come back; return an error that is to end all."""
        assert batch.future is not None
        try:
            report = batch.future.result()
        except BaseException as error:  # noqa: BLE001  # it is returned, or an engine has died
            if pool.is_death(error):
                self._bury(batch, pool)
                return None
            if pool.was_cancelled(error):
                batches = self._under_way.get(batch.engine, [])
                if batch in batches:
                    batches.remove(batch)
                    self._take_back(batch.tasks)
                return None
            fatal = ClusterError(
                f"Engine {batch.engine} cannot run the work it was sent: {error}\n"
                "Is the same version of mscourse, and of all that the estimator needs, "
                "installed for the engines?"
            )
            fatal.__cause__ = error
            return fatal  # and not raised: what has come with it counts
        finally:
            pool.forget(batch.future)
        batches = self._under_way.get(batch.engine, [])
        is_awaited = batch in batches  # else its engine was taken for dead
        if is_awaited:
            batches.remove(batch)
        for task, (value, failure) in zip(batch.tasks, report.outcomes, strict=False):
            self._end(task, value, failure, batch.engine)
        if report.fatal is not None:
            return report.fatal
        n_done = len(report.outcomes)
        if report.is_leaving:
            pool.retire(batch.engine)
        if is_awaited:
            self._take_back(batch.tasks[n_done:])
        if not n_done:
            return None
        duration_s = report.elapsed_s / n_done
        known_s = self._item_duration_s
        self._item_duration_s = (
            duration_s if known_s is None else known_s + _LATEST_WEIGHT * (duration_s - known_s)
        )
        return None

    def _take_back(self, tasks: Sequence[_Task]) -> None:
        """Queue what an engine has not begun, or not answered: nobody is to blame."""
        for task in tasks:
            # What may have killed an engine goes on travelling alone.
            (self._lost if task.n_deaths else self._given_back).append(task)

    def _bury(self, batch: _Batch, pool: Pool) -> None:
        """Take back what a dead engine had, and count the death against what it was running."""
        batches = self._under_way.pop(batch.engine, [])
        if batch not in batches:
            return  # the other batch of this engine has brought the news
        if pool.shares_fate:  # what else is under way in that place may be anywhere
            self._under_way[batch.engine] = [each for each in batches if each is not batch]
            batches = [batch]
        for task in batches[0].tasks:
            task.n_deaths += 1
        for task in (task for each in batches for task in each.tasks):
            if task.n_deaths >= MOST_DEATHS:
                self._end(
                    task,
                    None,
                    f"The engines that ran this have died, {MOST_DEATHS} times in a row. The usual "
                    "causes are too little memory, and a crash in compiled code.",
                    batch.engine,
                )
            elif not task.has_ended:
                self._lost.append(task)
        pool.replace(batch.engine)

    def _end(self, task: _Task, value: Any, failure: str | None, engine: EngineId) -> None:
        if not task.has_ended:  # an engine that was taken for dead may answer after all
            task.has_ended = True
            self._ended.append(Ended(task.item, value, failure, engine))
