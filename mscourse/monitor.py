"""What engines and hosts hold in memory while something else runs.

Engines that work cannot answer. So those of this host are looked at from outside, by a thread of
the client. On every other host a thread of one engine looks at all of them, and hands over what it
has seen when that engine has a moment.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, fields
from typing import Any

import ipyparallel as ipp
import psutil
from ipyparallel.error import NoEnginesRegistered, RemoteError

from mscourse.errors import ParameterError
from mscourse.extras import comes_with
from mscourse.memory import HostMemory, ProcessMemory, host_memory, process_memory

# Linux sums up every page of a process for its PSS: 0.3 ms of a core for a process of 50 MB, 2 ms
# for one of 350 MB with the 1700 mappings of scikit-learn and pandas, more on a busy host. Where
# that adds up, samples are taken less often, so that it takes no more than this part of a core.
_MOST_OF_A_CORE = 0.1

# More than a picture can show. Of a longer record every second sample is dropped, again and again.
_MOST_SAMPLES = 4_000

# How often other hosts are asked for what they have seen. The death of an engine loses no more.
_VISIT_PERIOD_S = 2.0

# How long engines get to tell where they are before the block begins without those that are busy,
# and to hand over the last samples when it ends.
_PLACES_WITHIN_S = 2.0
_ANSWER_WITHIN_S = 10.0
_LOOK_AGAIN_S = 0.02


@dataclass(frozen=True)
class Sample:
    """The memory of one host and of the processes watched there, at one time.

    Attributes
    ----------
    at_s : float
        In seconds since the epoch, on the host's clock.
    took_s : float
        Seconds of a core that it took to look.
    host : HostMemory
        The host.
    processes : list of ProcessMemory
        Those that live.
    """

    at_s: float
    took_s: float
    host: HostMemory
    processes: list[ProcessMemory]


class MemoryMonitor:
    """Watch the memory of engines, from outside, for the length of a ``with`` block.

    Parameters
    ----------
    client : ipyparallel.Client, optional
        The engines to watch, on all hosts. Those that join are watched as soon as they have told
        where they are; those that are busy when the block begins, after their current work.
        Without a client, this process and its children are watched.
    period_s : float
        Seconds between two samples; more if there is so much to look at that it would take more
        than a tenth of a core.

    Notes
    -----
    To look at an engine takes 1 to 4 ms of a core, since Linux counts its pages one by one;
    ``repr`` tells what it has taken. A process shorter than the period may be missed. The thread
    that watches another host lives in an engine: while that engine holds Python's interpreter lock
    it does not look, and if it dies, the last seconds before are lost.

    Examples
    --------
    >>> search = mscourse.grid_search(SVC(), {"C": [1, 10]}, splits, engines=client)
    >>> with mscourse.MemoryMonitor(client) as monitor:
    ...     search.wait()
    True
    >>> list(monitor.peak())
    [0, 1]
    >>> axes = monitor.plot()
    """

    def __init__(self, client: ipp.Client | None = None, *, period_s: float = 0.1) -> None:
        if not isinstance(period_s, int | float) or not period_s > 0:
            raise ParameterError(f"period_s must be a positive number, not {period_s!r}.")
        if client is not None and not isinstance(client, ipp.Client):
            raise ParameterError(f"client must be an ipyparallel Client or None, not {client!r}.")
        self._started_at_s = time.time()
        self._scout = None if client is None else _Scout(client)
        self._sampler = _Sampler(period_s, self._find)

    def __enter__(self) -> MemoryMonitor:
        if self._sampler.has_begun:
            raise ParameterError("A monitor watches once; make another one.")
        if self._scout is not None:
            self._scout.wait_for_answers(self._sampler.period_s)
        self._started_at_s = time.time()
        self._sampler.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._sampler.stop()
        if self._scout is not None:
            self._scout.end()

    def samples(self) -> list[Sample]:
        """List what has been seen so far, this host first, each in the order of time."""
        return self._sampler.samples() + ([] if self._scout is None else self._scout.samples())

    def peak(self) -> dict[int, ProcessMemory]:
        """Give the sample of each process in which it held the most by itself.

        Returns
        -------
        dict of int to ProcessMemory
            By engine id; by pid if there is no client. The most anonymous memory counts, or the
            most RSS where the system does not tell.
        """
        peaks: dict[int, ProcessMemory] = {}
        for _, engine, memory in self._each_process():
            name = memory.pid if engine is None else engine
            if name not in peaks or _own_bytes(memory) > _own_bytes(peaks[name]):
                peaks[name] = memory
        return dict(sorted(peaks.items()))

    def to_frame(self) -> Any:
        """Arrange what has been seen as a `pandas.DataFrame`, a row for each process and sample.

        Columns are ``time_s`` since the block began, ``host``, ``engine`` (None without a client),
        the fields of `ProcessMemory`, and ``host_used_bytes`` and ``host_available_bytes``. What
        the system does not tell is missing.
        """
        with comes_with("notebook", "Tables"):
            import pandas as pd

        process_fields = [field.name for field in fields(ProcessMemory)]
        columns = ["time_s", "host", "engine", *process_fields]
        rows = [
            [
                sample.at_s - self._started_at_s,
                sample.host.host,
                engine,
                *(getattr(memory, name) for name in process_fields),
                sample.host.total_bytes - sample.host.available_bytes,
                sample.host.available_bytes,
            ]
            for sample, engine, memory in self._each_process()
        ]
        return pd.DataFrame(rows, columns=[*columns, "host_used_bytes", "host_available_bytes"])

    def plot(self, ax: Any = None) -> Any:
        """Draw the memory of each engine over time; call it while it runs, too.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            By default a new figure is made.

        Returns
        -------
        matplotlib.axes.Axes
        """
        with comes_with("notebook", "Pictures"):
            from mscourse.plots import memory_over_time

        return memory_over_time(self, ax=ax)

    def __repr__(self) -> str:
        samples = self.samples()
        if not samples:
            return "MemoryMonitor: no samples yet"
        processes = {
            (sample.host.host, each.pid) for sample in samples for each in sample.processes
        }
        length_s = max(sample.at_s for sample in samples) - self._started_at_s
        took_s = sum(sample.took_s for sample in samples) / len(samples)
        return (
            f"MemoryMonitor: {len(samples)} samples of {len(processes)} processes in "
            f"{length_s:.1f} s; a sample takes {1000 * took_s:.1f} ms of a core"
        )

    def _each_process(self) -> Iterator[tuple[Sample, int | None, ProcessMemory]]:
        places = {} if self._scout is None else dict(self._scout.places)
        engine_at = {place: engine for engine, place in places.items()}
        for sample in self.samples():
            for memory in sample.processes:
                yield sample, engine_at.get((sample.host.host, memory.pid)), memory

    def _find(self, period_s: float) -> Collection[int]:
        """Find the processes of this host that are to be watched. Called before each sample."""
        if self._scout is not None:
            return self._scout.look_around(period_s)
        children = psutil.Process().children(recursive=True)
        return [os.getpid(), *(child.pid for child in children)]


class _Sampler:
    """A thread that looks at processes of its host.

    Parameters
    ----------
    period_s : float
        Seconds between two samples. It doubles each time that half of the samples are dropped.
    find : callable
        Called with the period before each sample; returns the pids to look at.
    """

    def __init__(self, period_s: float, find: Callable[[float], Collection[int]]) -> None:
        self.period_s = period_s
        self._find = find
        self._lock = threading.Lock()
        self._samples: list[Sample] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mscourse-memory", daemon=True)

    @property
    def has_begun(self) -> bool:
        return self._thread.ident is not None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Take one more sample, and end."""
        self._over.set()
        self._thread.join()

    def samples(self) -> list[Sample]:
        with self._lock:
            return list(self._samples)

    def take(self) -> list[Sample]:
        """Give the samples away, and keep none."""
        with self._lock:
            taken, self._samples = self._samples, []
        return taken

    def _run(self) -> None:
        over = False
        while not over:
            start_s = time.thread_time()
            pids = self._find(self.period_s)
            sample = _look(pids, start_s)
            with self._lock:
                self._samples.append(sample)
                if _thin_out(self._samples):
                    self.period_s *= 2
            pause_s = max(self.period_s - sample.took_s, sample.took_s / _MOST_OF_A_CORE)
            over = self._over.is_set()
            self._over.wait(pause_s)


