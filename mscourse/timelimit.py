"""Call a function in a process of its own, which is killed if it takes too long.

Nothing else stops a fit for sure: compiled code looks at no signal and at no other thread. The
process is kept for the next call, since to start one takes as long as to import scikit-learn.
"""

from __future__ import annotations

import functools
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import cloudpickle
from joblib.externals.loky import ProcessPoolExecutor

# After this long without a call the process ends, and gives back its memory.
_IDLE_S = 60

# How often a process looks whether the one that has started it still lives.
_LOOK_PERIOD_S = 1.0

# To import what a function needs, from a slow disk, may take so much longer than a call.
_LOAD_S = 60.0


class StoppedError(Exception):
    """The call has not come to its end: the time was up, or its process died.

    Attributes
    ----------
    elapsed_s : float
        Seconds until it was given up.
    """

    def __init__(self, message: str, elapsed_s: float) -> None:
        super().__init__(message)
        self.elapsed_s = elapsed_s


class _Child(threading.local):
    """The process of one thread of this process."""

    def __init__(self) -> None:
        self._executor: ProcessPoolExecutor | None = None

    def call(self, function: bytes, args: tuple[Any, ...], timeout_s: float) -> Any:
        if self._executor is None:
            self._executor = ProcessPoolExecutor(
                1, timeout=_IDLE_S, initializer=_end_with, initargs=(os.getpid(),)
            )
        executor = self._executor
        start_s = time.perf_counter()
        try:
            # What takes long in a new process is not counted, unless it hangs.
            loaded = executor.submit(_unpickle, function)
            late = f"what it needs not imported after {timeout_s + _LOAD_S:g} s"
            if wait([loaded], timeout_s + _LOAD_S).done:
                loaded.result()
                start_s = time.perf_counter()
                late = f"not done after {timeout_s:g} s, the timeout_s of an evaluation"
                future = executor.submit(_call, function, args)
                if wait([future], timeout_s).done:
                    return future.result()
        except BrokenProcessPool as error:
            self._kill()
            raise StoppedError(
                "The process that ran this has died. The usual causes are too little memory, and a "
                f"crash in compiled code. ({str(error).splitlines()[0]})",
                time.perf_counter() - start_s,
            ) from error
        except BaseException:
            self._kill()
            raise
        self._kill()
        raise StoppedError(f"TimeoutError: {late}", time.perf_counter() - start_s)

    def _kill(self) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=True, kill_workers=True)
            self._executor = None


_child = _Child()


def call(function: Callable[..., Any], args: tuple[Any, ...], timeout_s: float) -> Any:
    """Call ``function(*args)`` in the process of this thread.

    Raises
    ------
    StoppedError
        If it is not done after ``timeout_s``, or has killed its process.
    """
    return _child.call(cloudpickle.dumps(function), args, timeout_s)


def _end_with(parent: int) -> None:
    """End this process soon after its parent, which may be killed: nobody else would stop a fit."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_PERIOD_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@functools.lru_cache(maxsize=2)
def _load(function: bytes) -> Callable[..., Any]:
    loaded: Callable[..., Any] = cloudpickle.loads(function)
    return loaded


def _unpickle(function: bytes) -> None:
    """Import what a function needs."""
    _load(function)


def _call(function: bytes, args: tuple[Any, ...]) -> Any:
    return _load(function)(*args)
