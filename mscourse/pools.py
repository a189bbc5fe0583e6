"""Anything that can run a function, seen as engines that take batches.

The scheduler speaks to a `Pool`. There is one for ipyparallel, where each engine is addressed
directly and its death is known at once, and one for executors of ``concurrent.futures``, which
hand work to processes of their own choice.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, InvalidStateError
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol, TypeAlias

import ipyparallel as ipp
from ipyparallel.error import NoEnginesRegistered, RemoteError, TaskAborted

from mscourse.batch import BatchReport, Parcel, Pickled, run_batch, run_batch_silently
from mscourse.controller import CONTROLLER_IS_SILENT, ControllerWatch
from mscourse.engines import local_cluster, usable_cores, warn_if_insecure
from mscourse.errors import NoEnginesError, ParameterError
from mscourse.lostanswers import LostAnswers, drop_if_late, wait_no_more

# An engine that was started anew has registered by then, or something is wrong.
_REPLACED_WITHIN_S = 30.0

EngineId = Hashable
Engines: TypeAlias = ipp.Client | ipp.DirectView | ipp.LoadBalancedView | Executor | None


class Future(Protocol):
    """What a pool gives for a batch that is under way."""

    def result(self) -> BatchReport: ...

    def add_done_callback(self, callback: Callable[[Any], None]) -> object: ...


class Pool(Protocol):
    """Engines that take batches.

    Attributes
    ----------
    shares_fate : bool
        Whether the death of one may take along what others were sent: they are mere places then.
    """

    shares_fate: bool

    def engines(self) -> Sequence[EngineId]:
        """List the engines that can be sent work now."""

    def send(self, engine: EngineId, function: Pickled, items: Sequence[tuple[Any, ...]]) -> Future:
        """Have an engine call the function with each item."""

    def is_death(self, error: BaseException) -> bool:
        """Whether this exception of a future says that the engine has died."""

    def was_cancelled(self, error: BaseException) -> bool:
        """Whether this exception of a future says that others took it back before it began."""

    def cancel(self, engine: EngineId, futures: Sequence[Any]) -> None:
        """Take back the batches of an engine that have not begun, if that is still possible."""

    def forget(self, future: Any) -> None:
        """Drop what is kept of a batch whose result has been read."""

    def replace(self, engine: EngineId) -> None:
        """Learn that an engine has died; start another one if the pool owns its engines."""

    def retire(self, engine: EngineId) -> None:
        """Learn that an engine takes nothing more, and send it nothing."""

    def is_replacing(self) -> bool:
        """Whether an engine that has died is being replaced by another one."""

    def is_gone(self) -> bool:
        """Whether there will never be an engine again."""

    def why_empty(self) -> str:
        """Say what to do if there are no engines."""


class IPyParallelPool:
    """The engines of an ipyparallel client, each addressed directly.

    The load-balancing scheduler of ipyparallel waits 5 s before it reports a death, and does not
    give waiting tasks to engines that join; a direct view reports within 0.05 s.

    An engine whose connection is cut for longer than the heartbeat limit is taken for dead. The
    controller does not take it back when the connection heals, and it would stay there for nothing,
    so it is told to end. What it answers late is dropped.
    """

    shares_fate = False

    def __init__(
        self, client: ipp.Client, targets: Sequence[int] | None = None, *, owned: bool = False
    ) -> None:
        self._client = client
        self._targets = None if targets is None else frozenset(targets)
        self._owned = owned
        self._views: dict[EngineId, ipp.DirectView] = {}
        self._identities: dict[EngineId, bytes] = {}
        self._retired: set[EngineId] = set()  # no other engine gets their numbers
        self._known: set[tuple[EngineId, bytes]] = set()  # the functions that engines have
        self._controller = ControllerWatch(client)
        self._lost = LostAnswers(client)
        self._replaced_by_s = 0.0

    def engines(self) -> Sequence[EngineId]:
        if self._client._closed:
            return []
        for future in self._lost.look():
            self._give_back(future)
        return [
            engine
            for engine in self._client.ids
            if (self._targets is None or engine in self._targets) and engine not in self._retired
        ]

    def send(self, engine: EngineId, function: Pickled, items: Sequence[tuple[Any, ...]]) -> Future:
        if engine not in self._views:
            self._views[engine] = self._client[engine]
            self._identities[engine] = self._client._engines[engine].encode()
        known = (engine, function.digest) in self._known
        future: Future = self._views[engine].apply_async(
            run_batch_silently, function.without_content() if known else function, Parcel(items)
        )
        self._known.add((engine, function.digest))
        self._lost.sent(engine, future)
        return future

    def _give_back(self, future: Any) -> None:
        """Let a batch of which nothing will be heard come back as it was sent."""
        wait_no_more(self._client, future)
        with contextlib.suppress(InvalidStateError):  # it has come after all
            future.set_result(BatchReport([], 0.0))

    def is_death(self, error: BaseException) -> bool:
        return isinstance(error, RemoteError) and error.ename == "EngineError"

    def was_cancelled(self, error: BaseException) -> bool:
        return isinstance(error, TaskAborted)

    def cancel(self, engine: EngineId, futures: Sequence[Any]) -> None:
        if not futures or self._client._closed:
            return
        # Without its target it would go to all engines, each of which keeps it for good.
        with contextlib.suppress(IndexError, NoEnginesRegistered, OSError):  # it has just gone
            ids = [each for future in futures for each in future.msg_ids]
            self._client.abort(ids, targets=engine, block=False)

    def replace(self, engine: EngineId) -> None:
        if self._client._closed:
            return
        self._views.pop(engine, None)
        with contextlib.suppress(OSError):  # the client has been closed meanwhile
            # It waits in the connection if that is cut, and reaches nobody if the engine is dead.
            self._client._send(
                self._client._control_stream,
                "shutdown_request",
                content={"restart": False},
                ident=self._identities.pop(engine, None),
            )
        if self._owned:
            self._replaced_by_s = time.monotonic() + _REPLACED_WITHIN_S
            # To start a process takes seconds, and the other engines want work meanwhile.
            threading.Thread(target=self._start_engine, daemon=True).start()

    def retire(self, engine: EngineId) -> None:
        self._retired.add(engine)

    def _start_engine(self) -> None:
        try:
            self._client.cluster.start_engines_sync(n=1)
        except Exception:  # noqa: BLE001  # the cluster may be stopping: then none is wanted
            self._replaced_by_s = 0.0

    def is_replacing(self) -> bool:
        return time.monotonic() < self._replaced_by_s

    def is_gone(self) -> bool:
        return bool(self._client._closed) or self._controller.is_silent()

    def why_empty(self) -> str:
        if self._client._closed:
            return "The client is closed; the search can no longer reach its engines."
        if self._controller.is_silent():
            return (
                f"{CONTROLLER_IS_SILENT} What is done is kept; start another cluster and search "
                "the rest there."
            )
        return "Start engines, for example with `ipcluster engines --n=2`: they are used at once."

    def forget(self, future: Any) -> None:
        self._controller.heard()
        engine = self._lost.came(future)
        if future.exception() is not None or not future.result().outcomes:
            # Perhaps it never got the function, or has it no more.
            self._known = {each for each in self._known if each[0] != engine}
        if self.is_death(future.exception()):
            drop_if_late(self._client, future)
        with contextlib.suppress(RuntimeError):  # a message without an answer stays
            self._client.purge_local_results(future.msg_ids)


class ExecutorPool:
    """The workers of an executor, which it addresses as it likes: engines are mere places."""

    shares_fate = True

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._places = range(_n_workers(executor))
        self._broken = False

    def engines(self) -> Sequence[EngineId]:
        return [] if self._broken else self._places

    def send(self, engine: EngineId, function: Pickled, items: Sequence[tuple[Any, ...]]) -> Future:
        try:
            return self._executor.submit(run_batch, function, Parcel(items))
        except BrokenExecutor:
            self._broken = True
            raise

    def is_death(self, error: BaseException) -> bool:
        if isinstance(error, BrokenExecutor):  # one dead worker ends the whole executor
            self._broken = True
        # Dask's executor goes on: its scheduler has lost this work with several workers, one after
        # the other, and starts others.
        return self._broken or type(error).__name__ == "KilledWorker"

    def was_cancelled(self, error: BaseException) -> bool:
        return isinstance(error, CancelledError)

    def cancel(self, engine: EngineId, futures: Sequence[Any]) -> None:
        for future in futures:
            future.cancel()

    def forget(self, future: Any) -> None:
        pass  # an executor keeps nothing

    def replace(self, engine: EngineId) -> None:
        pass  # it cannot

    def retire(self, engine: EngineId) -> None:
        pass  # its workers do not leave

    def is_replacing(self) -> bool:
        return False

    def is_gone(self) -> bool:
        return self._broken

    def why_empty(self) -> str:
        return (
            "A worker of the executor died, and took the executor with it: the usual cause is a "
            "process out of memory. Start the search again with fewer workers, or on ipyparallel "
            "engines, which may die without ending the search."
        )


def pool_for(engines: Engines) -> AbstractContextManager[Pool]:
    """See engines, of whatever kind, as a pool; None is a local cluster for as long as it is open.

    Raises
    ------
    ParameterError
        If these are no engines.
    NoEnginesError
        If there are none at the moment.

    Warns
    -----
    InsecureClusterWarning
        If others on the network could listen in on the cluster.
    """
    if engines is None:
        return _local_pool()
    if isinstance(engines, Executor):
        return nullcontext(ExecutorPool(engines))
    if isinstance(engines, ipp.Client):
        pool = IPyParallelPool(engines)
    elif isinstance(engines, ipp.DirectView | ipp.LoadBalancedView):
        targets = engines.targets
        if isinstance(targets, int):
            targets = [targets]
        pool = IPyParallelPool(engines.client, None if targets in (None, "all") else targets)
    else:
        raise ParameterError(
            "engines must be an ipyparallel Client or view, a concurrent.futures.Executor, or "
            f"None for a local cluster; it is {engines!r}."
        )
    warn_if_insecure(pool._client)
    if not pool.engines():
        raise NoEnginesError(f"There are no engines to run on. {pool.why_empty()}")
    return nullcontext(pool)


@contextmanager
def _local_pool() -> Iterator[Pool]:
    with local_cluster() as client:
        yield IPyParallelPool(client, owned=True)


def _n_workers(executor: Executor) -> int:
    """Ask an executor how many workers it has; they do not agree on the answer's name."""
    n_workers = getattr(executor, "_max_workers", None)  # the standard library, loky, mpi4py
    dask_client = getattr(executor, "_client", None)
    if n_workers is None and dask_client is not None:
        n_workers = sum(dask_client.ncores().values())
    return n_workers or usable_cores()