def _look(pids: Collection[int], start_s: float) -> Sample:
    processes = []
    for pid in pids:
        # One that has ended meanwhile has no memory, and one that is not ours cannot be read.
        with contextlib.suppress(ParameterError, psutil.Error):
            processes.append(process_memory(pid))
    host = host_memory()
    return Sample(time.time(), time.thread_time() - start_s, host, processes)


def _thin_out(samples: list[Sample]) -> bool:
    """Drop every second sample if there are too many."""
    too_many = len(samples) > _MOST_SAMPLES
    if too_many:
        del samples[1::2]
    return too_many


@dataclass(frozen=True)
class _Visit:
    """What was asked of the engine that watches another host."""

    engine: int
    began_s: float
    question: Any


class _Scout:
    """Knows where engines are, and gets from other hosts what was seen there. Never waits long."""

    def __init__(self, client: ipp.Client) -> None:
        self.places: dict[int, tuple[str, int]] = {}  # engine to host and pid
        self._client = client
        self._here = _this_host()
        self._key = uuid.uuid4().hex
        self._asked: set[int] = set()
        self._questions: dict[int, Any] = {}  # engine to its answer to come: where it is
        self._visits: dict[str, _Visit] = {}  # by host
        self._far_samples: dict[str, list[Sample]] = {}  # by host

    def samples(self) -> list[Sample]:
        """List what has been seen on other hosts."""
        return [sample for samples in list(self._far_samples.values()) for sample in list(samples)]

    def wait_for_answers(self, period_s: float) -> None:
        """Look around until all engines have told where they are, unless they are busy."""
        deadline_s = time.monotonic() + _PLACES_WITHIN_S
        self.look_around(period_s)
        while self._questions and time.monotonic() < deadline_s:
            time.sleep(_LOOK_AGAIN_S)
            self.look_around(period_s)

    def look_around(self, period_s: float) -> Collection[int]:
        """Tell the pids of the engines on this host, and see to the other hosts."""
        living = [] if self._client._closed else self._client.ids
        for engine in living:
            if engine not in self._asked:
                self._asked.add(engine)
                self._questions[engine] = self._ask(engine, _place)
        for engine, question in list(self._questions.items()):
            if question is None or question.ready():
                del self._questions[engine]
                place = self._answer(question)
                if place is not None:
                    self.places[engine] = place
        pids_of: dict[str, dict[int, int]] = {}
        for engine in living:
            if engine in self.places:
                host, pid = self.places[engine]
                pids_of.setdefault(host, {})[engine] = pid
        for host in pids_of.keys() - {self._here}:
            self._visit(host, pids_of[host], period_s)
        return pids_of.get(self._here, {}).values()

    def end(self) -> None:
        """Take what is left, and have the threads on other hosts end."""
        deadline_s = time.monotonic() + _ANSWER_WITHIN_S
        last = {
            host: self._ask(visit.engine, _stop_watching, self._key)
            for host, visit in self._visits.items()
        }
        for host, visit in self._visits.items():
            for question in (visit.question, last[host]):
                if question is not None:
                    question.wait(max(0.0, deadline_s - time.monotonic()))
                answered = self._take_in(host, question)
            if not answered:
                warnings.warn(
                    f"The last samples of the memory of {host} are missing: engine {visit.engine}, "
                    f"which watched it, has died or is still busy after {_ANSWER_WITHIN_S:g} s.",
                    stacklevel=3,
                )
        self._visits.clear()

    def _visit(self, host: str, pids: dict[int, int], period_s: float) -> None:
        """Now and then, have an engine watch its host, and take what it has seen."""
        visit = self._visits.get(host)
        engine = min(pids)
        if visit is not None:
            if visit.engine in pids:
                engine = visit.engine
                rested = time.monotonic() - visit.began_s > _VISIT_PERIOD_S
                if not (rested and visit.question.ready()):
                    return
            self._take_in(host, visit.question)
        question = self._ask(engine, _watch, self._key, list(pids.values()), period_s)
        if question is not None:
            self._visits[host] = _Visit(engine, time.monotonic(), question)

    def _take_in(self, host: str, question: Any) -> bool:
        new = self._answer(question)
        samples = self._far_samples.setdefault(host, [])
        samples += new or []
        _thin_out(samples)
        return new is not None

    def _ask(self, engine: int, function: Callable[..., Any], *args: Any) -> Any:
        """Ask without waiting; None if the engine has died or the client is closed."""
        with contextlib.suppress(IndexError, KeyError, NoEnginesRegistered, OSError):
            return self._client[engine].apply_async(function, *args)
        return None

    def _answer(self, question: Any) -> Any:
        """Read an answer; None if there is none yet, or never will be."""
        if question is None or not question.ready():
            return None
        try:
            return question.get()
        except RemoteError as error:
            if error.ename != "EngineError":  # which says that the engine has died
                warnings.warn(f"The memory of an engine cannot be watched: {error}", stacklevel=2)
            return None
        finally:
            with contextlib.suppress(KeyError, RuntimeError):  # the client would keep it for ever
                self._client.purge_local_results(question.msg_ids)


