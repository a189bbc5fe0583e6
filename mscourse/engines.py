"""Local clusters, and which engine runs on which host.

An *engine* is one ipyparallel worker process; a *host* is one machine, which runs any number of
them. What concerns a host (its memory, its page cache, its disk) is asked of one engine of that
host, whatever the number of engines there.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import ipyparallel as ipp
import joblib
import psutil
from ipyparallel.error import CompositeError, NoEnginesRegistered, RemoteError
from traitlets.config import Config

from mscourse import guard as guard_script
from mscourse.controller import CONTROLLER_IS_SILENT, ControllerWatch
from mscourse.errors import ClusterError, InsecureClusterWarning, NoEnginesError, ParameterError
from mscourse.lostanswers import LostAnswers, wait_no_more
from mscourse.values import is_integer

Result = TypeVar("Result")

# Each numerical library reads a variable of its own, once, when it is loaded.
THREAD_VARIABLES = (
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

_LOOK_PERIOD_S = 1.0

# More than any host has cores. A slip of the hand would start processes until the memory is full.
_MOST_ENGINES = 4096

# An address of this computer answers at once, or never.
_CONNECT_WITHIN_S = 0.2

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
        gone when the block ends, also when it ends with an exception, and when this process is
        killed. What the engines are at is not waited for.

    Raises
    ------
    ParameterError
        If a number is not a positive integer.
    ClusterError
        If the cluster does not start within a minute. The message ends with what its log says.

    Examples
    --------
    >>> with mscourse.local_cluster(2) as two_engines:
    ...     len(two_engines)
    2
    """
    if n_engines is None:
        n_engines = usable_cores()
    n_engines = _checked_number("n_engines", n_engines)
    threads_per_engine = _checked_number("threads_per_engine", threads_per_engine)

    config = Config()
    config.EngineLauncher.environment = {
        **dict.fromkeys(THREAD_VARIABLES, str(threads_per_engine)),
        # Engines find the modules that this process finds, a notebook's neighbours among them.
        "PYTHONPATH": os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path),
    }
    with _guarded_folder() as (folder, end_cluster):
        # A profile folder of its own keeps keys and logs out of the user's home, and lets any
        # number of clusters run side by side.
        log = logging.Logger("mscourse.cluster", level=logging.WARNING)
        log_lines = _LogLines()
        log.addHandler(log_lines)
        cluster = ipp.Cluster(
            n=n_engines,
            profile_dir=folder,
            cluster_file="",  # nobody else is to find it
            shutdown_atexit=False,  # the guard sees to that
            config=config,
            log=log,
            controller_args=[
                f"--HeartMonitor.period={_HEARTBEAT_PERIOD_MS}",
                f"--HeartMonitor.max_heartmonitor_misses={_HEARTBEAT_MISSES}",
                "--nodb",  # the task database would keep a copy of every message
            ],
        )
        client: ipp.Client | None = None
        owner = os.getpid()  # a process that is forked in the block leaves it, too
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
            if os.getpid() == owner:
                try:
                    if client is not None:
                        client.close()
                finally:
                    end_cluster()
                cluster.stop_cluster_sync()  # takes note that all have ended


