"""Start, grow, shrink and end clusters: the same for all providers of machines.

::

    Manager ──► inventory   which nodes there are, and who has them
            ──► wanted      what a start asks a provider for
            ──► provider    machines: rented (ec2), or there already (hosts)
            ──► setup       machines become nodes: bootstrap, then services
            ──► services    controller and engines, through the agent of each node

A node that fails does not fail the cluster. A start that fails or is interrupted takes back what
it has started, or says what is left.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from mscourse.cluster.inventory import told
from mscourse.cluster.nodefiles import Status
from mscourse.cluster.nodes import (
    MASTER,
    Node,
    Progress,
    Provider,
    Request,
    counted,
    master_of,
)
from mscourse.cluster.remarks import did_you_mean
from mscourse.cluster.settings import ClusterSettings, Config
from mscourse.cluster.setup import set_up
from mscourse.cluster.undo import insist, raise_with, unattended, unfailing, what_is_left
from mscourse.cluster.wanted import Requests
from mscourse.errors import CloudError, ClusterError, NodeError, ParameterError

_DRAINED_WITHIN_S = 600.0

# One that does not answer may be at work all the same, unless it stays silent.
_SILENT_FOR_S = 60.0
_LOOK_PERIOD_S = 1.0


class Manager(Requests):
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

    def start(self, request: Request) -> list[Node]:
        """Start a cluster, or one that was stopped again; give its nodes that work.

        Nodes that were stopped and are not asked for stay so, as do those that do not work.

        Raises
        ------
        ClusterError
            If there is such a cluster already, or none could be started. Nothing is left of it,
            or the error says what.
        """
        cluster, settings = request.cluster, request.settings
        listed, refusals = self.look(cluster)
        if refusal := self.refusal_of(settings, refusals):
            raise refusal  # who knows what is there already
        self._say(told(refusals))
        there = [node for node in listed if node.state != "terminated"]
        self._check_that_it_can_start(there)
        names = [name for name in request.names if name not in {node.name for node in there}]
        old = [node for node in there if node.name in request.names]
        if resting := [node.name for node in there if node not in old]:
            self._progress(f"Not asked for, so that it stays stopped: {', '.join(resting)}.")
        begun: list[Node] = []
        new: list[Node] = []
        try:
            for provider, its_nodes in self.by_owner(old):
                begun += provider.start(its_nodes, self._progress)
            if names:
                rest = replace(request, names=names)
                new += self.provider(settings).launch(rest, self._progress)
                begun += new
            working = self._set_up(begun, settings, None)
            failed = [node for node in begun if node not in working]
            left = self._take_back([n for n in failed if n in new], settings, is_all=False)
            left += self._stop_again([node for node in failed if node not in new])
            self._say(left)
            self._tell_nodes(working, master_of(working))
            return working
        except BaseException as error:
            left = self._take_back(new, settings, is_all=not there)
            # One that was stopped is not ended for good.
            by_id = {node.id: node for node in [*old, *begun] if node not in new}
            left += self._stop_again(list(by_id.values()))
            raise_with(left, error)
            raise

    def _check_that_it_can_start(self, there: Sequence[Node]) -> None:
        """Raise if nodes of a cluster run; whoever is shut out comes in again with this."""
        running = [node for node in there if node.state in ("pending", "running")]
        if not running:
            return
        _check_that_master_runs(there)
        cluster = there[0].cluster
        addresses = self.let_me_in(running)  # the laptop may be elsewhere now
        let_in = f"Your address ({', '.join(addresses)}) is let in. " if addresses else ""
        raise ClusterError(
            f"There is a cluster {cluster!r} already, of {len(running)} nodes. {let_in}Let it grow "
            f"with `mscourse cluster addnode {cluster}`, or choose another name."
        )

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
                with self.in_use(there):  # else it may stop while its data are copied
                    begun += provider.launch(request, self._progress)
                    working = self._set_up(begun, request.settings, master)
                    failed = [node for node in begun if node not in working]
                    self._say(self._take_back(failed, request.settings, is_all=False))
                    self._tell_nodes(working, master)
                    return working
            except BaseException as error:
                raise_with(self._take_back(begun, request.settings, is_all=False), error)
                raise

    def _set_up(
        self, nodes: Sequence[Node], settings: ClusterSettings, master: Node | None
    ) -> list[Node]:
        """Make machines nodes; give those that work. What becomes of the others is not said."""
        return set_up(self, nodes, settings, master, self._progress)

    def _tell_nodes(self, working: Sequence[Node], master: Node) -> None:
        """Have a cluster know of nodes that work: their cost, and their names.

        What goes wrong is only told. They work already, and must not end for this.
        """
        members = self._write_bill(master)
        if master.instance_type is not None:
            running = [node for node in members if node.state == "running"]
            services = self.services(master.cluster)
            results = self.ssh.each(running, lambda node: services.write_names(node, running))
            self._say_errors(results)
        verb = "works" if len(working) == 1 else "work"
        self._progress(f"{counted(working)} of {master.cluster} {verb}.")

    def _write_bill(self, master: Node) -> list[Node]:
        """Put all nodes of a cluster on its bill; give them, or none if they cannot be listed."""
        members: list[Node] = []
        for is_last in (False, True):
            try:
                members = self.members(master.cluster)
                self.services(master.cluster).write_bill(master, members)
                break
            # A bill that is damaged is any of the last three.
            except (ClusterError, LookupError, TypeError, ValueError) as error:
                if is_last:
                    self._progress(
                        "The bill could not be written, so that BUDGET_USD does not know who came "
                        f"or left. {error}"
                    )
                else:
                    time.sleep(_LOOK_PERIOD_S)
        return members

    def _take_back(
        self, nodes: Sequence[Node], settings: ClusterSettings, *, is_all: bool
    ) -> list[str]:
        """Undo the start of nodes, as far as it got; say what is left, in lines."""
        if not nodes:
            return []
        provider, tell = self.provider(settings), unfailing(self._progress)

        def undo() -> None:
            tell(f"Taking {counted(nodes)} back ...")
            if settings.provider == "ssh":
                self._clear(nodes, tell)
            provider.terminate(nodes, tell)
            if is_all:
                provider.clean_up(nodes[0].cluster, tell)

        return what_is_left(insist(undo), nodes)

    def _stop_again(self, nodes: Sequence[Node]) -> list[str]:
        """Undo the start of nodes that were stopped; say which may run on, in lines."""
        if not nodes:
            return []
        tell = unfailing(self._progress)

        def undo() -> None:
            tell(f"Stopping {counted(nodes)} again ...")
            # Those whose start was interrupted were listed before it.
            now: dict[str, Node] = {}
            with suppress(CloudError):  # to stop them is tried all the same
                now = {node.id: node for node in self.nodes(nodes[0].cluster)}
            self._stop([now.get(node.id, node) for node in nodes], tell)

        return what_is_left(insist(undo), nodes)

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
            raise_with([left], error)
            raise
        # Others may have come while these finished what they were at.
        self._write_bill(master_of(members))
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
            raise_with(unattended(cluster), error)
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
        """End a cluster for good, with what is on its nodes.

        Also what is left of one that has no nodes any more, such as when this has failed halfway.
        """
        nodes = self.alive(cluster)
        owners = self._end(nodes) if nodes else self.with_leftovers(cluster)
        if not owners:
            self.members(cluster)  # which tells what there is instead
        for provider in owners:
            provider.clean_up(cluster, self._progress)
        for line in self.silent() if nodes and nodes[0].instance_type is None else ():
            self._progress(f"What does not answer keeps what it may have of it. {line}")
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

    def restart(self, cluster: str) -> tuple[list[Node], list[Node]]:
        """End all that runs on the nodes, and start it again; give those that work, and do not."""
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
            working = self._set_up(nodes, self.settings_of(nodes), None)
            failed = [node for node in nodes if node not in working]
            for name in (node.name for node in failed):
                self._progress(
                    f"{name} stays as it is, and does nothing. `restart` tries again; `mscourse "
                    f"cluster removenode --force {cluster} {name}` ends it."
                )
            self._tell_nodes(working, master_of(working))
            return working, failed
        except BaseException as error:
            raise_with(unattended(cluster), error)
            raise

    def _say(self, lines: Iterable[str]) -> None:
        for line in lines:
            self._progress(line)

    def _say_errors(self, results: dict[Node, Any]) -> None:
        for each in results.values():
            if isinstance(each, NodeError):
                self._progress(str(each))


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