def _this_host() -> str:
    return socket.gethostname()


def _own_bytes(memory: ProcessMemory) -> int:
    return memory.rss_bytes if memory.anonymous_bytes is None else memory.anonymous_bytes


# -- on an engine of another host ------------------------------------------------------------------


class _Watch:
    """The pids that a client wants watched, which change, and the thread that watches them."""

    def __init__(self, pids: list[int], period_s: float) -> None:
        self.pids = pids
        self.sampler = _Sampler(period_s, lambda period_s: self.pids)
        self.sampler.start()


_watches: dict[str, _Watch] = {}  # by the key of the monitor


def _place() -> tuple[str, int]:
    return socket.gethostname(), os.getpid()


def _watch(key: str, pids: list[int], period_s: float) -> list[Sample]:
    """Watch these processes from now on; give what has been seen since the last call."""
    if key not in _watches:
        _watches[key] = _Watch(pids, period_s)
    watch = _watches[key]
    watch.pids = pids
    watch.sampler.period_s = max(period_s, watch.sampler.period_s)
    return watch.sampler.take()


def _stop_watching(key: str) -> list[Sample]:
    """End the thread; give what has been seen since the last call."""
    watch = _watches.pop(key, None)
    if watch is None:
        return []
    watch.sampler.stop()
    return watch.sampler.take()
