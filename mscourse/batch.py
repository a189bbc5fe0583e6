"""A batch of items on its way to an engine, what the engine does with it, and what it answers."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import socket
import sys
import time
import uuid
from collections import UserList
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

import cloudpickle

from mscourse.draining import is_draining, working
from mscourse.errors import DamagedSplitsError

# A search has one function. With more searches than these at once, an engine asks for one again.
_MOST_KEPT = 4


@dataclass(frozen=True)
class Pickled:
    """A function that many batches have in common. It may be large, and an engine keeps it.

    Attributes
    ----------
    digest : bytes
        SHA-256 of the content.
    content : bytes or None
        The function, pickled; None on the way to an engine that has it already.
    """

    digest: bytes
    content: bytes | None

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Pickled:
        """Pickle a function, also one that only this process has."""
        content = cloudpickle.dumps(function)
        return cls(hashlib.sha256(content).digest(), content)

    def without_content(self) -> Pickled:
        """Name the function only."""
        return replace(self, content=None)

    def load(self) -> Callable[..., Any] | None:
        """Give the function, the same one each time; None if it is not here."""
        function = _kept.get(self.digest)
        if function is None and self.content is not None:
            function = _kept[self.digest] = cloudpickle.loads(self.content)
            for oldest in list(_kept)[:-_MOST_KEPT]:
                _kept.pop(oldest, None)
        return function


_kept: dict[bytes, Callable[..., Any]] = {}


class Parcel(UserList[tuple[Any, ...]]):
    """Items on their way to an engine.

    Where they are pickled, it is by cloudpickle: a value of a parameter may be a lambda, or of a
    class that only the client has, in its script or notebook. Threads are given the items
    themselves.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        # All at once: what several items share travels once. Numbers and text take as long as by
        # plain pickle.
        return cloudpickle.loads, (cloudpickle.dumps(self.data),)

    def __dask_tokenize__(self) -> str:
        # Dask runs equal calls once. What is sent again, because its worker died, would get the
        # answer of the first time: that its worker died.
        return uuid.uuid4().hex


@dataclass(frozen=True)
class BatchReport:
    """What an engine says of a batch.

    Attributes
    ----------
    outcomes : list of (value, failure)
        For each item what the function returned, or else the exception it raised as text. Items
        that were not begun, or whose answer was lost, have none: those at the end of the batch.
        All of them, if the engine does not have the function.
    elapsed_s : float
        Seconds that the items took together.
    fatal : DamagedSplitsError or None
        Why the items after those were not begun: nobody can do them as they should be done.
    is_leaving : bool
        Whether the engine takes nothing more: its node is to go. It gives back what it had not
        begun.
    """

    outcomes: list[tuple[Any, str | None]]
    elapsed_s: float
    fatal: DamagedSplitsError | None = None
    is_leaving: bool = False


def run_batch(
    function: Pickled,
    items: Sequence[tuple[Any, ...]],
    is_leaving: Callable[[], bool] = lambda: False,
) -> BatchReport:
    """Call the function with each item, until the engine is to leave. Runs on the engine."""
    outcomes: list[tuple[Any, str | None]] = []
    fatal = None
    start_s = time.perf_counter()
    try:
        call = function.load()  # which opens what the function carries
        if call is None:
            return BatchReport([], 0.0)
        for item in items:
            if is_leaving():
                break
            outcomes.append(_outcome_of(call, item))
    except DamagedSplitsError as error:
        fatal = DamagedSplitsError(f"On {socket.gethostname()} (pid {os.getpid()}): {error}")
    elapsed_s = time.perf_counter() - start_s
    # Also after the last item: so that nothing more is sent.
    leaves = fatal is None and (len(outcomes) < len(items) or is_leaving())
    return BatchReport(outcomes, elapsed_s, fatal, leaves)


def _outcome_of(call: Callable[..., Any], item: tuple[Any, ...]) -> tuple[Any, str | None]:
    try:
        return call(*item), None
    except DamagedSplitsError:
        raise
    except BaseException as error:  # noqa: BLE001  # the scheduler's client decides what it means
        return None, f"{type(error).__name__}: {error}"


def run_batch_silently(function: Pickled, items: Sequence[tuple[Any, ...]]) -> BatchReport:
    """Do as `run_batch`, and throw away what is printed. Runs on an ipyparallel engine.

    Only such an engine can leave: an executor would send what comes back to the same worker.

    An engine sends all that is printed, by C code and by what it starts as well, to its client,
    which keeps it for good: an estimator that prints 100 MB would cost the client 200 MB or more.
    """
    with working(), _silence():
        return run_batch(function, items, is_draining)


@contextmanager
def _silence() -> Iterator[None]:
    nowhere = _nowhere()
    streams = {sys.stdout, sys.stderr}
    for stream in streams:
        stream.flush()  # what was printed before goes where it belongs
    kept = {number: os.dup(number) for number in (1, 2)}
    try:
        for number in kept:
            os.dup2(nowhere.fileno(), number)
        with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            yield
    finally:
        for number, copy in kept.items():
            os.dup2(copy, number)
            os.close(copy)


@functools.lru_cache(maxsize=1)
def _nowhere() -> TextIO:
    """Open the null device. It stays open: a log handler of an evaluation may keep hold of it."""
    return Path(os.devnull).open("w", encoding="utf-8")
