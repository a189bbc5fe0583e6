"""Run what takes ``n_jobs`` on engines: a joblib backend that maps large arrays instead of sending.

::

    import mscourse.joblib  # makes the backend known to joblib

    with joblib.parallel_config("mscourse", engines=client):
        cross_val_score(estimator, X, y, n_jobs=-1)

Each large array is written to a file once, and travels as a path: all engines of a host map the
same pages. The tasks go through the same scheduler as a search, so that an engine may die or join.
What they print and warn of is printed and warned of here.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import tempfile
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle
import joblib
import numpy as np
from joblib.parallel import AutoBatchingMixin, ParallelBackendBase, SequentialBackend
from numpy.typing import NDArray

from mscourse.errors import ParameterError
from mscourse.joblibtask import EngineWarning, echo, itself, map_array, read_outcome, run_task
from mscourse.pools import EngineId, Engines, pool_for
from mscourse.scheduler import Scheduler
from mscourse.source import Ended, Item

NAME = "mscourse"

# As of joblib's own backends: below it, a file costs more than the copies.
_LEAST_MAPPED_BYTES = 1_000_000


class EnginesBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]  # untyped
    """Runs the tasks of a `joblib.Parallel` on engines.

    Parameters
    ----------
    engines : Client, view or Executor
        As for `grid_search`. They must see the temporary folder of this process: engines of this
        host do.
    least_mapped_bytes : int
        Arrays of at least this size are mapped from a file.
    stand_ins : mapping of int to object, optional
        For objects, by their id, what travels in their place. Not for the types that are built
        into Python, nor for functions and classes.

    Raises
    ------
    ParameterError
        If these are no engines.
    NoEnginesError
        If there are none at the moment.

    Examples
    --------
    >>> with joblib.parallel_config("mscourse", engines=client):
    ...     scores = cross_val_score(SVC(gamma=1e-3), X, y, n_jobs=-1)
    >>> scores.round(2)
    array([0.98, 0.95, 0.98, 0.99, 0.96])
    """

    supports_retrieve_callback = True
    default_n_jobs = -1

    def __init__(
        self,
        engines: Engines = None,
        *,
        least_mapped_bytes: int = _LEAST_MAPPED_BYTES,
        stand_ins: Mapping[int, object] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if engines is None:
            raise ParameterError(
                "The joblib backend needs engines: "
                "`with mscourse.local_cluster() as client, "
                f'joblib.parallel_config("{NAME}", engines=client):`.'
            )
        with pool_for(engines):  # refuses what cannot be used, before anything runs
            pass
        self._engines = engines
        self._least_mapped_bytes = least_mapped_bytes
        self._stand_ins = {} if stand_ins is None else stand_ins
        self._call: _Call | None = None

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Tell how many tasks run at a time: one, or as many as there are engines.

        A single engine counts as two: joblib takes one for this process.
        """
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs == 1:
            return 1
        with pool_for(self._engines) as pool:
            return max(2, len(pool.engines()))

    def start_call(self) -> None:
        """Be ready for tasks."""
        if self._call is not None:
            # joblib does not say for which call it submits, and one must not take another's tasks.
            raise ParameterError(
                "This `joblib.Parallel` was called while another one takes its tasks from where it "
                "was called, such as a generator. Make a list of what this one gives first."
            )
        self._call = _Call(self._engines, _Arrays(self._least_mapped_bytes, self._stand_ins))

    def stop_call(self) -> None:
        """Wait for nothing, remove the files, and warn of what the tasks have warned of."""
        for warning in self._end_call():
            warning.repeat()

    def terminate(self) -> None:
        self.stop_call()
        self.reset_batch_stats()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Send nothing more of this call, whose error says more than its warnings."""
        self._end_call()
        if ensure_ready:
            self.start_call()

    def _end_call(self) -> Sequence[EngineWarning]:
        call, self._call = self._call, None
        if call is None:
            return []
        call.end()
        return call.warned

    def submit(
        self, func: Callable[[], Any], callback: Callable[[Any], None] | None = None
    ) -> Future[Any]:
        """Hand in a batch of tasks."""
        assert self._call is not None, "joblib submits between start_call and stop_call"
        return self._call.submit(func, callback)

    def retrieve_result_callback(self, future: Future[Any]) -> Any:
        """Give what the tasks returned, or raise what they raised."""
        return future.result()

    def get_nested_backend(self) -> tuple[ParallelBackendBase, None]:
        """An engine has one core to use, so that what is nested runs one by one."""
        return SequentialBackend(nesting_level=(self.nesting_level or 0) + 1), None


class _Call:
    """One call of a `joblib.Parallel`: its tasks, its scheduler, and its files."""

    def __init__(self, engines: Engines, arrays: _Arrays) -> None:
        self.warned: list[EngineWarning] = []
        self._arrays = arrays
        self._feed = _Feed()
        self._futures: dict[int, Future[Any]] = {}
        self._n_submitted = 0
        self._broken: BaseException | None = None
        self._lock = threading.Lock()
        self._scheduler = Scheduler(run_task, self._feed, pool_for(engines), self._take_in)
        self._scheduler.start()
        # Whoever waits for a future must learn that there will be none.
        threading.Thread(target=self._tell_the_end, daemon=True).start()

    def submit(
        self, func: Callable[[], Any], callback: Callable[[Any], None] | None
    ) -> Future[Any]:
        future: Future[Any] = Future()
        if callback is not None:
            future.add_done_callback(callback)
        try:
            payload, files = self._arrays.dumps(func)
        except Exception as error:  # noqa: BLE001  # it cannot be pickled, or the disk is full
            # joblib submits from a callback, too, and what that raises nobody would learn.
            future.set_exception(error)
            return future
        if files:
            future.add_done_callback(lambda _: self._arrays.release(files))
        with self._lock:
            number = self._n_submitted
            self._n_submitted += 1
            self._futures[number] = future
            broken = self._broken
        if broken is not None:
            self._tell(broken)
        self._feed.put((number, payload))
        self._scheduler.wake()
        return future

    def end(self) -> None:
        self._feed.close()
        self._scheduler.abort()
        self._arrays.delete()

    def _take_in(self, ended: Sequence[Ended]) -> None:
        for each in ended:
            self._take_in_one(*each)

    def _take_in_one(
        self, item: Item, value: bytes | None, failure: str | None, engine: EngineId
    ) -> None:
        outcome = read_outcome(value, failure, engine)
        # Before somebody who waits goes on.
        self.warned += [*outcome.warned, *echo(outcome.printed)]
        with self._lock:
            future = self._futures.pop(item[0])
        if outcome.error is None:
            future.set_result(outcome.result)
        else:
            future.set_exception(outcome.error)

    def _tell_the_end(self) -> None:
        try:
            self._scheduler.wait()
        except BaseException as error:  # noqa: BLE001  # it is raised where somebody waits
            self._tell(error)

    def _tell(self, error: BaseException) -> None:
        with self._lock:
            self._broken = error  # what is submitted from now on will not run either
            left, self._futures = list(self._futures.values()), {}
        for future in left:
            future.set_exception(error)


class _Feed:
    """A source of items that are put into it from any thread, until it is closed."""

    def __init__(self) -> None:
        self._items: deque[Item] = deque()
        self.is_open = True

    @property
    def n_waiting(self) -> int:
        return len(self._items)

    def put(self, item: Item) -> None:
        self._items.append(item)

    def take(
        self, n: int, engine: EngineId, engines: Sequence[EngineId], *, ahead: bool
    ) -> Sequence[Item]:
        return [self._items.popleft() for _ in range(min(n, len(self._items)))]

    def close(self) -> None:
        self.is_open = False


@dataclass(eq=False)
class _File:
    """An array that has been written, which goes when neither the array nor a task needs it."""

    path: Path
    array: weakref.ref[NDArray[Any]]
    n_tasks: int = 0


class _Arrays:
    """The large arrays of a call, each in a file of its own."""

    def __init__(self, least_bytes: int, stand_ins: Mapping[int, object]) -> None:
        self.stand_ins = stand_ins
        self._least_bytes = least_bytes
        self._folder: Path | None = None
        self._n_written = 0
        self._files: dict[int, _File] = {}  # by the array's id, as long as it is that array's
        # Once more by the same thread: an array may die at any time.
        self._lock = threading.RLock()

    def dumps(self, value: object) -> tuple[bytes, set[_File]]:
        """Pickle something, with large arrays as paths; tell of the files until `release`."""
        buffer = io.BytesIO()
        pickler = _Pickler(buffer, self)
        pickler.dump(value)
        return buffer.getvalue(), pickler.files

    def is_large(self, value: object) -> bool:
        """Whether something is an array that is worth a file; other kinds of array are not."""
        return (
            isinstance(value, np.ndarray)
            and type(value) in (np.ndarray, np.memmap)
            and not value.dtype.hasobject
            and value.nbytes >= self._least_bytes
        )

    def hold(self, array: NDArray[Any], files: set[_File]) -> Path:
        """Write an array unless it has been, add its file to those of a task, and tell its path."""
        with self._lock:
            file = self._files.get(id(array))
            if file is None:
                if self._folder is None:
                    self._folder = Path(tempfile.mkdtemp(prefix="mscourse-joblib-"))
                path = self._folder / f"{self._n_written}.npy"
                self._n_written += 1
                np.save(path, array)
                number = id(array)
                file = _File(path, weakref.ref(array, lambda _: self._forget(number)))
                self._files[number] = file
            if file not in files:
                file.n_tasks += 1
                files.add(file)
            return file.path

    def release(self, files: set[_File]) -> None:
        """Remove the files of a task that is over, unless they are the arrays' of more tasks."""
        with self._lock:
            for file in files:
                file.n_tasks -= 1
                self._remove_if_unused(file)

    def _forget(self, number: int) -> None:
        with self._lock:
            file = self._files.pop(number, None)
            if file is not None:
                self._remove_if_unused(file)

    def _remove_if_unused(self, file: _File) -> None:
        if file.n_tasks == 0 and file.array() is None:
            with contextlib.suppress(OSError):  # Windows does not remove files that are mapped
                file.path.unlink()

    def delete(self) -> None:
        """Remove the files. Maps that are open stay readable."""
        with self._lock:
            self._files.clear()
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)
                self._folder = None


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """Pickles large arrays as paths, and stand-ins for what they stand in for."""

    def __init__(self, buffer: io.BytesIO, arrays: _Arrays) -> None:
        super().__init__(buffer)
        self.files: set[_File] = set()
        self._arrays = arrays

    def reducer_override(self, value: Any) -> Any:
        if id(value) in self._arrays.stand_ins:
            return itself, (self._arrays.stand_ins[id(value)],)
        if self._arrays.is_large(value):
            return map_array, (self._arrays.hold(value, self.files),)
        return super().reducer_override(value)


joblib.register_parallel_backend(NAME, EnginesBackend)
