"""Who may reach a cluster: its security group, and the address of whoever starts it.

A group has these rules for what comes in, and no others: ssh from your address, everything
between the nodes, and the ports of the template's permissions. Each rule says so in its
description, by which it is found again when your address has changed.
"""

from __future__ import annotations

import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from typing import Any

from mscourse.cluster.ec2errors import AwsError
from mscourse.cluster.ec2instances import CLUSTER_TAG, tag_filter, tag_list, tags_of
from mscourse.cluster.ec2session import AwsSession
from mscourse.cluster.nodes import Progress
from mscourse.cluster.settings import Permission
from mscourse.errors import CloudError

#: The environment variable with the address, or the network, that you come from.
ADDRESS_VARIABLE = "MSCOURSE_MY_ADDRESS"

ADDRESS_SERVICE = "https://checkip.amazonaws.com"
_ADDRESS_WITHIN_S = 10

_OURS = "mscourse: "
_YOURS = "mscourse: your address, "

# The interfaces of machines that have ended stay for some seconds, and hold the group.
FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 10.0


@dataclass(frozen=True)
class Rule:
    """Something that is let in.

    Attributes
    ----------
    protocol : str
        ``"-1"`` is all.
    from_port, to_port : int
    source : ipaddress.IPv4Network, str or None
        None is the group itself; a text is something that is never made here.
    why : str
        Its description. EC2 takes rules that differ in nothing else for the same.
    """

    protocol: str
    from_port: int
    to_port: int
    source: IPv4Network | str | None
    why: str = field(compare=False)

    def __str__(self) -> str:
        what = "everything"
        if self.protocol != "-1":
            ports = f"{self.from_port}"
            ports += "" if self.from_port == self.to_port else f" to {self.to_port}"
            what = f"{self.protocol} {ports}"
        return f"{what} from {self.source or 'its own nodes'}"

    def request(self, group_id: str) -> dict[str, Any]:
        """Write it as EC2 wants it."""
        asked: dict[str, Any] = {"IpProtocol": self.protocol}
        if self.protocol != "-1":
            asked |= {"FromPort": self.from_port, "ToPort": self.to_port}
        if self.source is None:
            asked["UserIdGroupPairs"] = [{"GroupId": group_id, "Description": self.why}]
        else:
            asked["IpRanges"] = [{"CidrIp": str(self.source), "Description": self.why}]
        return asked