@contextmanager
def _guarded_folder() -> Iterator[tuple[str, Callable[[], None]]]:
    """Make a folder for a cluster; give it, and what ends the cluster at once.

    All is gone at the end of the block, or else soon after the end of this process, however it
    ends: another process sees to that. One engine after the other is stopped by ipyparallel, each
    after its evaluation or after 5 s; the guard stops all together.
    """
    folder = tempfile.mkdtemp(prefix="mscourse-cluster-")
    guard = subprocess.Popen(
        # Isolated, since the neighbours of that file bear the names of well-known libraries.
        [sys.executable, "-I", str(Path(guard_script.__file__)), folder, str(os.getpid())],
        stdin=subprocess.PIPE,
        # Ctrl-C in a terminal goes to all processes of a session.
        start_new_session=True,
        # On an engine, the guard of an inner cluster must survive the end of the outer one.
        env={name: value for name, value in os.environ.items() if name != "IPP_PROFILE_DIR"},
    )

    def end_cluster() -> None:
        assert guard.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has been killed
            if not guard.stdin.closed:
                # A process that was forked from this one holds the pipe open, so it must be told.
                guard.stdin.write(b".")
            guard.stdin.close()
        guard.wait()

    owner = os.getpid()
    try:
        yield folder, end_cluster
    finally:
        if os.getpid() == owner:
            end_cluster()
            shutil.rmtree(folder, ignore_errors=True)  # a launcher may have written to it since


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

    Examples
    --------
    >>> hosts = mscourse.engine_hosts(client)
    >>> list(hosts), len(set(hosts.values()))
    ([0, 1], 1)
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

    Examples
    --------
    >>> list(mscourse.one_engine_per_host(client).values())
    [0]
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
        If the function raises on an engine, if its answer was lost with a connection that broke, or
        if the controller has died.
    """
    if client._closed:
        raise NoEnginesError("The client is closed, and reaches its engines no more.")
    engines = sorted(client.ids if targets is None else targets)
    if not engines:
        raise NoEnginesError(
            "This client has no engines. Start some (`ipcluster engines --n=2`, or `with "
            "mscourse.local_cluster(2) as client:`); `client.wait_for_engines(2)` waits for them."
        )
    questions = {}
    under_way = LostAnswers(client)
    for engine in engines:
        with contextlib.suppress(IndexError, NoEnginesRegistered):  # it has died since
            questions[engine] = client[engine].apply_async(function, *args)
            under_way.sent(engine, questions[engine])
    answers: dict[int, Result] = {}
    controller = ControllerWatch(client)
    for engine, question in questions.items():
        while not question.wait(_LOOK_PERIOD_S):
            if controller.is_silent():
                raise ClusterError(f"{CONTROLLER_IS_SILENT} Start another cluster.")
            lost = under_way.look()
            if lost:
                for each in questions.values():
                    if not each.done():
                        wait_no_more(client, each)
                raise ClusterError(
                    "The answer of an engine was lost on its way, as when a connection breaks and "
                    "comes back. Ask again."
                )
        try:
            answers[engine] = question.get()
        except (RemoteError, CompositeError) as error:
            if getattr(error, "ename", "") == "EngineError":
                continue
            raise ClusterError(f"Engine {engine} cannot answer: {error}") from error
    if not answers:
        raise NoEnginesError(f"All engines that were asked have died: {engines}.")
    return answers


def warn_if_insecure(client: ipp.Client) -> None:
    """Warn, once for each client, if others on the network could listen in on its cluster.

    Warns
    -----
    InsecureClusterWarning
        If the controller listens beyond this computer, CURVE does not encrypt what is sent, and
        no ssh tunnel leads there.
    """
    if client in _CHECKED_FOR_SECURITY:
        return
    _CHECKED_FOR_SECURITY.add(client)
    address = _open_address(client)
    if address is not None:
        warnings.warn(
            f"The controller listens at {address}, beyond this computer, and what travels to and "
            "from it is not encrypted: others on that network can read code and data. Have it "
            "encrypt, with `c.IPController.enable_curve = True` in ipcontroller_config.py, or "
            "have it listen on localhost only, and connect through an ssh tunnel, with "
            "`ipyparallel.Client(sshserver='user@host')`.",
            InsecureClusterWarning,
            stacklevel=3,
        )


_CHECKED_FOR_SECURITY: weakref.WeakSet[ipp.Client] = weakref.WeakSet()


def _open_address(client: ipp.Client) -> str | None:
    """Tell where a client's controller can be reached from the network, unprotected."""
    if client.curve_serverkey or client._ssh:
        return None
    transport, _, place = client._config["registration"].partition("://")
    host, _, port = place.rpartition(":")
    if transport != "tcp":
        return None
    if not host.startswith("127."):
        return f"{host}:{port}"
    # A client on the controller's own computer uses the loopback, wherever else it listens.
    for addresses in psutil.net_if_addrs().values():
        for own in addresses:
            if own.family == socket.AF_INET and not own.address.startswith("127."):
                with contextlib.suppress(OSError):
                    socket.create_connection((own.address, int(port)), _CONNECT_WITHIN_S).close()
                    return f"{own.address}:{port}"
    return None


def usable_cores() -> int:
    """Cores this process may use: fewer than the machine has in a container or under taskset."""
    return int(joblib.cpu_count())


def _checked_number(name: str, value: Any) -> int:
    if not is_integer(value) or not 1 <= value <= _MOST_ENGINES:
        raise ParameterError(
            f"{name} must be a positive integer, and at most {_MOST_ENGINES}; it is {value!r}."
        )
    return int(value)


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
