"""Machines of EC2, as a provider of nodes.

All calls are made from here or from the modules ``ec2*`` beside it::

    ec2 ── ec2launch ── ec2machine ── ec2plan ── ec2images, ec2network, ec2volumes
                                         ├────── prices ── instancetypes
                                         └────── ec2instances ── ec2session ── ec2errors

Most of the settings are understood as by the ``aws`` command: its profiles, variables and files,
also ``AWS_ENDPOINT_URL``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from mscourse.cluster import ec2network, prices
from mscourse.cluster.ec2errors import AwsError
from mscourse.cluster.ec2instances import (
    CLUSTER_TAG,
    Instance,
    as_node,
    await_end,
    has_address,
    list_nodes,
    node_state,
    state_of,
    tag_filter,
    terminate_instances,
    wait_for,
    why_ended,
)
from mscourse.cluster.ec2launch import launch
from mscourse.cluster.ec2plan import GP3_USD_PER_GB_HOUR, make_plan
from mscourse.cluster.ec2session import AwsSession
from mscourse.cluster.ec2volumes import (
    AttachedVolume,
    attach_missing,
    attached_volumes,
    made_volumes,
)
from mscourse.cluster.instancetypes import describe_types
from mscourse.cluster.nodes import Node, Progress, Request, Step, by_name
from mscourse.cluster.prices import OnDemandPrice, SpotPrices
from mscourse.cluster.settings import ClusterSettings, Config, Key
from mscourse.errors import CloudError


class Ec2Provider:
    """Rents machines of EC2, in one region.

    Parameters
    ----------
    config : Config
    settings : ClusterSettings, optional
        The template whose region is meant; by default the default template, or what the
        configuration says of AWS.

    Raises
    ------
    CloudError
        boto3 is missing, or no region is known.
    """

    def __init__(self, config: Config, settings: ClusterSettings | None = None) -> None:
        self._config = config
        of_default = config.templates.get(config.default_template or "")
        used = settings or of_default or ClusterSettings("")
        self._session = AwsSession(config.aws, used.region)
        self._timeout_s = used.start_timeout_s
        self._longest_pause_s = config.settings.refresh_interval_s

    def __repr__(self) -> str:
        return f"Ec2Provider({self.region!r})"

    @property
    def region(self) -> str:
        return self._session.region

    def close(self) -> None:
        """Close the connections to AWS."""
        self._session.close()

    def regions(self) -> list[str]:
        """List the regions that the account can use."""
        answer = self._session.call("describe_regions")
        return sorted(each["RegionName"] for each in answer["Regions"])

    def nodes(self, cluster: str | None = None) -> list[Node]:
        """List the nodes of a cluster of this region, or of all; the master first."""
        return list_nodes(self._session, self._config, cluster)

    def plan(self, request: Request) -> list[Step]:
        """Tell what `launch` would do; nothing is started or changed."""
        plan = make_plan(self._session, request, self.nodes(request.cluster))
        group = ec2network.group_name(request.cluster)
        rules = ec2network.wanted_rules(request.settings.permissions, plan.my_network)
        let_in = ", ".join(str(each) for each in rules)
        verb = "CreateSecurityGroup" if plan.group_id is None else "Keep the security group"
        steps = [Step(f"Note: {each}") for each in plan.remarks]
        steps.append(Step(f"{verb} {group}: {let_in}"))
        for name, offers in plan.offers.items():
            first, *others = offers
            bid = f", MaxPrice {request.spot_bid:g}" if first.is_spot else ""
            instead = f", or {len(others)} other offers" if others else ""
            steps.append(
                Step(
                    f"RunInstances {name}: {first}{bid}, image {first.image}, key "
                    f"{plan.key_name}{instead}",
                    first.usd_per_hour or 0.0,
                )
            )
        chosen = [offers[0] for offers in plan.offers.values()]
        sizes = " or ".join(str(gb) for gb in sorted({each.root_gb for each in chosen}))
        steps.append(
            Step(
                f"With each node: an encrypted disk of {sizes} GB (gp3) and a public address",
                round(sum(each.extra_usd_per_hour for each in chosen), 4),
            )
        )
        for each in plan.volumes:
            name = each.volume.name
            if each.id is None:
                size_gb = each.volume.size_gb or 0
                steps.append(
                    Step(
                        f"CreateVolume {name}: {size_gb} GB (gp3), encrypted; it outlives the "
                        "cluster",
                        round(size_gb * GP3_USD_PER_GB_HOUR, 4),
                    )
                )
            steps.append(Step(f"AttachVolume {name} ({each.id or 'new'}) to the master"))
        return steps

    def launch(self, request: Request, progress: Progress) -> list[Node]:
        """Start machines, and wait until they run and have an address; see `Provider.launch`."""
        plan = make_plan(self._session, request, self.nodes(request.cluster))
        instances = launch(self._session, plan, progress, longest_pause_s=self._longest_pause_s)
        return sorted((as_node(each, self._config) for each in instances), key=by_name)

    def start(self, nodes: Iterable[Node], progress: Progress) -> list[Node]:
        """Start stopped machines again, the master first; give them as they are now.

        Of nodes that do not start, `progress` tells; that the master does not is an error.
        """
        wanted = sorted(nodes, key=by_name)
        for cluster in dict.fromkeys(node.cluster for node in wanted):
            self.allow_me(cluster)
        self._await_end([node.id for node in wanted if node.state == "stopping"], "stopped")
        started = []
        for node in wanted:
            try:
                self._session.call("start_instances", InstanceIds=[node.id])
            except AwsError as error:
                if node.is_master or error.remedy not in ("elsewhere", "limit"):
                    raise CloudError(
                        f"{node} does not start. {error} A stopped machine can start in its own "
                        f"zone only ({node.zone}): if it stays so, terminate the cluster and "
                        "start it anew."
                    ) from None
                progress(f"{node} does not start: {error.words}.")
            else:
                progress(f"{node.name} starts ({node.id}).")
                started.append(node)
        return self._await_running(started, progress)

    def stop(self, nodes: Iterable[Node], progress: Progress) -> None:
        """Stop machines, and wait until they have stopped; spot instances are terminated."""
        nodes = list(nodes)
        spot = [node for node in nodes if node.is_spot]
        # EC2 refuses to stop all of them if one has not come up yet, or has ended. It is asked:
        # what was listed as stopped may have begun to start since.
        seen = self._await_not_pending([node.id for node in nodes if not node.is_spot])
        ended = {id_ for id_, each in seen.items() if node_state(each) == "terminated"}
        named = {n.id: n.name for n in nodes if not n.is_spot and n.id not in ended}
        others = list(named)
        if others:
            self._session.call("stop_instances", InstanceIds=others)
            progress(f"Stopping {', '.join(named.values())}.")
        if spot:
            names = ", ".join(node.name for node in spot)
            progress(f"Spot instances cannot be stopped: {names} are terminated.")
            self.terminate(spot, progress)
        self._await_end(others, "stopped")

    def terminate(self, nodes: Iterable[Node], progress: Progress) -> None:
        """End machines for good, and wait until they have ended."""
        nodes = list(nodes)
        if not nodes:
            return
        ids = [node.id for node in nodes]
        terminate_instances(self._session, ids)
        progress(f"Terminating {', '.join(node.name for node in nodes)}.")
        self._await_end(ids, "terminated")

    def leftovers(self, cluster: str) -> list[str]:
        """List the security group and the volumes of a cluster by their ids."""
        group = ec2network.find_group(self._session, cluster)
        volumes = [str(each["VolumeId"]) for each in made_volumes(self._session, cluster)]
        return volumes if group is None else [str(group["GroupId"]), *volumes]

    def clean_up(self, cluster: str, progress: Progress) -> None:
        """Remove what a cluster had besides machines; its volumes stay, and `progress` tells.

        While there are machines, nothing is removed.
        """
        if nodes := self.nodes(cluster):
            names = ", ".join(node.name for node in nodes)
            progress(f"{cluster} still has {names}: its security group stays.")
            return
        self._cancel_spot_requests(cluster)
        self._delete_interfaces(cluster)
        group = ec2network.find_group(self._session, cluster)
        if group is not None:
            group_id = str(group["GroupId"])
            ec2network.delete_group(self._session, group_id, timeout_s=self._timeout_s)
            progress(f"Deleted the security group {group['GroupName']} ({group_id}).")
        for each in made_volumes(self._session, cluster):
            progress(
                f"The volume {each['VolumeId']} ({each['Size']} GB) of {cluster} stays, and costs "
                f"about {each['Size'] * GP3_USD_PER_GB_HOUR * 730:.2f} USD a month. The next "
                f"cluster {cluster} has it again. Delete it with `aws ec2 delete-volume --region "
                f"{self.region} --volume-id {each['VolumeId']}`."
            )

    def allow_me(self, cluster: str) -> str:
        """Let in the address that you have now, instead of the one that you had; give it."""
        group = ec2network.find_group(self._session, cluster)
        if group is None:
            raise CloudError(f"There is no cluster {cluster} in {self.region}.")
        mine = ec2network.my_network()
        ec2network.move_to(self._session, str(group["GroupId"]), mine)
        return str(mine)

    def attach_volumes(self, master: Node, progress: Progress) -> tuple[AttachedVolume, ...]:
        """Give a master its volumes, as after a stop by hand; list them, in the template's order.

        Of one that cannot be attached, `progress` tells.
        """
        settings = self._config.templates.get(master.template)
        volumes = () if settings is None else settings.volumes
        attach_missing(self._session, master, volumes, progress, timeout_s=self._timeout_s)
        return attached_volumes(self._session, master.id, volumes)

    def spot_history(self, types: Sequence[str], days: float = 7) -> list[SpotPrices]:
        """Ask for the spot prices of types in each zone of the region."""
        return prices.spot_history(self._session, types, days)

    def on_demand_prices(self, types: Iterable[str]) -> dict[str, OnDemandPrice]:
        """Look up what types cost on demand, each with its source."""
        return prices.on_demand_prices(self._session, types)

    def cores(self, types: Iterable[str]) -> dict[str, int]:
        """Ask how many virtual cores types have."""
        return {name: each.cores for name, each in describe_types(self._session, types).items()}

    def create_key(self, name: str, path: Path) -> Key:
        """Make a key pair at EC2, and write its private half into a new file.

        Raises
        ------
        CloudError
            There is a key pair or a file of this name already; neither is changed.
        """
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # First, so that there is never a key pair whose private half is nowhere.
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise CloudError(
                f"{path}: The file is there already, and is not overwritten. Choose another one."
            ) from None
        except OSError as error:
            raise CloudError(f"{path}: It cannot be written: {error.strerror}.") from None
        try:
            with os.fdopen(handle, "w", encoding="ascii") as file:
                answer = self._session.call(
                    "create_key_pair", is_repeatable=False, KeyName=name, KeyType="ed25519"
                )
                try:
                    file.write(answer["KeyMaterial"].rstrip("\n") + "\n")
                    file.flush()
                except OSError as error:
                    self.remove_key(name)
                    raise CloudError(f"{path}: It cannot be written: {error.strerror}.") from None
        except AwsError as error:
            path.unlink(missing_ok=True)
            if error.code == "InvalidKeyPair.Duplicate":
                raise CloudError(
                    f"There is a key pair {name} in {self.region} already. Choose another name, or "
                    f"remove it with `aws ec2 delete-key-pair --region {self.region} --key-name "
                    f"{name}`."
                ) from None
            raise
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return Key(name, path)

    def remove_key(self, name: str) -> None:
        """Remove a key pair from EC2; the file with its private half stays."""
        self._session.call("delete_key_pair", KeyName=name)

    def _await_running(self, nodes: Sequence[Node], progress: Progress) -> list[Node]:
        def is_done(_: str, instance: Instance | None) -> bool:
            if instance is None or state_of(instance) in ("pending", "stopped"):
                return False
            return state_of(instance) != "running" or has_address(instance)

        seen = wait_for(
            self._session,
            [node.id for node in nodes],
            is_done,
            timeout_s=self._timeout_s,
            longest_pause_s=self._longest_pause_s,
        )
        running = []
        for node in nodes:
            instance = seen.get(node.id)
            if instance is not None and state_of(instance) == "running" and has_address(instance):
                running.append(as_node(instance, self._config))
                progress(f"{node.name} runs ({node.id}).")
                continue
            state = "unknown" if instance is None else state_of(instance)
            why = "" if instance is None else f" ({why_ended(instance)})"
            told = f"{node} does not run after {self._timeout_s} s: it is {state}{why}."
            if node.is_master:
                raise CloudError(f"{told} Look at it in AWS's console, or terminate the cluster.")
            progress(told)
        return running

    def _await_not_pending(self, ids: Sequence[str]) -> dict[str, Instance]:
        return wait_for(
            self._session,
            ids,
            lambda _, instance: instance is not None and state_of(instance) != "pending",
            timeout_s=self._timeout_s,
            longest_pause_s=self._longest_pause_s,
        )

    def _await_end(self, ids: Sequence[str], state: str) -> None:
        await_end(
            self._session,
            ids,
            timeout_s=self._timeout_s,
            longest_pause_s=self._longest_pause_s,
            state=state,
        )

    def _cancel_spot_requests(self, cluster: str) -> None:
        """Cancel requests that would still start a machine; usually they end with theirs."""
        found = self._session.listing(
            "describe_spot_instance_requests",
            "SpotInstanceRequests",
            Filters=[
                tag_filter(CLUSTER_TAG, cluster),
                {"Name": "state", "Values": ["open", "active"]},
            ],
        )
        if ids := [each["SpotInstanceRequestId"] for each in found]:
            self._session.call("cancel_spot_instance_requests", SpotInstanceRequestIds=ids)

    def _delete_interfaces(self, cluster: str) -> None:
        """Delete network interfaces that a machine has left, which is rare."""
        found = self._session.listing(
            "describe_network_interfaces",
            "NetworkInterfaces",
            Filters=[
                tag_filter(CLUSTER_TAG, cluster),
                {"Name": "status", "Values": ["available"]},
            ],
        )
        for each in found:
            self._session.call(
                "delete_network_interface", NetworkInterfaceId=each["NetworkInterfaceId"]
            )
