"""Local clusters, and which engine runs on which host.

An *engine* is one ipyparallel worker process; a *host* is one machine, which runs any number of
them. What concerns a host (its memory, its page cache, its disk) is asked of one engine of that
host, whatever the number of engines there.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import ipyparallel as ipp
from ipyparallel.error import CompositeError, RemoteError
from traitlets.config import Config

from mscourse.errors import ClusterError, NoEnginesError, ParameterError

Result = TypeVar("Result")

# Each numerical library reads a variable of its own, once, when it is loaded.
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)

# An engine counts as registered after its first heartbeat, so the period decides how long a
# cluster takes to start: about 6 s with ipyparallel's 3000 ms, under 3 s with this one.
_HEARTBEAT_PERIOD_MS = 300

# An engine that misses this many beats in a row is taken for dead. Engines answer from a thread
# of their own, so that even an engine deep in a fit does not miss 10 s of beats.
_HEARTBEAT_MISSES = 33

_START_TIMEOUT_S = 60
_LOG_LINES_SHOWN = 15


@contextmanager
def local_cluster(
    n_engines: int | None = None, *, threads_per_engine: int = 1
) -> Iterator[ipp.Client]:
    """Run engines on this machine for the length of a ``with`` block.

    Parameters
    ----------
    n_engines : int, optional
        How many engines to start. By default one for each core this process may use.
    threads_per_engine : int
        Threads that BLAS and OpenMP may use in each engine. With one engine per core, more than
        one thread each makes them compete for the same cores.

    Yields
    ------
    ipyparallel.Client
        Connected, with all engines registered. The controller, the engines and their files are
        gone when the block ends, also when it ends with an exception.

    Raises
    ------
    ParameterError
        If a number is not a positive integer.
    ClusterError
        If the cluster does not start within a minute. The message ends with what its log says.

    Examples
    --------
    >>> with local_cluster(2) as client:
    ...     len(client)
    2
    """
    if n_engines is None:
        n_engines = _usable_cores()
    _check_positive_integer("n_engines", n_engines)
    _check_positive_integer("threads_per_engine", threads_per_engine)

    config = Config()
    config.EngineLauncher.environment = {
        **dict.fromkeys(_THREAD_VARIABLES, str(threads_per_engine)),
        # Engines find the modules that this process finds, a notebook's neighbours among them.
        "PYTHONPATH": os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path),
    }
    with tempfile.TemporaryDirectory(prefix="mscourse-cluster-", ignore_cleanup_errors=True) as tmp:
        # A profile folder of its own keeps keys and logs out of the user's home, and lets any
        # number of clusters run side by side.
        log = logging.Logger("mscourse.cluster", level=logging.WARNING)
        log_lines = _LogLines()
        log.addHandler(log_lines)
        cluster = ipp.Cluster(
            n=n_engines,
            profile_dir=tmp,
            config=config,
            log=log,
            controller_args=[
                f"--HeartMonitor.period={_HEARTBEAT_PERIOD_MS}",
                f"--HeartMonitor.max_heartmonitor_misses={_HEARTBEAT_MISSES}",
                "--nodb",  # the task database would keep a copy of every message
            ],
        )
        client: ipp.Client | None = None
        try:
            try:
                cluster.start_cluster_sync()
                client = cluster.connect_client_sync()
                client.wait_for_engines(n_engines, timeout=_START_TIMEOUT_S, interactive=False)
            except Exception as error:
                raise ClusterError(
                    f"A local cluster of {n_engines} engines did not start: {error}\n"
                    "Run `mscourse doctor` to see what is wrong with this machine. "
                    f"The end of its log:\n{log_lines}"
                ) from error
            yield client
        finally:
            if client is not None:
                client.close()
            cluster.stop_cluster_sync()


def engine_hosts(client: ipp.Client) -> dict[int, str]:
    """Tell on which host each engine runs.

    Returns
    -------
    dict of int to str
        Engine id to host name, in the order of the ids.

    Raises
    ------
    NoEnginesError
        If the client has no engines.
    """
    return ask_engines(client, socket.gethostname)


def one_engine_per_host(client: ipp.Client) -> dict[str, int]:
    """Choose one engine on each host: the one with the lowest id.

    Returns
    -------
    dict of str to int
        Host name to engine id.

    Raises
    ------
    NoEnginesError
        If the client has no engines.
    """
    chosen: dict[str, int] = {}
    for engine, host in engine_hosts(client).items():
        chosen.setdefault(host, engine)
    return chosen


def ask_engines(
    client: ipp.Client,
    function: Callable[..., Result],
    *args: Any,
    targets: Iterable[int] | None = None,
) -> dict[int, Result]:
    """Call a function once on each engine, and wait for what they answer.

    Parameters
    ----------
    client : ipyparallel.Client
        The cluster to ask.
    function : callable
        What to call, with ``args``. An engine that is busy answers after its current work.
    targets : iterable of int, optional
        The engines to ask. By default all of them.

    Returns
    -------
    dict of int to object
        Engine id to answer, in the order of the ids. An engine that dies before it answers is
        left out: it is no longer part of the cluster.

    Raises
    ------
    NoEnginesError
        If there is no engine to ask, or none that lives to answer.
    ClusterError
        If the function raises on an engine.
    """
    engines = sorted(client.ids if targets is None else targets)
    if not engines:
        raise NoEnginesError(
            "This client has no engines. Start some (`ipcluster engines --n=2`, or "
            "`with mscourse.local_cluster(2) as client:`) and wait for them with "
            "`client.wait_for_engines(2)`."
        )
    questions = {engine: client[engine].apply_async(function, *args) for engine in engines}
    answers: dict[int, Result] = {}
    for engine, question in questions.items():
        try:
            answers[engine] = question.get()
        except (RemoteError, CompositeError) as error:
            if getattr(error, "ename", "") == "EngineError":
                continue
            raise ClusterError(f"Engine {engine} cannot answer: {error}") from error
    if not answers:
        raise NoEnginesError(f"All engines that were asked have died: {engines}.")
    return answers


def _usable_cores() -> int:
    """Cores this process may use: fewer than the machine has in a container or under taskset."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _check_positive_integer(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ParameterError(f"{name} must be a positive integer, not {value!r}.")


class _LogLines(logging.Handler):
    """Keep what a cluster logs, to show it if the cluster does not start."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self._lines += record.getMessage().splitlines()

    def __str__(self) -> str:
        last = self._lines[-_LOG_LINES_SHOWN:] or ["(nothing was logged)"]
        return "\n".join(f"  {line}" for line in last)
