"""What a start asks a provider for, and what that would do."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from mscourse.cluster.inventory import Inventory
from mscourse.cluster.nodes import MASTER, Node, Request, Step, master_of, node_names
from mscourse.cluster.settings import ClusterSettings
from mscourse.errors import ClusterError, ParameterError

# It becomes a folder, a tag, and part of the name of a security group.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,39}")


class Requests(Inventory):
    """Makes requests, from what somebody has said, and from what there is."""

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

    def request_for(
        self,
        cluster: str,
        template: str | None = None,
        *,
        size: int | None = None,
        spot_bid: float | None = None,
        force_spot_master: bool = False,
    ) -> Request:
        """Say what a start asks for if nothing else is said; a stopped cluster stays what it is.

        Parameters
        ----------
        cluster : str
        template : str or None
            None: the one that the cluster was started with, or else the default.
        size : int or None
            None: as many nodes as there are, or else as the template says.
        spot_bid : float or None
        force_spot_master : bool

        Raises
        ------
        ClusterError
            If the cluster was started with another template.
        """
        there = self.alive(cluster)
        is_stopped = not any(node.state in ("pending", "running") for node in there)
        # That one runs already is the better answer, and the start gives it.
        if there and is_stopped and template not in (None, there[0].template):
            raise ClusterError(
                f"{cluster!r} was started with [cluster {there[0].template}], and has what that "
                f"says, not [cluster {template}]. Leave -c out, or choose another name."
            )
        request = self.request(
            cluster,
            self.settings_of(there) if there else self.config.template(template),
            size=len(there) or None if size is None else size,
            spot_bid=spot_bid,
            force_spot_master=force_spot_master,
        )
        # The lowest numbers may be gone: those that are there come first.
        names = list(dict.fromkeys([MASTER, *(node.name for node in there)]))
        n_new = max(0, len(request.names) - len(names))
        return replace(request, names=[*names, *node_names(n_new, names[1:])][: len(request.names)])

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

    def plan(self, request: Request) -> list[Step]:
        """Tell what a request would do, and cost; nothing is changed."""
        there = [
            node
            for node in self.alive(request.cluster)
            if node.name in request.names and node.state in ("stopping", "stopped")
        ]
        names = [name for name in request.names if name not in {node.name for node in there}]
        steps = [Step(f"Start {node} again", node.usd_per_hour or 0.0) for node in there]
        if names:
            steps += self.provider(request.settings).plan(replace(request, names=names))
        return steps
