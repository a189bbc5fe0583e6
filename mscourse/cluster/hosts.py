"""Machines that are there already: a classroom, a lab, a rented server.

Nothing is started or ended but what runs on them. Which of them are nodes, of which cluster, they
tell themselves: each keeps that in its home folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mscourse.cluster.nodefiles import IS_ALIVE, ORDERS
from mscourse.cluster.nodes import Node, Progress, Request, Step, by_name
from mscourse.cluster.settings import ClusterSettings, Config, Host
from mscourse.cluster.ssh import Ssh
from mscourse.errors import NodeError

if TYPE_CHECKING:
    from mscourse.cluster.ec2volumes import AttachedVolume

# One line for each cluster that a host belongs to: whether its agent lives, and its orders.
_ASK = f"""\
{IS_ALIVE}
for folder in "$HOME"/.mscourse/clusters/*; do
    if [ -e "$folder/{ORDERS}" ]; then
        if is_alive
        then echo "running $(tr -d '\\n' <"$folder/{ORDERS}")"
        else echo "stopped $(tr -d '\\n' <"$folder/{ORDERS}")"
        fi
    fi
done
"""

_ANSWER_WITHIN_S = 20.0


class HostsProvider:
    """The hosts of all templates whose provider is ssh.

    Parameters
    ----------
    config : Config
    ssh : Ssh
    """

    def __init__(self, config: Config, ssh: Ssh) -> None:
        self._config = config
        self._ssh = ssh
        #: Hosts that did not answer at the latest look, and why.
        self.silent: dict[str, str] = {}

    def regions(self) -> Sequence[str]:
        """There are none: hosts are where they are."""
        return ()

    def nodes(self, cluster: str | None = None) -> list[Node]:
        """List the nodes; hosts that do not answer are in `silent` instead."""
        places = {
            (host, template.key): self._place(host, template)
            for template in self._config.templates.values()
            for host in template.hosts
        }
        answers = self._ssh.each(places.values(), self._ask)
        found: dict[tuple[str, str], Node] = {}
        self.silent = {}
        for place, answer in answers.items():
            if isinstance(answer, NodeError):
                self.silent[place.id] = str(answer)
                continue
            for node in answer:
                found.setdefault((node.cluster, node.id), node)
        return sorted(
            (node for node in found.values() if cluster in (None, node.cluster)),
            key=lambda node: (node.cluster, *by_name(node)),
        )

    def _place(self, host: Host, template: ClusterSettings) -> Node:
        """Give a host of which nothing is known as a node without a cluster."""
        return Node("", host.name, str(host), host, "stopped", template.name, key=template.key)

    def _ask(self, place: Node) -> list[Node]:
        printed = self._ssh.run(
            place, _ASK, does="it told its clusters", timeout_s=_ANSWER_WITHIN_S
        )
        nodes = []
        for line in printed.splitlines():
            state, _, text = line.partition(" ")
            try:
                orders = json.loads(text)
                node = replace(
                    place,
                    cluster=orders["cluster"],
                    name=orders["node"],
                    template=orders["template"],
                    state="running" if state == "running" else "stopped",
                    private_address=orders["address"],
                )
            except (ValueError, KeyError):
                continue  # written by something else
            nodes.append(node)
        return nodes

    def plan(self, request: Request) -> list[Step]:
        """Tell which hosts would be used; it costs nothing."""
        nodes = self._choose(request, self.nodes(request.cluster))
        return [Step(f"Start engines on {node.host} as {node.name}") for node in nodes]

    def launch(self, request: Request, progress: Progress) -> list[Node]:
        """Choose hosts that are not yet nodes of the cluster, in the order of the template."""
        return self._choose(request, self.nodes(request.cluster))

    def _choose(self, request: Request, there: Iterable[Node]) -> list[Node]:
        taken = {node.id for node in there}
        free = [host for host in request.settings.hosts if str(host) not in taken]
        if len(free) < len(request.names):
            n_all = len(request.settings.hosts)
            raise NodeError(
                f"{len(request.names)} more hosts were asked for, but of the {n_all} HOSTS of "
                f"[cluster {request.settings.name}] {n_all - len(free)} are nodes already. Add "
                "hosts to the configuration, or ask for fewer."
            )
        return [
            replace(
                self._place(host, request.settings),
                cluster=request.cluster,
                name=name,
                state="running",
            )
            for name, host in zip(request.names, free, strict=False)
        ]

    def start(self, nodes: Iterable[Node], progress: Progress) -> list[Node]:
        """They run; what runs on them is not a provider's."""
        return [replace(node, state="running") for node in nodes]

    def stop(self, nodes: Iterable[Node], progress: Progress) -> None:
        """Do nothing: machines are not switched off that somebody else may use."""

    def terminate(self, nodes: Iterable[Node], progress: Progress) -> None:
        """Do nothing, likewise."""

    def allow_me(self, cluster: str) -> None:
        """Do nothing: the hosts have no firewall of ours."""

    def attach_volumes(self, master: Node, progress: Progress) -> Sequence[AttachedVolume]:
        """Attach none: what is mounted on a host is not ours."""
        return ()

    def leftovers(self, cluster: str) -> Sequence[str]:
        """List nothing: what a cluster has here is on its nodes."""
        return ()

    def clean_up(self, cluster: str, progress: Progress) -> None:
        """Do nothing: a cluster has nothing here but files on its nodes."""
