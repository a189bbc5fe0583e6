"""Run what takes ``n_jobs`` on engines: a joblib backend that maps large arrays instead of sending.

::

    import mscourse.joblib  # makes the backend known to joblib

    with joblib.parallel_config("mscourse", engines=client):
        cross_val_score(estimator, X, y, n_jobs=-1)

Each large array is written to a file once, and travels as a path: all engines of a host map the
same pages. The tasks go through the same scheduler as a search, so that an engine may die or join.
"""

from __future__ import annotations

import io
import shutil
import tempfile
import threading
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import cloudpickle
import joblib
import numpy as np
from joblib.parallel import AutoBatchingMixin, ParallelBackendBase, SequentialBackend
from numpy.typing import NDArray

from mscourse.errors import ClusterError, ParameterError
from mscourse.pools import EngineId, Engines, pool_for
from mscourse.scheduler import Item, Scheduler

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

    Raises
    ------
    ParameterError
        If these are no engines.
    NoEnginesError
        If there are none at the moment.
    """

    supports_retrieve_callback = True
    default_n_jobs = -1

    def __init__(
        self,
        engines: Engines = None,
        *,
        least_mapped_bytes: int = _LEAST_MAPPED_BYTES,
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
        self._call: _Call | None = None

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Tell how many tasks run at a time: as many as there are engines, or one."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs == 1:
            return 1
        with pool_for(self._engines) as pool:
            return len(pool.engines())

    def start_call(self) -> None:
        """Be ready for tasks."""
        self._call = _Call(self._engines, self._least_mapped_bytes)

    def stop_call(self) -> None:
        """Wait for nothing, and remove the files."""
        if self._call is not None:
            self._call.end()
            self._call = None

    def terminate(self) -> None:
        self.stop_call()
        self.reset_batch_stats()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Send nothing more of this call."""
        self.stop_call()
        if ensure_ready:
            self.start_call()

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

    def __init__(self, engines: Engines, least_mapped_bytes: int) -> None:
        self._arrays = _Arrays(least_mapped_bytes)
        self._feed = _Feed()
        self._futures: dict[int, Future[Any]] = {}
        self._n_submitted = 0
        self._lock = threading.Lock()
        self._scheduler = Scheduler(run_task, self._feed, pool_for(engines), self._take_in)
        self._scheduler.start()
        # Whoever waits for a future must learn that there will be none.
        threading.Thread(target=self._tell_the_end, daemon=True).start()

    def submit(
        self, func: Callable[[], Any], callback: Callable[[Any], None] | None
    ) -> Future[Any]:
        payload = self._arrays.dumps(func)
        future: Future[Any] = Future()
        if callback is not None:
            future.add_done_callback(callback)
        with self._lock:
            number = self._n_submitted
            self._n_submitted += 1
            self._futures[number] = future
        self._feed.put((number, payload))
        self._scheduler.wake()
        return future

    def end(self) -> None:
        self._feed.close()
        self._scheduler.abort()
        self._arrays.delete()

    def _take_in(
        self, item: Item, value: tuple[bool, bytes] | None, failure: str | None, engine: EngineId
    ) -> None:
        with self._lock:
            future = self._futures.pop(item[0])
        if value is None:
            future.set_exception(ClusterError(str(failure)))
            return
        succeeded, result = value
        if succeeded:
            future.set_result(cloudpickle.loads(result))
        else:
            future.set_exception(cloudpickle.loads(result))

    def _tell_the_end(self) -> None:
        try:
            self._scheduler.wait()
        except Exception as error:  # noqa: BLE001  # it is raised where somebody waits
            with self._lock:
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

    def take(self, n: int) -> Sequence[Item]:
        return [self._items.popleft() for _ in range(min(n, len(self._items)))]

    def close(self) -> None:
        self.is_open = False


class _Arrays:
    """The large arrays of a call, each in a file of its own."""

    def __init__(self, least_bytes: int) -> None:
        self._least_bytes = least_bytes
        self._folder: Path | None = None
        # With the array itself: as long as it is kept, no other one has its id.
        self._written: dict[int, tuple[NDArray[Any], Path]] = {}
        self._lock = threading.Lock()

    def dumps(self, value: object) -> bytes:
        """Pickle something, with large arrays as paths."""
        buffer = io.BytesIO()
        _Pickler(buffer, self).dump(value)
        return buffer.getvalue()

    def is_large(self, value: object) -> bool:
        """Whether something is an array that is worth a file; other kinds of array are not."""
        return (
            isinstance(value, np.ndarray)
            and type(value) in (np.ndarray, np.memmap)
            and not value.dtype.hasobject
            and value.nbytes >= self._least_bytes
        )

    def path_of(self, array: NDArray[Any]) -> Path:
        """Write an array unless it has been; give its file."""
        with self._lock:
            if id(array) not in self._written:
                if self._folder is None:
                    self._folder = Path(tempfile.mkdtemp(prefix="mscourse-joblib-"))
                path = self._folder / f"{len(self._written)}.npy"
                np.save(path, array)
                self._written[id(array)] = array, path
            return self._written[id(array)][1]

    def delete(self) -> None:
        """Remove the files. Maps that are open stay readable."""
        with self._lock:
            self._written.clear()
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)
                self._folder = None


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """Pickles large arrays as paths."""

    def __init__(self, buffer: io.BytesIO, arrays: _Arrays) -> None:
        super().__init__(buffer)
        self._arrays = arrays

    def reducer_override(self, value: Any) -> Any:
        if self._arrays.is_large(value):
            return _map_array, (self._arrays.path_of(value),)
        return super().reducer_override(value)


def _map_array(path: Path) -> NDArray[Any]:
    """Open an array. Runs on an engine.

    Copy-on-write, as persisted splits are: an estimator that writes into its input harms nobody.
    """
    array: NDArray[Any] = np.load(path, mmap_mode="c", allow_pickle=False)
    return array


def run_task(number: int, payload: bytes) -> tuple[bool, bytes]:
    """Run a batch of joblib's; say whether it succeeded, and what came of it. Runs on an engine."""
    try:
        return True, cloudpickle.dumps(cloudpickle.loads(payload)())
    except Exception as error:  # noqa: BLE001  # whatever it is, it is raised at the client
        error.add_note(f"On an engine:\n{traceback.format_exc()}")
        try:
            return False, cloudpickle.dumps(error)
        except Exception:  # noqa: BLE001  # of a kind that cannot travel
            return False, cloudpickle.dumps(RuntimeError(traceback.format_exc()))


joblib.register_parallel_backend(NAME, EnginesBackend)
