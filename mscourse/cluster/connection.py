"""Use a cluster from Python: its client for searches, and its nodes."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType

import ipyparallel as ipp
from traitlets.log import get_logger

from mscourse.cluster.config import read_config
from mscourse.cluster.manager import Manager
from mscourse.cluster.nodes import Node, Progress, master_of
from mscourse.cluster.rollcall import RollCall
from mscourse.cluster.services import NodeReport
from mscourse.cluster.transfer import Sent, send_splits
from mscourse.cluster.tunnel import Tunnel
from mscourse.errors import ClusterError, MSCourseError, NodeError, ParameterError
from mscourse.splits import Splits

# A controller that works answers at once, but a question may be lost in a connection that breaks.
_ANSWER_WITHIN_S = 20
_MOST_QUESTIONS = 3

_ENGINE_WITHIN_S = 60

# How often to look whether a node has been lost.
_LOOK_PERIOD_S = 15.0

# What does not come is asked for again, but not for ever: each time it may cost for minutes.
_MOST_FAILURES = 5
_LONGEST_PAUSE_S = 900.0

_LOG_LINES = 10

# What a node says of itself when it will do nothing more.
_LEAVING = ("draining", "drained", "stopped")


def connect(
    name: str,
    *,
    config: str | os.PathLike[str] | None = None,
    replace_lost: bool = False,
    progress: Progress | None = None,
) -> Cluster:
    """Connect to a cluster that was started with ``mscourse cluster start``.

    All goes through one ssh connection to the master, which is opened again when it breaks.

    Parameters
    ----------
    name : str
        The cluster's name.
    config : path-like or None
        The configuration; None looks for it as the command does.
    replace_lost : bool
        Whether nodes that are taken away or vanish are replaced while this is open. Those that
        somebody removes are not, unless by force from elsewhere, and none is while the master does
        not work. When no new one could be had for five times in a row, it is given up.
    progress : callable, optional
        Called with a line of what is going on; by default it is printed.

    Returns
    -------
    Cluster

    Raises
    ------
    ClusterConfigError
        If the configuration is wrong.
    ClusterError
        If there is no such cluster, or no controller answers.

    Examples
    --------
    >>> with mscourse.cluster.connect("mycluster") as cluster:  # doctest: +SKIP
    ...     cluster.send(splits)
    ...     search = mscourse.grid_search(SVC(), params, splits, engines=cluster.client)
    ...     cluster.add(3)
    ...     search.wait()
    """
    manager = Manager(read_config(config), _printed if progress is None else progress)
    return Cluster(manager, name, replaces_lost=replace_lost)


class Cluster:
    """A cluster one is connected to. Close it, or use it in a ``with`` block.

    To close it ends the connection and not the cluster, which goes on and costs what it costs.

    Attributes
    ----------
    name : str
        The cluster's name.
    client : ipyparallel.Client
        For ``engines=`` of all searches.
    """

    def __init__(self, manager: Manager, name: str, *, replaces_lost: bool = False) -> None:
        self.name = name
        self._manager = manager
        self._is_closing = threading.Event()
        nodes = manager.members(name)
        master = master_of(nodes)
        if master.state != "running":
            raise ClusterError(
                f"The cluster {name!r} is {master.state}. Start it: `mscourse cluster start {name}`"
            )

        def let_me_in() -> None:
            manager.let_me_in(nodes)

        let_me_in()
        connection = manager.services(name).client_connection(master)
        # A laptop that was closed may be somewhere else when it is opened, with another address.
        self._tunnel = Tunnel(manager.ssh, master, connection, before_retry=let_me_in)
        with contextlib.ExitStack() as undo:  # also if it is interrupted
            undo.callback(self._tunnel.close)
            try:
                self.client = _client(self._tunnel)
            except Exception as error:
                raise ClusterError(
                    f"The controller of {name!r} does not answer: {error}\n"
                    f"{_last_words(manager, master)}"
                ) from error
            undo.callback(self.client.close)
            self._roll_call = RollCall(self.client)
            undo.callback(self._roll_call.close)
            # So that a search can begin; the others are used as they come.
            with contextlib.suppress(TimeoutError):
                self.client.wait_for_engines(1, timeout=_ENGINE_WITHIN_S, interactive=False)
            undo.pop_all()
        # Besides the master.
        self._n_wanted = len([node for node in nodes if not node.is_master])
        self._removed: set[str] = set()
        self._replacer: threading.Thread | None = None
        if replaces_lost:
            self._begin_replacing()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        if self._is_closing.is_set():
            return f"<Cluster {self.name!r}: closed>"
        n_engines = len(self.client)
        lost = "" if self._tunnel.is_open else ", the connection is lost for the moment"
        return f"<Cluster {self.name!r}: {n_engines} engines{lost}>"

    def close(self) -> None:
        """End the connection; a second time does nothing.

        A node that is being added in place of one that was lost is waited for.
        """
        if not self._is_closing.is_set():
            self._is_closing.set()
            self._roll_call.close()
            with contextlib.suppress(Exception):  # the connection may be broken
                self.client.close()
            self._tunnel.close()
        self._end_replacing()

    def nodes(self) -> list[Node]:
        """List the nodes, the master first."""
        return self._manager.members(self.name)

    def report(self) -> list[NodeReport]:
        """Ask all nodes what they say of themselves."""
        return self._manager.report(self.name)

    def send(self, splits: Splits) -> dict[str, Sent]:
        """Copy splits to all nodes, once each, check them there, and leave them in memory.

        Nodes that are added later get them from the master before their engines start. What is
        there already is not sent again.

        Parameters
        ----------
        splits : Splits
            Use them in a search as they are: engines on a node open their own copy.

        Returns
        -------
        dict of str to Sent
            By node.

        Raises
        ------
        NodeError
            If they do not arrive on a node; those that they arrived on keep them.
        ClusterError
            If no node is running.
        """
        there = self.nodes()
        nodes = [node for node in there if node.state == "running"]
        if not nodes:
            raise ClusterError(f"No node of {self.name!r} is running.")
        folder = self._manager.settings_of(there).data_folder
        with self._manager.in_use(there):
            results = self._manager.ssh.each(
                nodes, lambda node: send_splits(self._manager.ssh, node, splits, folder)
            )
        errors = [each for each in results.values() if isinstance(each, NodeError)]
        if errors:
            raise NodeError("\n".join(map(str, errors)))
        return {node.name: each for node, each in results.items() if isinstance(each, Sent)}

    def add(self, n_nodes: int, *, spot_bid: float | None = None) -> list[Node]:
        """Add nodes; a search that runs uses their engines at once.

        Parameters
        ----------
        n_nodes : int
            How many.
        spot_bid : float or None
            The most that each may cost, in USD per hour; None: as the cluster was started.

        Returns
        -------
        list of Node
            Those that came.
        """
        nodes = self._manager.add(self.name, n_nodes, spot_bid)
        self._n_wanted += len(nodes)
        self._removed -= {node.name for node in nodes}  # names are used again
        return nodes

    def remove(self, names: Iterable[str], *, force: bool = False) -> None:
        """Take nodes out when what they are at is done, or at once if `force`."""
        names = set(names)
        self._n_wanted -= len(names)  # first, or they would be replaced when they drain
        self._removed |= names
        try:
            self._manager.remove(self.name, names, force=force)
        except ParameterError:  # all of them are still there
            self._n_wanted += len(names)
            self._removed -= names
            raise

    def _begin_replacing(self) -> None:
        self._replacer = threading.Thread(
            target=self._replace_lost, name="mscourse-replace-lost", daemon=True
        )
        self._replacer.start()
        # It is a daemon, so that a script that does not close this comes to its end. But it must
        # not be cut off there with a machine half started, which nobody would end.
        atexit.register(self._end_replacing)

    def _end_replacing(self) -> None:
        """Have no more nodes replaced; wait for one that is under way, or is being taken back."""
        self._is_closing.set()
        if self._replacer is not None:
            self._replacer.join()
        atexit.unregister(self._end_replacing)

    def _replace_lost(self) -> None:
        """Ask for a new node for each that is gone, or is told that it will be."""
        n_failures = 0
        while not self._is_closing.wait(min(_LOOK_PERIOD_S * 2**n_failures, _LONGEST_PAUSE_S)):
            try:
                reports = self._manager.report(self.name)
            except MSCourseError:  # this machine may have no network for the moment
                continue
            self._note_removed(reports)
            n_lost = _n_lost(reports, self._n_wanted)
            if n_lost <= 0:
                n_failures = 0
                continue
            try:
                new = self._manager.add(self.name, n_lost)
                why = "what came was taken back" if len(new) < n_lost else ""
                self._removed -= {node.name for node in new}
            except MSCourseError as error:
                why = str(error)
            if not why:
                n_failures = 0
                continue
            n_failures += 1
            # It is tried again; the cluster may be on its way out.
            warnings.warn(f"A node could not be replaced: {why}", stacklevel=1)
            if n_failures == _MOST_FAILURES:
                warnings.warn(
                    f"No node of {self.name} is replaced any more: it failed {n_failures} times in "
                    "a row. `add` them when you know why.",
                    stacklevel=1,
                )
                return

    def _note_removed(self, reports: Sequence[NodeReport]) -> None:
        """Find nodes that are being removed by somebody else: they drain, and no notice came."""
        for each in reports:
            status, name = each.status, each.node.name
            if status is None or status.notice is not None or name in self._removed:
                continue
            if status.state in ("draining", "drained"):
                self._removed.add(name)
                self._n_wanted -= 1


def _client(tunnel: Tunnel) -> ipp.Client:
    """Connect a client to a controller."""
    for _ in range(_MOST_QUESTIONS):
        with contextlib.suppress(TimeoutError), _without_key_warning():
            return ipp.Client(connection_info=tunnel.connection, timeout=_ANSWER_WITHIN_S)
    raise TimeoutError(f"nothing came within {_MOST_QUESTIONS} x {_ANSWER_WITHIN_S} s")


def _last_words(manager: Manager, master: Node) -> str:
    """Fetch the ends of the logs of a master, or say why there are none."""
    try:
        return manager.services(master.cluster).logs(master, _LOG_LINES)
    except NodeError as error:
        return str(error)


def _n_lost(reports: Sequence[NodeReport], n_wanted: int) -> int:
    """Count what is to be replaced, of so many that should be there beside the master."""
    of_master = next((each.status for each in reports if each.node.is_master), None)
    if of_master is None or of_master.state != "working":
        return 0  # it may be on its way out, with all others: what comes now would cost for nothing
    staying = [
        each
        for each in reports
        if not each.node.is_master
        and each.node.state in ("pending", "running")
        # One that begins, or starts its engines again, is silent or "starting".
        and not (each.status and (each.status.notice or each.status.state in _LEAVING))
    ]
    return n_wanted - len(staying)


@contextlib.contextmanager
def _without_key_warning() -> Iterator[None]:
    """Keep ipyparallel from warning that messages are not signed: CURVE encrypts them instead."""

    def is_another(record: logging.LogRecord) -> bool:
        return "signing is disabled" not in record.getMessage()

    logger = get_logger()
    logger = logger.logger if isinstance(logger, logging.LoggerAdapter) else logger
    logger.addFilter(is_another)
    try:
        yield
    finally:
        logger.removeFilter(is_another)


def _printed(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 (what `progress` is by default)
