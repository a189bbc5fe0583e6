"""What a cluster is made of, and what a provider of machines can do.

A provider says which machines there are, starts and ends them. What runs on them, and how one gets
there, is the same for all providers, and is elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal, Protocol

from mscourse.cluster.settings import ClusterSettings, Host, Key
from mscourse.errors import ClusterError

if TYPE_CHECKING:
    from mscourse.cluster.ec2volumes import AttachedVolume

#: The node that has the controller.
MASTER = "master"

NodeState = Literal["pending", "running", "stopping", "stopped", "terminated"]

#: Called with one line of what is going on.
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Node:
    """A machine of a cluster.

    Attributes
    ----------
    cluster, name : str
        ``"master"``, ``"node001"``, ``"node002"``, ...
    id : str
        The provider's name for it: the instance's id, or the host.
    host : Host or None
        Where ssh reaches it from here; None if it has no address (yet).
    state : str
    template : str
        The name of the template that the cluster was started with.
    private_address : str or None
        Where the other nodes reach it; None: by the name in `host`.
    key : Key or None
        What ssh logs in with.
    instance_type, zone : str or None
        None if it is not rented.
    is_spot : bool
        Whether it may be taken away at any time.
    usd_per_hour : float or None
        What it cost per hour when it was started, its own disk and its address included.
    spot_bid : float or None
        What spot nodes that came with it may cost in USD per hour; None: they were on demand.
    launched_at : datetime or None
        With time zone.
    """

    cluster: str
    name: str
    id: str
    host: Host | None
    state: NodeState
    template: str
    private_address: str | None = None
    key: Key | None = None
    instance_type: str | None = None
    zone: str | None = None
    is_spot: bool = False
    usd_per_hour: float | None = None
    spot_bid: float | None = None
    launched_at: datetime | None = None

    @property
    def is_master(self) -> bool:
        return self.name == MASTER

    def __str__(self) -> str:
        where = ", ".join(dict.fromkeys([self.id, str(self.host or self.id)]))
        return f"{self.name} ({where})"


@dataclass(frozen=True)
class Request:
    """Machines that are wanted.

    Attributes
    ----------
    cluster : str
    settings : ClusterSettings
        Of the template, with what the command line has changed.
    names : sequence of str
        Of the nodes that are wanted, the master first if it is one of them.
    spot_bid : float or None
        The most that a node may cost in USD per hour; None: on demand.
    force_spot_master : bool
        Whether the master may be a spot instance, too.
    """

    cluster: str
    settings: ClusterSettings
    names: Sequence[str]
    spot_bid: float | None = None
    force_spot_master: bool = False

    def is_spot(self, name: str) -> bool:
        """Whether this node is to be a spot instance."""
        return self.spot_bid is not None and (name != MASTER or self.force_spot_master)


@dataclass(frozen=True)
class Step:
    """A call that would be made, and what it costs.

    Attributes
    ----------
    does : str
        The call, with what it would be called with.
    usd_per_hour : float
        From then on.
    """

    does: str
    usd_per_hour: float = 0.0


class Provider(Protocol):
    """Where machines come from."""

    def regions(self) -> Sequence[str]:
        """List the regions in which there may be machines; none if there is but one place."""

    def nodes(self, cluster: str | None = None) -> list[Node]:
        """List the nodes of a cluster, or of all; the master first, the others by name.

        Those that are terminated are left out.
        """

    def plan(self, request: Request) -> list[Step]:
        """Tell what `launch` would do; nothing is started or changed."""

    def launch(self, request: Request, progress: Progress) -> list[Node]:
        """Start machines, and wait until they run and have an address.

        The nodes that came; fewer than asked for if some did not, of which `progress` tells. If
        it fails, or is interrupted, nothing that it started is left running, or the error tells
        what is left and how to remove it.
        """

    def start(self, nodes: Iterable[Node], progress: Progress) -> list[Node]:
        """Start stopped machines again; give them as they are now."""

    def stop(self, nodes: Iterable[Node], progress: Progress) -> None:
        """Stop machines. Their disks stay; those that cannot be stopped are terminated."""

    def terminate(self, nodes: Iterable[Node], progress: Progress) -> None:
        """End machines for good, and wait until they have ended."""

    def allow_me(self, cluster: str) -> str | None:
        """Let the present address of this machine in, and no earlier one of it.

        The address; None if there is no firewall of ours that would keep it out.
        """

    def attach_volumes(self, master: Node, progress: Progress) -> Sequence[AttachedVolume]:
        """Give a master the volumes of its template that it lacks; list all that it has then."""

    def leftovers(self, cluster: str) -> Sequence[str]:
        """List what a cluster has besides machines, also when the last one is gone."""

    def clean_up(self, cluster: str, progress: Progress) -> None:
        """Remove what the cluster had besides machines, when the last one is gone."""


def node_names(n_nodes: int, taken: Iterable[str] = ()) -> list[str]:
    """Choose names for so many more nodes: the lowest numbers that are free; no master."""
    numbers = {int(name[4:]) for name in taken if name.startswith("node")}
    free = (number for number in range(1, len(numbers) + n_nodes + 1) if number not in numbers)
    return [f"node{next(free):03}" for _ in range(n_nodes)]


def counted(nodes: Sequence[object]) -> str:
    """Say how many there are: "1 node", "2 nodes"."""
    return f"{len(nodes)} node{'s' if len(nodes) != 1 else ''}"


def by_name(node: Node) -> tuple[bool, str]:
    """Sort key: the master first."""
    return not node.is_master, node.name


def master_of(nodes: Sequence[Node]) -> Node:
    """Give the master of a cluster.

    Raises
    ------
    ClusterError
        If it is gone.
    """
    for node in nodes:
        if node.is_master:
            return node
    cluster = nodes[0].cluster
    raise ClusterError(
        f"The cluster {cluster!r} has lost its master. What is left of it costs money: "
        f"`mscourse cluster terminate {cluster}`."
    )
