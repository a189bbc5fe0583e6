"""Which clusters there are: their nodes, who has them, and what they say of themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from mscourse.cluster.hosts import HostsProvider
from mscourse.cluster.nodes import Node, Provider, by_name
from mscourse.cluster.remarks import did_you_mean
from mscourse.cluster.services import NodeReport, Services
from mscourse.cluster.settings import ClusterSettings, Config
from mscourse.cluster.ssh import Ssh
from mscourse.errors import CloudError, ClusterError, NodeError


class Inventory:
    """The clusters of one configuration. There is no list of them here: providers are asked.

    Parameters
    ----------
    config : Config
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.ssh = Ssh(config.path.absolute().parent / "known_hosts")
        self._providers: dict[str, Provider] = {}
        self._elsewhere: dict[str, Provider] = {}  # regions that no template names
        self._refusals: dict[str, str] = {}  # why one of those could not be looked into
        self._owners: dict[str, Provider] = {}  # who has told of a node, by its id

    def provider(self, settings: ClusterSettings) -> Provider:
        """Give the provider of a template."""
        kind = settings.provider
        region = settings.region or ""
        key = f"{kind} {region}" if kind == "ec2" else kind
        if key not in self._providers:
            if kind == "ssh":
                self._providers[key] = HostsProvider(self.config, self.ssh)
            else:
                from mscourse.cluster.ec2 import Ec2Provider

                self._providers[key] = Ec2Provider(self.config, settings)
        return self._providers[key]

    def look_in_all_regions(self) -> None:
        """List from now on what is in any region of the account, also if no template names it."""
        templates = self.config.templates.values()
        rented = [each for each in templates if each.provider == "ec2"] or [ClusterSettings("")]
        known = {self.provider(each) for each in rented}
        for region in self.provider(rented[0]).regions():
            provider = self.provider(replace(rented[0], region=region))
            if provider not in known:
                self._elsewhere[region] = provider

    def nodes(self, cluster: str | None = None) -> list[Node]:
        """List the nodes of a cluster, or of all."""
        seen: dict[tuple[str, str], Node] = {}
        providers = {id(each): each for each in map(self.provider, self.config.templates.values())}
        listed = [(each, each.nodes(cluster)) for each in providers.values()]
        listed += [
            (each, self._nodes_in(region, cluster)) for region, each in self._elsewhere.items()
        ]
        for provider, its_nodes in listed:
            for node in its_nodes:
                # A host may be in two templates, by two of its names. Two machines that are rented
                # are two, also if both are called node003, as when two people add at the same time:
                # one that is not listed would not be ended, either.
                key = node.name if node.instance_type is None else node.id
                if seen.setdefault((node.cluster, key), node) is node:
                    self._owners[node.id] = provider
        return sorted(seen.values(), key=lambda node: (node.cluster, *by_name(node)))

    def _nodes_in(self, region: str, cluster: str | None) -> list[Node]:
        """List the nodes in a region that may be closed to this account."""
        self._refusals.pop(region, None)
        try:
            return self._elsewhere[region].nodes(cluster)
        except CloudError as error:
            self._refusals[region] = f"{region} could not be looked into. {error}"
            return []

    def silent(self) -> list[str]:
        """Tell which hosts and regions did not answer at the latest look, and why."""
        hosts = [each for each in self._providers.values() if isinstance(each, HostsProvider)]
        texts = [text for provider in hosts for text in provider.silent.values()]
        return [*texts, *self._refusals.values()]

    def members(self, cluster: str) -> list[Node]:
        """List the nodes of a cluster that must exist.

        Raises
        ------
        ClusterError
            If there is none of this name; with those that there are.
        """
        nodes = [node for node in self.nodes(cluster) if node.state != "terminated"]
        if not nodes:
            there = sorted({node.cluster for node in self.nodes()})
            raise ClusterError(
                f"There is no cluster {cluster!r}.{did_you_mean(cluster, there)} "
                + (f"There are: {', '.join(there)}." if there else "There are none.")
                + self._where_else()
                + "".join(f"\n{text}" for text in self.silent())
            )
        return nodes

    def _where_else(self) -> str:
        rents = any(each.provider == "ec2" for each in self.config.templates.values())
        if not rents or self._elsewhere:
            return ""
        return " In regions that no template names, `mscourse cluster list --all-regions` looks."

    def settings_of(self, nodes: Sequence[Node]) -> ClusterSettings:
        """Give the template that a cluster was started with."""
        return self.config.template(nodes[0].template)

    def let_me_in(self, nodes: Sequence[Node]) -> None:
        """Have the firewall of a cluster know this machine's address, which may have changed."""
        for provider, _ in self.by_owner(nodes):
            provider.allow_me(nodes[0].cluster)

    def by_owner(self, nodes: Iterable[Node]) -> list[tuple[Provider, list[Node]]]:
        """Give nodes that were listed by who has them.

        Not by their template: that may be of another region by now, or gone, and they have to end.
        """
        groups: dict[int, tuple[Provider, list[Node]]] = {}
        for node in nodes:
            owner = self._owners[node.id]
            groups.setdefault(id(owner), (owner, []))[1].append(node)
        return list(groups.values())

    def services(self, cluster: str) -> Services:
        """Give what runs on the nodes of a cluster."""
        return Services(self.ssh, cluster)

    @contextmanager
    def in_use(self, nodes: Sequence[Node]) -> Iterator[None]:
        """Keep the cluster of these nodes from stopping as idle while something is done with it."""
        master = next((node for node in nodes if node.is_master), None)
        if master is None or master.state != "running":
            yield
            return
        with self.services(master.cluster).in_use(master):
            yield

    def report(self, cluster: str) -> list[NodeReport]:
        """Ask all nodes of a cluster what they say of themselves."""
        nodes = self.members(cluster)
        running = [node for node in nodes if node.state == "running"]
        answers = self.ssh.each(running, self.services(cluster).status)
        reports = []
        for node in nodes:
            answer = answers.get(node)
            if isinstance(answer, NodeError):
                reports.append(NodeReport(node, None, str(answer)))
            else:
                reports.append(NodeReport(node, answer))
        return reports