def my_network() -> IPv4Network:
    """Find the address that this machine is seen at from outside.

    Returns
    -------
    ipaddress.IPv4Network
        Of one address, unless ``MSCOURSE_MY_ADDRESS`` names a larger one.

    Raises
    ------
    CloudError
        It cannot be found, or what the variable says is no address.
    """
    given = os.environ.get(ADDRESS_VARIABLE)
    if given:
        network = _as_network(given)
        if network is None or network.prefixlen == 0:
            raise CloudError(
                f"{ADDRESS_VARIABLE} is {given!r}. It has to be your IPv4 address as others see "
                "it, or a network such as 203.0.113.0/24; not the whole world."
            )
        return network
    try:
        with urllib.request.urlopen(ADDRESS_SERVICE, timeout=_ADDRESS_WITHIN_S) as answer:
            text = answer.read(100).decode("ascii", "replace").strip()
    except (OSError, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise CloudError(
            f"Your address, from which ssh is to be let in, could not be found: {ADDRESS_SERVICE} "
            f"does not answer ({reason}). Set {ADDRESS_VARIABLE} to it."
        ) from None
    network = _as_network(text)
    if network is None or network.prefixlen != 32:
        raise CloudError(
            f"Your address, from which ssh is to be let in, could not be found: {ADDRESS_SERVICE} "
            f"says {text[:50]!r}, which is no IPv4 address. Set {ADDRESS_VARIABLE} to it."
        )
    return network


def _as_network(text: str) -> IPv4Network | None:
    try:
        return IPv4Network(text.strip(), strict=False)
    except ValueError:
        return None


def wanted_rules(permissions: Iterable[Permission], mine: IPv4Network) -> list[Rule]:
    """List the rules of a cluster with these permissions, for someone at this address."""
    rules = [
        Rule("-1", -1, -1, None, f"{_OURS}between the nodes"),
        Rule("tcp", 22, 22, mine, f"{_YOURS}ssh"),
    ]
    for each in permissions:
        ports = each.ip_protocol, each.from_port, each.to_port
        if each.cidr_ip is None:
            rules.append(Rule(*ports, mine, f"{_YOURS}{each.name}"))
        else:
            rules.append(Rule(*ports, each.cidr_ip, f"{_OURS}{each.name}"))
    return list(dict.fromkeys(rules))


def default_network(session: AwsSession) -> tuple[str, dict[str, str]]:
    """Find the default network of the account: its id, and its subnet in each zone."""
    vpcs = session.listing(
        "describe_vpcs", "Vpcs", Filters=[{"Name": "is-default", "Values": ["true"]}]
    )
    if not vpcs:
        raise CloudError(
            f"The account has no default network in {session.region}. Make it with `aws ec2 "
            f"create-default-vpc --region {session.region}`, or use another REGION."
        )
    vpc = str(vpcs[0]["VpcId"])
    subnets = session.listing(
        "describe_subnets",
        "Subnets",
        Filters=[
            {"Name": "vpc-id", "Values": [vpc]},
            {"Name": "default-for-az", "Values": ["true"]},
        ],
    )
    if not subnets:
        raise CloudError(
            f"The default network of {session.region} has no default subnet. Make one with `aws "
            f"ec2 create-default-subnet --region {session.region} --availability-zone ZONE`."
        )
    return vpc, {
        each["AvailabilityZone"]: each["SubnetId"]
        for each in sorted(subnets, key=lambda subnet: subnet["AvailabilityZone"])
    }


def group_name(cluster: str) -> str:
    return f"mscourse-{cluster}"


def find_group(session: AwsSession, cluster: str) -> Mapping[str, Any] | None:
    """Find the security group of a cluster."""
    groups = session.listing(
        "describe_security_groups",
        "SecurityGroups",
        Filters=[tag_filter(CLUSTER_TAG, cluster)],
    )
    return groups[0] if groups else None


def make_group(session: AwsSession, cluster: str, vpc: str, tags: Mapping[str, str]) -> str:
    """Make the security group of a cluster, without rules, and give its id.

    Raises
    ------
    CloudError
        There is one of this name that is not of mscourse.
    """
    try:
        answer = session.call(
            "create_security_group",
            GroupName=group_name(cluster),
            Description=f"Cluster {cluster} of mscourse",
            VpcId=vpc,
            TagSpecifications=[{"ResourceType": "security-group", "Tags": tag_list(tags)}],
        )
    except AwsError as error:
        # Perhaps this call made it, and the answer was lost.
        found = find_group(session, cluster) if error.code == "InvalidGroup.Duplicate" else None
        if found is not None and tags_of(found) == dict(tags):
            return str(found["GroupId"])
        raise
    return str(answer["GroupId"])


def set_rules(
    session: AwsSession, group_id: str, wanted: Iterable[Rule], progress: Progress
) -> None:
    """Let in what is wanted. Other rules of ours go; those of others stay, and are told."""
    there = _rules(session, group_id)
    wanted = list(wanted)
    _let_in(session, group_id, [each for each in wanted if each not in there])
    for rule, rule_id in there.items():
        if rule in wanted:
            continue
        if rule.why.startswith(_OURS):
            _revoke(session, group_id, [rule_id])
        else:
            progress(
                f"The security group {group_id} also lets in {rule}, which is not of mscourse."
            )


def move_to(session: AwsSession, group_id: str, mine: IPv4Network) -> None:
    """Let in this address instead of the one that was yours."""
    there = _rules(session, group_id)
    old = {rule: id_ for rule, id_ in there.items() if rule.why.startswith(_YOURS)}
    moved = [Rule(each.protocol, each.from_port, each.to_port, mine, each.why) for each in old]
    if not any(rule.from_port == 22 for rule in moved):
        moved.append(Rule("tcp", 22, 22, mine, f"{_YOURS}ssh"))
    _let_in(session, group_id, [each for each in dict.fromkeys(moved) if each not in there])
    _revoke(session, group_id, [id_ for rule, id_ in old.items() if rule.source != mine])


def delete_group(session: AwsSession, group_id: str, *, timeout_s: float) -> None:
    """Delete a security group; it may still be in use for a while.

    Raises
    ------
    CloudError
        It still is when time is up.
    """
    deadline_s = time.monotonic() + timeout_s
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            session.call("delete_security_group", GroupId=group_id)
            return
        except AwsError as error:
            if error.code == "InvalidGroup.NotFound":
                return
            if error.code not in ("DependencyViolation", "InvalidGroup.InUse"):
                raise
            if time.monotonic() > deadline_s:
                raise CloudError(
                    f"The security group {group_id} is still in use after {timeout_s:g} s. AWS "
                    f"says: {error.words}. See by what with `aws ec2 describe-network-interfaces "
                    f"--region {session.region} --filters Name=group-id,Values={group_id}`, and "
                    "do it again."
                ) from None
        time.sleep(min(pause_s, max(0.0, deadline_s - time.monotonic())))
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _rules(session: AwsSession, group_id: str) -> dict[Rule, str]:
    """The rules for what comes in, with their ids."""
    answers = session.listing(
        "describe_security_group_rules",
        "SecurityGroupRules",
        Filters=[{"Name": "group-id", "Values": [group_id]}],
    )
    rules = {}
    for each in answers:
        if not each["IsEgress"]:
            ports = each.get("FromPort", -1), each.get("ToPort", -1)
            source, why = _source(each, group_id), each.get("Description", "")
            rules[Rule(each["IpProtocol"], *ports, source, why)] = each["SecurityGroupRuleId"]
    return rules


def _source(rule: Mapping[str, Any], group_id: str) -> IPv4Network | str | None:
    if "CidrIpv4" in rule:
        return _as_network(rule["CidrIpv4"]) or str(rule["CidrIpv4"])
    other = rule.get("ReferencedGroupInfo", {}).get("GroupId")
    if other == group_id:
        return None
    return str(other or rule.get("CidrIpv6") or rule.get("PrefixListId"))


def _let_in(session: AwsSession, group_id: str, rules: Iterable[Rule]) -> None:
    for rule in rules:
        try:
            session.call(
                "authorize_security_group_ingress",
                settling="InvalidGroup.NotFound",
                GroupId=group_id,
                IpPermissions=[rule.request(group_id)],
            )
        except AwsError as error:
            if error.code != "InvalidPermission.Duplicate":  # it is there, as it should be
                raise


def _revoke(session: AwsSession, group_id: str, rule_ids: list[str]) -> None:
    if rule_ids:
        session.call(
            "revoke_security_group_ingress", GroupId=group_id, SecurityGroupRuleIds=rule_ids
        )
