"""Which clusters there are: their nodes, who has them, and what they say of themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from mscourse.cluster.hosts import HostsProvider
from mscourse.cluster.nodes import Node, Provider, by_name
from mscourse.cluster.remarks import did_you_mean
from mscourse.cluster.services import NodeReport, Services
from mscourse.cluster.settings import ClusterSettings, Config
from mscourse.cluster.ssh import Ssh
from mscourse.errors import (
    CloudError,
    ClusterError,
    MissingPackageError,
    MSCourseError,
    NodeError,
)


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
        self._refusals: dict[str, MSCourseError] = {}  # who could not be asked, and why
        self._owners: dict[str, Provider] = {}  # who has told of a node, by its id

    def provider(self, settings: ClusterSettings) -> Provider:
        """Give the provider of a template."""
        key = _key(settings)
        if key not in self._providers:
            if settings.provider == "ssh":
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
        """List the nodes of a cluster, or of all; who could not be asked is told by `silent`.

        Raises
        ------
        CloudError
            If nobody could be asked.
        """
        return self.look(cluster)[0]

    def look(self, cluster: str | None = None) -> tuple[list[Node], dict[str, MSCourseError]]:
        """List the nodes of a cluster, or of all, and who could not be asked.

        A classroom can be used without credentials for AWS, also if another template needs them.

        Returns
        -------
        list of Node
        dict of str to MSCourseError
            Why, by what `refusal_of` knows the provider by.
        """
        seen: dict[tuple[str, str], Node] = {}
        refusals: dict[str, MSCourseError] = {}
        n_answers = 0
        for key, ask_for in self._everywhere().items():
            try:
                provider = ask_for()
                its_nodes = provider.nodes(cluster)
            except (CloudError, MissingPackageError) as error:
                refusals[key] = error
                continue
            n_answers += 1
            for node in its_nodes:
                # A host may be in two templates, by two of its names. Two machines that are rented
                # are two, also if both are called node003, as when two people add at the same time:
                # one that is not listed would not be ended, either.
                name = node.name if node.instance_type is None else node.id
                if seen.setdefault((node.cluster, name), node) is node:
                    self._owners[node.id] = provider
        self._refusals = refusals
        if refusals and not n_answers:
            raise next(iter(refusals.values()))
        nodes = sorted(seen.values(), key=lambda node: (node.cluster, *by_name(node)))
        return nodes, refusals

    def _everywhere(self) -> dict[str, Callable[[], Provider]]:
        """Name all providers, with how to have each: to make one may fail, too."""
        everywhere: dict[str, Callable[[], Provider]] = {
            _key(each): partial(self.provider, each) for each in self.config.templates.values()
        }
        for region, provider in self._elsewhere.items():
            everywhere.setdefault(f"ec2 {region}", partial(_same, provider))
        return everywhere

    def refusal_of(
        self, settings: ClusterSettings, refusals: Mapping[str, MSCourseError]
    ) -> MSCourseError | None:
        """Give why the provider of a template could not be asked at a look, if it could not."""
        return refusals.get(_key(settings))

    def with_leftovers(self, cluster: str) -> list[Provider]:
        """List who has something of a cluster that has no machines any more."""
        asked = [each for key, each in self._everywhere().items() if key not in self._refusals]
        return [provider for each in asked if (provider := each()).leftovers(cluster)]

    def silent(self) -> list[str]:
        """Tell which hosts and regions did not answer at the latest look, and why."""
        hosts = [each for each in self._providers.values() if isinstance(each, HostsProvider)]
        texts = [text for provider in hosts for text in provider.silent.values()]
        return [*texts, *told(self._refusals)]

    def alive(self, cluster: str) -> list[Node]:
        """List the nodes of a cluster that have not ended; none if there is no such cluster."""
        return [node for node in self.nodes(cluster) if node.state != "terminated"]

    def members(self, cluster: str) -> list[Node]:
        """List the nodes of a cluster that must exist.

        Raises
        ------
        ClusterError
            If there is none of this name; with those that there are.
        CloudError
            If that is not known, since not all could be asked.
        """
        listed, refusals = self.look(cluster)
        nodes = [node for node in listed if node.state != "terminated"]
        if not nodes:
            unasked = set(refusals) & {_key(each) for each in self.config.templates.values()}
            if unasked:
                raise CloudError(
                    f"No cluster {cluster!r} was found, but not all could be asked.\n"
                    + "\n".join(self.silent())
                )
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

    def budget_usd(self, nodes: Sequence[Node]) -> float | None:
        """Give the budget of a cluster; None if it has none, or its template is gone."""
        settings = self.config.templates.get(nodes[0].template)
        return None if settings is None else settings.budget_usd

    def let_me_in(self, nodes: Sequence[Node]) -> list[str]:
        """Have the firewall of a cluster know this machine's address, which may have changed.

        The addresses that are let in now; none if there is no firewall.
        """
        let_in = [provider.allow_me(nodes[0].cluster) for provider, _ in self.by_owner(nodes)]
        return [each for each in let_in if each is not None]

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


def told(refusals: Mapping[str, MSCourseError]) -> list[str]:
    """Say who could not be asked, and why."""
    return [
        f"{key.removeprefix('ec2').strip() or 'EC2'} could not be looked into. {error}"
        for key, error in refusals.items()
    ]


def _key(settings: ClusterSettings) -> str:
    """Name the provider of a template: regions are asked one by one, hosts all at once."""
    kind = settings.provider
    return f"{kind} {settings.region or ''}" if kind == "ec2" else kind


def _same(provider: Provider) -> Provider:
    return provider
