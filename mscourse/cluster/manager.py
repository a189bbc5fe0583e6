"""Start, grow, shrink and end clusters: the same for all providers of machines.

::

    Manager ──► inventory   which nodes there are, and who has them
            ──► provider    machines: rented (ec2), or there already (hosts)
            ──► bootstrap   what a machine needs to be a node
            ──► services    controller and engines, through the agent of each node

A node that fails does not fail the cluster. A start that fails or is interrupted takes back what
it has started, or says what is left.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from mscourse.cluster.bootstrap import Bootstrap, Ready
from mscourse.cluster.inventory import Inventory
from mscourse.cluster.nodefiles import Status
from mscourse.cluster.nodes import (
    MASTER,
    Node,
    Progress,
    Provider,
    Request,
    Step,
    master_of,
    node_names,
)
from mscourse.cluster.remarks import did_you_mean
from mscourse.cluster.settings import ClusterSettings, Config
from mscourse.cluster.transfer import relay_splits
from mscourse.cluster.undo import insist, unfailing
from mscourse.cluster.volumes import mount_volume
from mscourse.errors import ClusterError, NodeError, ParameterError

# It becomes a folder, a tag, and part of the name of a security group.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,39}")

_DRAINED_WITHIN_S = 600.0

# One that does not answer may be at work all the same, unless it stays silent.
_SILENT_FOR_S = 60.0
_LOOK_PERIOD_S = 1.0


class Manager(Inventory):
    """Starts, changes and ends clusters of one configuration.

    Parameters
    ----------
    config : Config
    progress : callable
        Called with a line of what is going on.
    """

    def __init__(self, config: Config, progress: Progress) -> None:
        super().__init__(config)
        self._progress = progress
        self._adding = threading.Lock()

    # -- starting --------------------------------------------------------------------------------

    def request(
        self,
        cluster: str,
        settings: ClusterSettings,
        *,
        size: int | None = None,
        spot_bid: float | None = None,
        force_spot_master: bool = False,
    ) -> Request:
        """Say what a start asks a provider for; None is what the template says."""
        if not _NAME.fullmatch(cluster):
            raise ParameterError(
                f"{cluster!r} cannot be the name of a cluster: it must be of at most 40 letters, "
                "digits and -, and begin with a letter."
            )
        size = settings.cluster_size if size is None else size
        if size < 1:
            raise ParameterError(f"A cluster has at least one node, the master; not {size}.")
        return Request(
            cluster,
            settings,
            [MASTER, *node_names(size - 1)],
            settings.spot_bid if spot_bid is None else spot_bid,
            force_spot_master or settings.force_spot_master,
        )

    def plan(self, request: Request) -> list[Step]:
        """Tell what a request would do, and cost; nothing is changed."""
        return self.provider(request.settings).plan(request)

    def start(self, request: Request) -> list[Node]:
        """Start a cluster, or one that was stopped again; give its nodes that work.

        Raises
        ------
        ClusterError
            If there is such a cluster already, or none could be started. Nothing is left of it,
            or the error says what.
        """
        cluster = request.cluster
        provider = self.provider(request.settings)
        there = [node for node in self.nodes(cluster) if node.state != "terminated"]
        running = [node for node in there if node.state in ("pending", "running")]
        if running:
            _check_that_master_runs(there)
            # Whoever is shut out, since the laptop is elsewhere now, comes in again with this.
            self.let_me_in(running)
            raise ClusterError(
                f"There is a cluster {cluster!r} already, of {len(running)} nodes. Let it grow "
                f"with `mscourse cluster addnode {cluster}`, or choose another name."
            )
        names = [name for name in request.names if name not in {node.name for node in there}]
        begun: list[Node] = []
        new: list[Node] = []
        try:
            begun += provider.start(there, self._progress) if there else []
            if names:
                rest = replace(request, names=names)
                new += provider.launch(rest, self._progress)
                begun += new
            return self._set_up(begun, request.settings, None)
        except BaseException as error:
            left = self._take_back(new, request.settings, is_all=not there)
            if there:  # one that was stopped is not ended for good
                old = {node.id: node for node in [*there, *begun] if node not in new}
                left += self._stop_again(list(old.values()))
            _raise_with(left, error)
            raise

    def add(self, cluster: str, n_nodes: int, spot_bid: float | None = None) -> list[Node]:
        """Add nodes to a cluster, also while it works; give those that came."""
        with self._adding:  # else two would choose the same names
            there = self.members(cluster)
            request = self.growth(there, n_nodes, spot_bid)
            master = master_of(there)
            _check_that_master_runs(there)  # before anything costs
            if master.state != "running":
                raise ClusterError(
                    f"{cluster!r} cannot grow: its master is {master.state}. Start it: `mscourse "
                    f"cluster start {cluster}`."
                )
            provider = self.provider(request.settings)
            begun: list[Node] = []
            try:
                begun += provider.launch(request, self._progress)
                return self._set_up(begun, request.settings, master)
            except BaseException as error:
                _raise_with(self._take_back(begun, request.settings, is_all=False), error)
                raise

    def growth(self, there: Sequence[Node], n_nodes: int, spot_bid: float | None = None) -> Request:
        """Say what `add` asks a provider for, of a cluster that has these nodes."""
        if n_nodes < 1:
            raise ParameterError(f"At least one node can be added, not {n_nodes}.")
        master = master_of(there)
        settings = self.settings_of(there)
        names = node_names(n_nodes, [node.name for node in there])
        # As the others were, unless something else is said.
        bid = master.spot_bid if spot_bid is None else spot_bid
        return Request(master.cluster, settings, names, bid)

    def _set_up(
        self, nodes: list[Node], settings: ClusterSettings, master: Node | None
    ) -> list[Node]:
        """Make machines nodes that work; give those that do, and take the others back."""
        cluster = nodes[0].cluster
        services = self.services(cluster)
        bootstrap = Bootstrap(self.ssh, settings)
        deadline_s = time.monotonic() + settings.start_timeout_s
        self._progress(f"Setting up {_counted(nodes)} ...")

        def prepare(node: Node) -> Ready:
            node_is = bootstrap.prepare(node, deadline_s)
            self._progress(f"{node.name} is ready.")
            return node_is

        prepared = self.ssh.each(nodes, prepare)
        ready = {node: each for node, each in prepared.items() if isinstance(each, Ready)}
        failed = {node: each for node, each in prepared.items() if isinstance(each, NodeError)}
        new_master = next((node for node in nodes if node.is_master), None)
        if new_master is not None:
            if new_master in failed:
                raise failed[new_master]
            for volume in self.provider(settings).attached_volumes(new_master):
                mount_volume(self.ssh, new_master, volume, settings.cluster_user)
            services.write_orders(new_master, ready[new_master], settings)
            services.start(new_master, ready[new_master], settings)
            self._progress("The controller runs on the master.")
        master = new_master or master
        assert master is not None
        connection = services.engine_connection(master)
        names = set(services.sent(master, settings.data_folder)) if new_master is None else set()

        def join(node: Node) -> None:
            services.introduce(node, connection)
            services.write_orders(node, ready[node], settings)
            if names:
                missing = names - set(services.sent(node, settings.data_folder))
                relay_splits(self.ssh, master, node, sorted(missing), settings.data_folder)
            services.start(node, ready[node], settings)

        others = [node for node in ready if not node.is_master]
        joined = self.ssh.each(others, join)
        failed |= {node: each for node, each in joined.items() if isinstance(each, NodeError)}
        for node, error in failed.items():
            self._progress(f"{node.name} did not come: {error}")
        for line in self._take_back(list(failed), settings, is_all=False):
            self._progress(line)
        working = [node for node in nodes if node not in failed]
        everybody = {node.id: node for node in [*self.nodes(cluster), *working]}
        services.write_bill(master, everybody.values())
        if settings.provider == "ec2":
            running = [node for node in everybody.values() if node.state == "running"]
            told = self.ssh.each(running, lambda node: services.write_names(node, running))
            self._say_errors(told)
        self._progress(f"{_counted(working)} of {cluster} work.")
        return working

    def _take_back(
        self, nodes: Sequence[Node], settings: ClusterSettings, *, is_all: bool
    ) -> list[str]:
        """Undo the start of nodes, as far as it got; say what is left, in lines."""
        if not nodes:
            return []
        provider, tell = self.provider(settings), unfailing(self._progress)

        def undo() -> None:
            tell(f"Taking {_counted(nodes)} back ...")
            if settings.provider == "ssh":
                self._clear(nodes, tell)
            provider.terminate(nodes, tell)
            if is_all:
                provider.clean_up(nodes[0].cluster, tell)

        return _what_is_left(insist(undo), nodes)

    def _stop_again(self, nodes: Sequence[Node]) -> list[str]:
        """Undo the start of nodes that were stopped; say which may run on, in lines."""
        tell = unfailing(self._progress)
        tell(f"Stopping {_counted(nodes)} again ...")
        return _what_is_left(insist(lambda: self._stop(nodes, tell)), nodes)

    def _clear(self, nodes: Sequence[Node], tell: Progress) -> None:
        """End what runs on hosts, and remove its files; those that do not answer are named."""
        services = self.services(nodes[0].cluster)

        def clear(node: Node) -> None:
            services.stop(node)
            services.remove(node)

        for node, error in self.ssh.each(nodes, clear).items():
            if error is not None:
                tell(f"What {node.name} has could not be removed: {error}")

    # -- ending ----------------------------------------------------------------------------------

    def remove(
        self,
        cluster: str,
        names: Iterable[str],
        *,
        force: bool = False,
        within_s: float = _DRAINED_WITHIN_S,
    ) -> None:
        """Take nodes out of a cluster, when what they are at is done.

        Parameters
        ----------
        cluster : str
        names : iterable of str
            Such as ``"node002"``; not the master.
        force : bool
            Whether what runs there is given up: other nodes do it again.
        within_s : float
            After so many seconds it is given up anyway.
        """
        members = self.members(cluster)
        there = {node.name for node in members}
        names = set(names)
        for name in names:
            if name == MASTER:
                raise ParameterError(
                    "Without the master there is no cluster. End all of it with "
                    f"`mscourse cluster terminate {cluster}`."
                )
            if name not in there:
                raise ParameterError(
                    f"There is no {name!r} in {cluster!r}.{did_you_mean(name, there)} "
                    f"There are: {', '.join(sorted(there))}."
                )
        nodes = [node for node in members if node.name in names]
        services = self.services(cluster)
        try:
            if not force:
                self._say_errors(self.ssh.each(nodes, services.drain))
                self._wait_until_drained(cluster, nodes, within_s)
            self._say_errors(self.ssh.each(nodes, services.stop))
            self._end(nodes)
        except BaseException as error:
            named = ", ".join(sorted(names))
            again = f"`mscourse cluster removenode --force {cluster} {' '.join(sorted(names))}`"
            left = f"{named} may be there still, and take no more work: {again} ends what is left."
            _raise_with([left], error)
            raise
        # Others may have come while these finished what they were at.
        rest = [node for node in self.members(cluster) if node.name not in names]
        services.write_bill(master_of(rest), rest)
        self._progress(f"{', '.join(node.name for node in nodes)} left {cluster}.")

    def _wait_until_drained(self, cluster: str, nodes: Sequence[Node], within_s: float) -> None:
        services = self.services(cluster)
        now_s = time.monotonic()
        deadline_s = now_s + within_s
        answered_s = dict.fromkeys(nodes, now_s)
        said = ""
        while now_s < deadline_s:
            busy = []
            for node, status in self.ssh.each(nodes, services.status).items():
                if not isinstance(status, NodeError):
                    answered_s[node] = now_s
                elif now_s - answered_s[node] < _SILENT_FOR_S:
                    busy.append(f"{node.name} (no answer)")
                if isinstance(status, Status) and status.state not in ("drained", "stopped"):
                    busy.append(f"{node.name} ({status.n_busy} at work)")
            if not busy:
                return
            line = f"Waiting for {', '.join(busy)}"
            if line != said:
                self._progress(line)
                said = line
            time.sleep(_LOOK_PERIOD_S)
            now_s = time.monotonic()
        self._progress(f"Not all was done within {within_s:.0f} s; other nodes do it again.")

    def stop(self, cluster: str) -> None:
        """Stop a cluster so that it can be started again."""
        try:
            self._stop(self.members(cluster), self._progress)
        except BaseException as error:
            _raise_with(_unattended(cluster), error)
            raise
        self._progress(f"{cluster} is stopped.")

    def _stop(self, nodes: Sequence[Node], tell: Progress) -> None:
        running = [node for node in nodes if node.state == "running"]
        try:
            for each in self.ssh.each(running, self.services(nodes[0].cluster).stop).values():
                if each is not None:
                    tell(str(each))
        finally:  # whatever went wrong: nobody looks after what they cost any more
            for provider, its_nodes in self.by_owner(nodes):
                provider.stop(its_nodes, tell)

    def terminate(self, cluster: str) -> None:
        """End a cluster for good, with what is on its nodes."""
        nodes = self.members(cluster)
        for provider in self._end(nodes):
            provider.clean_up(cluster, self._progress)
        for line in self.silent() if nodes[0].instance_type is None else ():
            self._progress(f"A host that does not answer keeps what it may have of it. {line}")
        self._progress(f"{cluster} is gone.")

    def _end(self, nodes: Sequence[Node]) -> list[Provider]:
        """End nodes for good; give who had them."""
        hosts = [node for node in nodes if node.instance_type is None]
        if hosts:
            self._clear(hosts, self._progress)
        owners = self.by_owner(nodes)
        for provider, its_nodes in owners:
            provider.terminate(its_nodes, self._progress)
        return [provider for provider, _ in owners]

    def restart(self, cluster: str) -> list[Node]:
        """End all that runs on the nodes, and start it again."""
        there = self.members(cluster)
        # Of hosts that are there anyway, also those whose agent has ended.
        nodes = [
            replace(node, state="running")
            for node in there
            if node.state == "running" or node.instance_type is None
        ]
        if not nodes:
            raise ClusterError(f"{cluster!r} is stopped. Start it: `mscourse cluster start`.")
        master_of(nodes)  # without it, nothing could be started
        try:
            self._say_errors(self.ssh.each(nodes, self.services(cluster).stop))
            return self._set_up(nodes, self.settings_of(nodes), None)
        except BaseException as error:
            _raise_with(_unattended(cluster), error)
            raise

    def _say_errors(self, results: dict[Node, Any]) -> None:
        for each in results.values():
            if isinstance(each, NodeError):
                self._progress(str(each))


def _what_is_left(problem: str, nodes: Sequence[Node]) -> list[str]:
    if not problem:
        return []
    return [
        f"Not all that was started could be taken back. {problem}",
        f"There may be left: {', '.join(map(str, nodes))}.",
        f"See `mscourse cluster list`; `mscourse cluster terminate {nodes[0].cluster}` ends it.",
    ]


def _check_that_master_runs(nodes: Sequence[Node]) -> None:
    """Raise if nodes run whose master has stopped: they can neither grow nor start."""
    running = [node.name for node in nodes if node.state in ("pending", "running")]
    master = master_of(nodes)
    if running and master.state not in ("pending", "running"):
        name = master.cluster
        raise ClusterError(
            f"{', '.join(running)} of {name!r} run, but the master is {master.state}. Stop the "
            f"rest, then start it: `mscourse cluster stop {name}`, `mscourse cluster start {name}`."
        )


def _unattended(cluster: str) -> list[str]:
    return [
        f"The machines of {cluster} may run on, and nothing on them looks after what they cost.",
        f"`mscourse cluster stop {cluster}` switches them off; `restart` has them work again.",
    ]


def _raise_with(left: Sequence[str], error: BaseException) -> None:
    """Raise an error that also says what is left, if anything is."""
    if left:
        raise ClusterError("\n".join([str(error) or "It was interrupted.", *left])) from error


def _counted(nodes: Sequence[Node]) -> str:
    return f"{len(nodes)} node{'s' if len(nodes) != 1 else ''}"
