"""Machines of EC2, rented from a pretend one over HTTP: what is asked for, and what goes wrong."""

from __future__ import annotations

import dataclasses
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
from rig.ec2 import SECRET, UBUNTU, FakeEc2, wait_until

from mscourse.cluster import ec2instances, ec2launch, ec2network, ec2session, ec2volumes
from mscourse.cluster.ec2 import Ec2Provider
from mscourse.cluster.ec2session import AwsSession
from mscourse.cluster.nodes import MASTER, Node, Provider, Request
from mscourse.cluster.settings import (
    AwsInfo,
    ClusterSettings,
    Config,
    GlobalSettings,
    Host,
    Key,
    Permission,
    Secret,
    Volume,
)
from mscourse.errors import CloudError

CHANGES = (
    "Run",
    "Start",
    "Stop",
    "Terminate",
    "Create",
    "Delete",
    "Authorize",
    "Revoke",
    "Attach",
    "Detach",
    "Modify",
    "Import",
    "Cancel",
    "Request",
)
KEY = Key("course", Path("/nowhere/course.pem"))
SETTINGS = ClusterSettings("small", key=KEY, start_timeout_s=30)


@pytest.fixture(scope="module")
def server() -> Iterator[FakeEc2]:
    with FakeEc2() as server:
        yield server


@pytest.fixture(scope="module")
def clients() -> Iterator[dict[Any, Any]]:
    clients: dict[Any, Any] = {}
    yield clients
    for client in clients.values():
        client.close()


@pytest.fixture
def ec2(
    server: FakeEc2, clients: dict[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> Iterator[FakeEc2]:
    """An EC2 of one's own, and pauses that are short."""
    for module in (ec2session, ec2network, ec2volumes):
        monkeypatch.setattr(module, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(ec2instances, "FIRST_LOOK_S", 0.02)
    monkeypatch.setattr(ec2launch, "SETTLES_WITHIN_S", 1.0)
    make = AwsSession._client

    def share(session: AwsSession, service: str, region: str) -> Any:
        """boto3 takes half a second for a client: use those of other tests, if they are alike."""
        environment = tuple(os.environ.get(name) for name in server.environment)
        key = service, region, environment, frozenset(session._known_secrets)
        if key not in clients:
            clients[key] = make(session, service, region)
            session._clients.clear()  # it closes its own
        return clients[key]

    monkeypatch.setattr(AwsSession, "_client", share)
    server.add_key("course")
    yield server
    server.clear()


@pytest.fixture
def rent(ec2: FakeEc2) -> Iterator[Rent]:
    with Rent(ec2) as rent:
        yield rent


class Rent:
    """A provider, and the lines of its progress."""

    def __init__(self, ec2: FakeEc2, **changes: Any) -> None:
        self.ec2 = ec2
        self.settings = dataclasses.replace(SETTINGS, **changes)
        config = Config(
            Path("cluster.ini"),
            GlobalSettings(refresh_interval_s=1),
            templates={"small": self.settings},
        )
        self.provider = Ec2Provider(config, self.settings)
        self.lines: list[str] = []

    def __enter__(self) -> Rent:
        return self

    def __exit__(self, *exception: object) -> None:
        self.provider.close()

    def request(self, n_nodes: int = 3, **options: Any) -> Request:
        names = [MASTER, *(f"node{number:03}" for number in range(1, n_nodes))]
        return Request("lab", self.settings, names, **options)

    def launch(self, n_nodes: int = 3, **options: Any) -> list[Node]:
        return self.provider.launch(self.request(n_nodes, **options), self.lines.append)

    def refused(self, n_nodes: int = 3, **options: Any) -> str:
        """Launch in vain; give the error, when nothing is left."""
        with pytest.raises(CloudError) as raised:
            self.launch(n_nodes, **options)
        self.assert_nothing_is_left()
        assert SECRET not in str(raised.value)
        return str(raised.value)

    def assert_nothing_is_left(self) -> None:
        assert self.ec2.alive() == {}
        assert self.provider.nodes() == []
        assert ec2network.find_group(self.provider._session, "lab") is None
        assert self.ec2._backend.volumes == {}

    def names(self) -> list[str]:
        return [node.name for node in self.provider.nodes("lab")]

    def runs(self) -> list[Any]:
        return [call for call in self.ec2.calls if call.action == "RunInstances"]

    def told(self) -> str:
        return "\n".join(self.lines)


# Starting


def test_nodes_run_and_are_found_again_by_their_tags(rent: Rent) -> None:
    nodes = rent.launch()
    assert [node.name for node in nodes] == ["master", "node001", "node002"]
    assert nodes == rent.provider.nodes("lab") == rent.provider.nodes()
    assert rent.provider.nodes("other") == []
    assert rent.provider.launch(Request("lab", rent.settings, []), rent.lines.append) == []
    master = nodes[0]
    assert master.state == "running"
    assert master.template == "small"
    assert master.key == KEY
    assert master.instance_type == "c5.xlarge"
    assert master.zone == "us-east-1a"
    assert not master.is_spot
    assert master.usd_per_hour == 0.17
    assert master.launched_at is not None
    assert master.launched_at.tzinfo is not None
    assert master.host is not None
    assert master.host.user == "ipuser"
    assert master.host.port is None
    assert master.host.name != master.private_address
    assert master.private_address is not None
    assert master.private_address.startswith("172.31.")


def test_it_is_a_provider(rent: Rent) -> None:
    provider: Provider = rent.provider
    assert provider.nodes() == []


def test_nodes_without_a_public_address_are_reached_at_the_private_one(rent: Rent) -> None:
    rent.ec2.public_addresses = False
    for node in rent.launch():
        assert node.host == Host(str(node.private_address), user="ipuser")


def test_everything_is_tagged_when_it_is_made(rent: Rent) -> None:
    rent.launch(2, spot_bid=0.2)
    master, node = rent.runs()
    kinds = ("instance", "volume", "network-interface")
    for call, name, is_spot in ((master, "master", "false"), (node, "node001", "true")):
        for kind in kinds:
            tags = call.tags(kind)
            assert tags.pop("mscourse:version")
            assert len(tags.pop("mscourse:launch")) == 16
            assert float(tags.pop("mscourse:usd-per-hour")) > 0.05
            assert tags == {
                "Name": f"lab-{name}",
                "mscourse:cluster": "lab",
                "mscourse:node": name,
                "mscourse:bid": "0.2",
                "mscourse:template": "small",
                "mscourse:user": "ipuser",
                "mscourse:spot": is_spot,
            }
    assert master.tags("spot-instances-request") == {}
    assert node.tags("spot-instances-request") == node.tags("instance")
    group = next(call for call in rent.ec2.calls if call.action == "CreateSecurityGroup")
    assert group.tags("security-group")["mscourse:cluster"] == "lab"
    assert rent.ec2.actions().count("CreateTags") == 0


def test_machines_are_asked_for_safely(rent: Rent) -> None:
    rent.launch(2, spot_bid=0.2)
    for call in rent.runs():
        asked = call.parameters
        assert asked["MetadataOptions.HttpTokens"] == "required"
        assert asked["MetadataOptions.HttpPutResponseHopLimit"] == "1"
        assert asked["BlockDeviceMapping.1.Ebs.Encrypted"] == "true"
        assert asked["BlockDeviceMapping.1.Ebs.VolumeType"] == "gp3"
        assert asked["BlockDeviceMapping.1.Ebs.DeleteOnTermination"] == "true"
        assert asked["BlockDeviceMapping.1.Ebs.VolumeSize"] == "30"
        assert asked["KeyName"] == "course"
        assert asked["MinCount"] == asked["MaxCount"] == "1"
    master, node = (call.parameters for call in rent.runs())
    assert master["InstanceInitiatedShutdownBehavior"] == "stop"
    assert "InstanceMarketOptions.MarketType" not in master
    assert node["InstanceInitiatedShutdownBehavior"] == "terminate"
    assert node["InstanceMarketOptions.SpotOptions.MaxPrice"] == "0.2"
    assert node["InstanceMarketOptions.SpotOptions.SpotInstanceType"] == "one-time"
    for each in rent.ec2.alive().values():
        assert each.metadata_options.http_tokens == "required"
    assert all(each.encrypted for each in rent.ec2._backend.volumes.values())


def test_the_account_is_made_by_the_first_boot(ec2: FakeEc2) -> None:
    seen: list[dict[str, Any]] = []
    ec2.on_running = seen.append
    with Rent(ec2, cluster_user="ada", cluster_shell="zsh") as rent:
        (node,) = rent.launch(1)
    wait_until(lambda: bool(seen))
    assert node.host is not None
    assert node.host.user == "ada"
    assert seen[0]["InstanceId"] == node.id
    assert seen[0]["KeyName"] == "course"
    data = seen[0]["UserData"]
    assert data.startswith("#cloud-config\n")
    import yaml

    content = yaml.safe_load(data)
    assert content["user"]["name"] == "ada"
    assert content["user"]["lock_passwd"] is True
    assert content["packages"] == ["zsh"]


def test_the_security_group_lets_in_what_it_should_and_nothing_else(ec2: FakeEc2) -> None:
    permissions = (
        Permission("notebook", 8888, 8889),
        Permission("web", 443, 443, cidr_ip=IPv4Network("198.51.100.0/24")),
        Permission("ping", 8, -1, "icmp"),
    )
    with Rent(ec2, permissions=permissions) as rent:
        rent.launch(1)
        assert _rules(rent) == {
            ("-1", None, None, "itself"),
            ("tcp", 22, 22, "203.0.113.7/32"),
            ("tcp", 8888, 8889, "203.0.113.7/32"),
            ("tcp", 443, 443, "198.51.100.0/24"),
            ("icmp", 8, -1, "203.0.113.7/32"),
        }


def _rules(rent: Rent) -> set[tuple[Any, ...]]:
    group = ec2network.find_group(rent.provider._session, "lab")
    assert group is not None
    assert group["GroupName"] == "mscourse-lab"
    rules = set()
    for rule in group["IpPermissions"]:
        sources = [each["CidrIp"] for each in rule["IpRanges"]]
        sources += [each["CidrIpv6"] for each in rule["Ipv6Ranges"]]
        for pair in rule["UserIdGroupPairs"]:
            sources.append("itself" if pair["GroupId"] == group["GroupId"] else pair["GroupId"])
        for source in sources:
            rules.add((rule["IpProtocol"], rule.get("FromPort"), rule.get("ToPort"), source))
    return rules


def test_a_changed_address_is_let_in_instead_of_the_old_one(
    ec2: FakeEc2, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Rent(ec2, permissions=(Permission("notebook", 8888, 8888),)) as rent:
        rent.launch(1)
        before = _rules(rent)
        rent.provider.allow_me("lab")
        assert _rules(rent) == before
        monkeypatch.setenv("MSCOURSE_MY_ADDRESS", "192.0.2.9")
        rent.provider.allow_me("lab")
        assert _rules(rent) == {
            ("-1", None, None, "itself"),
            ("tcp", 22, 22, "192.0.2.9/32"),
            ("tcp", 8888, 8888, "192.0.2.9/32"),
        }
        with pytest.raises(CloudError, match="no cluster other in us-east-1"):
            rent.provider.allow_me("other")


def test_more_nodes_keep_the_group_and_what_others_have_let_in(rent: Rent) -> None:
    rent.launch(1)
    group = ec2network.find_group(rent.provider._session, "lab")
    assert group is not None
    rent.provider._session.call(
        "authorize_security_group_ingress",
        GroupId=group["GroupId"],
        IpPermissions=[
            {
                "IpProtocol": "tcp",
                "FromPort": 80,
                "ToPort": 80,
                "IpRanges": [{"CidrIp": "0.0.0.0/0"}],
            }
        ],
    )
    request = Request("lab", rent.settings, ["node001"])
    assert [n.name for n in rent.provider.launch(request, rent.lines.append)] == ["node001"]
    assert rent.names() == ["master", "node001"]
    assert "also lets in tcp 80 from 0.0.0.0/0, which is not of mscourse" in rent.told()
    assert rent.ec2.actions().count("CreateSecurityGroup") == 1
    with pytest.raises(CloudError, match="The cluster lab has node001 already"):
        rent.provider.launch(request, rent.lines.append)
    assert rent.names() == ["master", "node001"]


def test_my_address_must_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSCOURSE_MY_ADDRESS", "203.0.113.0/24")
    assert ec2network.my_network() == IPv4Network("203.0.113.0/24")
    for text in ("somewhere", "::1", "0.0.0.0/0"):
        monkeypatch.setenv("MSCOURSE_MY_ADDRESS", text)
        with pytest.raises(CloudError, match="has to be your IPv4 address"):
            ec2network.my_network()


def test_an_address_that_cannot_be_found_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MSCOURSE_MY_ADDRESS", raising=False)
    monkeypatch.setattr(ec2network, "ADDRESS_SERVICE", "http://127.0.0.1:9")
    with pytest.raises(CloudError, match=r"does not answer.*Set MSCOURSE_MY_ADDRESS"):
        ec2network.my_network()
    monkeypatch.setattr(ec2network, "ADDRESS_SERVICE", "data:,<html>log%20in%20first")
    with pytest.raises(CloudError, match=r"<html>log in first.*no IPv4 address"):
        ec2network.my_network()
    monkeypatch.setattr(ec2network, "ADDRESS_SERVICE", "data:,203.0.113.5%0A")
    assert ec2network.my_network() == IPv4Network("203.0.113.5/32")


# Types, zones, prices, images


def test_spot_nodes_are_the_cheapest_per_core_and_the_master_is_on_demand(rent: Rent) -> None:
    master, first, second = rent.launch(spot_bid=0.2)
    assert not master.is_spot
    for node in (first, second):
        assert node.is_spot
        assert node.instance_type == "c5a.xlarge"
        assert node.zone == "us-east-1a"
        usd = rent.ec2.spot_price("c5a.xlarge", "us-east-1a")
        assert node.usd_per_hour == pytest.approx(usd, abs=1e-4)


def test_the_price_per_core_decides_not_the_price(ec2: FakeEc2) -> None:
    ec2.spot_usd = {("c5.2xlarge", f"us-east-1{zone}"): 0.09 for zone in "abc"}
    with Rent(ec2, node_instance_type=("c5.xlarge", "c5.2xlarge")) as rent:
        _, node = rent.launch(2, spot_bid=0.2)
    assert node.instance_type == "c5.2xlarge"


def test_the_master_may_be_a_spot_instance(rent: Rent) -> None:
    master, _ = rent.launch(2, spot_bid=0.2, force_spot_master=True)
    assert master.is_spot
    assert "DescribeSpotPriceHistory" in rent.ec2.actions()
    assert "GetProducts" not in rent.ec2.actions()


def test_what_costs_more_than_the_bid_is_left_out_and_said(rent: Rent) -> None:
    rent.ec2.spot_usd = {("c5a.xlarge", f"us-east-1{zone}"): 0.5 for zone in "abc"}
    _, node = rent.launch(2, spot_bid=0.09)
    assert node.instance_type == "c5.xlarge"
    assert "c5a.xlarge in us-east-1b costs 0.5000 USD/h now, above your bid of 0.09" in rent.told()


def test_a_bid_that_is_too_low_is_told_before_anything_is_started(rent: Rent) -> None:
    error = rent.refused(spot_bid=0.01)
    assert "Nothing can be had for your bid of 0.01 USD/h: the cheapest is c5a.xlarge" in error
    assert "Raise SPOT_BID" in error
    assert not _changes(rent.ec2)


def test_a_price_that_rises_in_between_sends_to_the_next_offer(rent: Rent) -> None:
    rent.ec2.fail("RunInstances", "SpotMaxPriceTooLow", containing="c5a.xlarge")
    _, node = rent.launch(2, spot_bid=0.2)
    assert node.instance_type == "c5.xlarge"
    assert "SpotMaxPriceTooLow" in rent.told()


def test_without_room_the_next_zone_and_then_the_next_type_is_asked(rent: Rent) -> None:
    rent.ec2.fail("RunInstances", "InsufficientInstanceCapacity", containing="c5.xlarge")
    nodes = rent.launch()
    assert {node.instance_type for node in nodes} == {"c5a.xlarge"}
    asked = [call.parameters["InstanceType"] for call in rent.runs()]
    # Each zone is asked once, not again for each node: what is full is full.
    n_zones = asked.count("c5.xlarge")
    assert n_zones > 1
    assert asked == ["c5.xlarge"] * n_zones + ["c5a.xlarge"] * 3
    assert "master: not c5.xlarge in us-east-1a, on demand" in rent.told()


def test_a_zone_without_room_is_left_for_another(rent: Rent) -> None:
    rent.ec2.fail("RunInstances", "InsufficientInstanceCapacity", times=1)
    master, node, _ = rent.launch()
    assert (master.instance_type, master.zone) == ("c5.xlarge", "us-east-1b")
    assert node.zone == master.zone


def test_nodes_that_are_added_are_near_the_master(rent: Rent) -> None:
    rent.ec2.fail("RunInstances", "InsufficientInstanceCapacity", times=2)
    (master,) = rent.launch(1)
    assert master.zone == "us-east-1c"
    request = Request("lab", rent.settings, ["node001"])
    (node,) = rent.provider.launch(request, rent.lines.append)
    assert node.zone == "us-east-1c"


def test_only_the_zones_of_the_template_are_used(ec2: FakeEc2) -> None:
    with Rent(ec2, availability_zones=("us-east-1c", "us-east-1z")) as rent:
        assert {node.zone for node in rent.launch(2, spot_bid=0.2)} == {"us-east-1c"}
        assert "us-east-1z has no default subnet" in rent.told()
    none = pytest.raises(CloudError, match=r"None of AVAILABILITY_ZONES.*us-east-1a")
    with Rent(ec2, availability_zones=("us-east-1z",)) as rent, none:
        rent.provider.plan(Request("other", rent.settings, [MASTER]))


def test_arm_machines_get_the_image_for_arm(ec2: FakeEc2) -> None:
    with Rent(ec2, node_instance_type=("c7g.xlarge",), master_instance_type="c5.large") as rent:
        master, node = rent.launch(2)
    assert (master.instance_type, node.instance_type) == ("c5.large", "c7g.xlarge")
    images = [call.parameters["ImageId"] for call in rent.runs()]
    assert images == [UBUNTU["x86_64"], UBUNTU["arm64"]]


def test_burstable_machines_do_not_cost_more_than_they_say(ec2: FakeEc2) -> None:
    with Rent(ec2, node_instance_type=("t3.large",), master_instance_type="c5.large") as rent:
        rent.launch(2)
        master, node = (call.parameters for call in rent.runs())
        assert "CreditSpecification.CpuCredits" not in master
        assert node["CreditSpecification.CpuCredits"] == "standard"
        assert "t3.large computes at full speed for a short time only" in rent.told()


def test_an_account_without_a_default_network_is_told(rent: Rent) -> None:
    for subnet in rent.provider._session.listing("describe_subnets", "Subnets"):
        rent.provider._session.call("delete_subnet", SubnetId=subnet["SubnetId"])
    with pytest.raises(CloudError, match="aws ec2 create-default-subnet --region us-east-1"):
        rent.launch()
    rent.provider._session.call(
        "delete_vpc",
        VpcId=rent.provider._session.listing("describe_vpcs", "Vpcs")[0]["VpcId"],
    )
    with pytest.raises(CloudError, match="aws ec2 create-default-vpc --region us-east-1"):
        rent.launch()


def test_an_image_of_ones_own_is_checked(ec2: FakeEc2) -> None:
    mine = "ami-0123456789abcdef0"
    with Rent(ec2, node_image_id=mine) as rent:
        error = rent.refused()
        assert "AWS refused DescribeImages in us-east-1: there is no such image" in error
        assert "InvalidAMIID.NotFound" in error
        assert "Set NODE_IMAGE_ID" in error
        ec2.add_image(mine, deprecated_at="2025-01-01T00:00:00.000Z")
        (node,) = rent.launch(1)
        assert ec2.alive()[node.name].image_id == mine
        assert f"The image {mine} (ubuntu-24.04-x86_64) is deprecated as of 2025" in rent.told()


def test_an_image_of_the_wrong_architecture_is_refused(ec2: FakeEc2) -> None:
    mine = "ami-0123456789abcdef0"
    ec2.add_image(mine, architecture="arm64")
    with Rent(ec2, node_image_id=mine) as rent:
        error = rent.refused()
        assert f"The image {mine} (ubuntu-24.04-arm64) is for arm64 machines" in error
        assert "c5.xlarge (x86_64)" in error
        assert not _changes(ec2)
    with Rent(ec2, node_image_id=mine, node_instance_type=("c5.xlarge", "c7g.xlarge")) as rent:
        (node,) = rent.launch(1)
        assert node.instance_type == "c7g.xlarge"
        assert "c5.xlarge is a machine for x86_64, and the image is not" in rent.told()


# A plan


def _changes(ec2: FakeEc2) -> list[str]:
    return [action for action in ec2.actions() if action.startswith(CHANGES)]


def test_a_plan_tells_all_and_changes_nothing(ec2: FakeEc2) -> None:
    with Rent(ec2, volumes=(Volume("results", "/data", size_gb=100),)) as rent:
        steps = rent.provider.plan(rent.request(spot_bid=0.2))
    assert _changes(ec2) == []
    text = "\n".join(step.does for step in steps)
    assert "CreateSecurityGroup mscourse-lab" in text
    assert "tcp 22 from 203.0.113.7/32" in text
    assert "RunInstances master: c5.xlarge in us-east-1a, on demand, 0.1700 USD/h" in text
    assert "RunInstances node002: c5a.xlarge in us-east-1a, spot" in text
    assert "MaxPrice 0.2" in text
    assert UBUNTU["x86_64"] in text
    assert "about right, from a table of mscourse; see AWS's price page" in text
    assert "CreateVolume results: 100 GB" in text
    spot_usd = ec2.spot_price("c5a.xlarge", "us-east-1a")
    extra_usd = 3 * (30 * 0.08 / 730 + 0.005) + 100 * 0.08 / 730
    total_usd = sum(step.usd_per_hour for step in steps)
    assert total_usd == pytest.approx(0.17 + 2 * spot_usd + extra_usd, abs=1e-3)


# Refusals


@pytest.mark.parametrize(
    ("action", "code", "words", "says", "do"),
    [
        (
            "RunInstances",
            "VcpuLimitExceeded",
            "You have requested more vCPU capacity than your current vCPU limit of 5 allows.",
            "the account may not have more machines of this kind at once",
            "Service Quotas",
        ),
        (
            "RunInstances",
            "InstanceLimitExceeded",
            "Your quota allows for 0 more running instance(s).",
            "the account may not have more machines",
            "Start fewer or smaller nodes",
        ),
        (
            "RunInstances",
            "UnauthorizedOperation",
            "You are not authorized. Encoded authorization failure message: c2VjcmV0LXNlY3JldA",
            "these credentials are not allowed to do this",
            "Ask who administers the account",
        ),
        (
            "CreateSecurityGroup",
            "UnauthorizedOperation",
            "You are not authorized to perform: ec2:CreateSecurityGroup.",
            "these credentials are not allowed",
            "Ask who administers",
        ),
        (
            "DescribeInstances",
            "AuthFailure",
            "AWS was not able to validate the provided access credentials",
            "AWS does not know these credentials",
            "aws sts get-caller-identity",
        ),
        (
            "RunInstances",
            "RequestExpired",
            "Request has expired.",
            "the credentials have expired",
            "aws sso login",
        ),
        (
            "DescribeInstances",
            "ExpiredToken",
            "The security token included in the request is expired",
            "the credentials have expired",
            "aws sso login",
        ),
        (
            "RunInstances",
            "AuthFailure.ServiceLinkedRoleCreationNotPermitted",
            "The provided credentials do not have permission to create the service-linked role.",
            "may not make the role that an account needs for its first spot instance",
            "aws iam create-service-linked-role",
        ),
        (
            "RunInstances",
            "PendingVerification",
            "Your request for accessing resources in this region is being validated.",
            "the account cannot be used for this yet",
            "a matter of the account",
        ),
        ("RunInstances", "InvalidSomething", "What nobody has seen.", "", "What nobody has seen."),
    ],
)
def test_a_refusal_says_what_and_why_and_what_to_do(
    rent: Rent, action: str, code: str, words: str, says: str, do: str
) -> None:
    rent.ec2.fail(action, code, message=words, times=1)
    error = rent.refused()
    assert error.startswith(f"AWS refused {action} in us-east-1")
    assert f"AWS says: {code}: {words.partition(' Encoded')[0].rstrip('.')}" in error
    assert "c2VjcmV0" not in error
    assert says in error
    assert do in error


def test_a_limit_of_spot_instances_is_told(rent: Rent) -> None:
    rent.ec2.fail("RunInstances", "MaxSpotInstanceCountExceeded")
    error = rent.refused(spot_bid=0.2, force_spot_master=True)
    assert "may not have more spot instances at once" in error
    assert "All Spot Instance Requests" in error


def test_a_key_that_ec2_does_not_have_is_told_first(ec2: FakeEc2) -> None:
    with Rent(ec2, key=Key("other", Path("/nowhere"))) as rent:
        error = rent.refused()
    assert "AWS refused DescribeKeyPairs in us-east-1: there is no such key pair" in error
    assert "InvalidKeyPair.NotFound" in error
    assert "mscourse cluster createkey" in error
    assert not _changes(ec2)


def test_a_type_that_does_not_exist_is_told_first(ec2: FakeEc2) -> None:
    with Rent(ec2, node_instance_type=("c5.enormous",)) as rent:
        error = rent.refused()
    assert "there is no such instance type" in error
    assert "c5.enormous" in error
    assert not _changes(ec2)


def test_no_room_anywhere_lists_what_was_tried(rent: Rent) -> None:
    rent.ec2.fail("RunInstances", "InsufficientInstanceCapacity")
    error = rent.refused()
    assert "No machine could be had for master of lab" in error
    assert "c5.xlarge in us-east-1a: InsufficientInstanceCapacity" in error
    assert "m5.xlarge in us-east-1b" in error
    assert "Name more types in NODE_INSTANCE_TYPE" in error


def test_throttling_is_waited_for(rent: Rent) -> None:
    rent.ec2.fail("RunInstances", "RequestLimitExceeded", times=3)
    rent.ec2.fail("DescribeInstances", "Throttling", times=2)
    assert len(rent.launch()) == 3
    assert rent.ec2.actions().count("RunInstances") == 6
    tokens = [call.parameters["ClientToken"] for call in rent.runs()]
    assert len(set(tokens)) == 3


def test_throttling_without_end_is_given_up(rent: Rent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ec2session, "THROTTLED_FOR_S", 0.2)
    rent.ec2.fail("RunInstances", "RequestLimitExceeded", message="Request limit exceeded.")
    error = rent.refused()
    assert "too many calls are made from this account" in error
    assert "Request limit exceeded" in error


def test_an_answer_that_is_lost_does_not_start_a_machine_twice(rent: Rent) -> None:
    rent.ec2.fail("RunInstances", "InternalError", times=2, is_answer_lost=True)
    assert len(rent.launch()) == 3
    assert len(rent.ec2.alive()) == len(rent.ec2._instances()) == 3
    assert rent.ec2.actions().count("RunInstances") == 5


def test_a_machine_of_an_answer_that_never_came_is_found_and_ended(rent: Rent) -> None:
    rent.ec2.fail("RunInstances", "InternalError", is_answer_lost=True)
    assert "InternalError" in rent.refused()
    assert len(rent.ec2._instances()) == 1


def test_a_group_of_an_answer_that_was_lost_is_used(rent: Rent) -> None:
    rent.ec2.fail("CreateSecurityGroup", "InternalError", times=1, is_answer_lost=True)
    assert len(rent.launch(1)) == 1


def test_a_group_of_that_name_that_is_not_ours_is_left_alone(rent: Rent) -> None:
    session = rent.provider._session
    session.call("create_security_group", GroupName="mscourse-lab", Description="mine")
    error = rent.refused()
    assert "InvalidGroup.Duplicate" in error
    assert "mscourse-lab" in [
        each["GroupName"] for each in session.listing("describe_security_groups", "SecurityGroups")
    ]


def test_what_was_just_made_may_not_be_known_at_once(rent: Rent) -> None:
    for action in ("AuthorizeSecurityGroupIngress", "RunInstances"):
        rent.ec2.fail(action, "InvalidGroup.NotFound", times=2)
    assert len(rent.launch(2)) == 2
    rent.provider.terminate(rent.provider.nodes(), rent.lines.append)
    rent.provider.clean_up("lab", rent.lines.append)
    # A machine that is not known yet when it has to end is not forgotten.
    rent.ec2.fail("RunInstances", "InvalidSomething", containing="node001")
    rent.ec2.fail("TerminateInstances", "InvalidInstanceID.NotFound", times=3)
    rent.refused(2)


def test_a_machine_that_stays_unknown_is_told(rent: Rent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ec2launch, "SETTLES_WITHIN_S", 0.1)
    rent.ec2.fail("RunInstances", "InvalidSomething", containing="node001")
    rent.ec2.fail("TerminateInstances", "InvalidInstanceID.NotFound")
    with pytest.raises(CloudError, match="Not all that was started could be removed") as raised:
        rent.launch(2)
    assert f"--instance-ids {rent.ec2.alive()['master'].id}" in str(raised.value)


def test_what_is_not_aws_may_answer(rent: Rent, monkeypatch: pytest.MonkeyPatch) -> None:
    def page(start: Any) -> list[bytes]:
        start("200 OK", [("Content-Type", "text/html"), ("Content-Length", "12")])
        return [b"<p>Log in<p>"]

    monkeypatch.setattr(FakeEc2, "__call__", lambda self, environ, start: page(start))
    with pytest.raises(CloudError, match="the answer is not one of AWS"):
        rent.provider.nodes()


# Machines that do not come


def test_some_that_do_not_come_are_told_and_the_others_kept(rent: Rent) -> None:
    rent.ec2.dies = {"node001": "Client.VolumeLimitExceeded"}
    assert [node.name for node in rent.launch()] == ["master", "node002"]
    assert rent.names() == ["master", "node002"]
    assert "node001 did not come: i-" in rent.told()
    assert "is terminated: Client.VolumeLimitExceeded" in rent.told()


def test_a_limit_reached_halfway_keeps_what_came(rent: Rent) -> None:
    rent.ec2.fail("RunInstances", "VcpuLimitExceeded", containing="node002")
    assert [node.name for node in rent.launch(4)] == ["master", "node001"]
    assert "node002 did not come: VcpuLimitExceeded" in rent.told()
    assert "node003 did not come: VcpuLimitExceeded" in rent.told()


def test_no_spot_instances_beside_a_master_keeps_the_master(rent: Rent) -> None:
    rent.ec2.fail("RunInstances", "InsufficientInstanceCapacity", containing="MarketType")
    rent.ec2.fail("RunInstances", "InsufficientInstanceCapacity", containing="one-time")
    assert [node.name for node in rent.launch(spot_bid=0.2)] == ["master"]
    assert "node001 did not come: no machine could be had (c5a.xlarge in us-east-1a" in rent.told()


def test_without_the_master_nothing_is_kept(rent: Rent) -> None:
    rent.ec2.dies = {"master": "Server.InternalError"}
    error = rent.refused()
    assert "lab: the master did not come (master: i-" in error
    assert "Server.InternalError" in error


def test_a_machine_that_never_boots_is_given_up_and_ended(ec2: FakeEc2) -> None:
    ec2.never_boots = {"node001"}
    with Rent(ec2, start_timeout_s=1) as rent:
        assert [node.name for node in rent.launch()] == ["master", "node002"]
        assert rent.names() == ["master", "node002"]
        assert "does not run after 1 s" in rent.told()


def test_a_master_that_never_boots_ends_the_launch(ec2: FakeEc2) -> None:
    ec2.never_boots = {"master"}
    with Rent(ec2, start_timeout_s=1) as rent:
        began_s = time.monotonic()
        assert "the master did not come (master: i-" in rent.refused()
        assert time.monotonic() - began_s < 8


def test_slow_machines_are_waited_for(rent: Rent) -> None:
    rent.ec2.boots_after_s = 0.5
    rent.ec2.ends_after_s = 0.3
    assert [node.state for node in rent.launch()] == ["running"] * 3
    rent.provider.terminate(rent.provider.nodes("lab"), rent.lines.append)
    assert {each.state for each in rent.ec2._instances()} == {"terminated"}


# Interruptions


@pytest.mark.parametrize("at", ["Security group", "master: c5", "node001: c5", "node001 runs"])
def test_ctrl_c_leaves_nothing_behind(rent: Rent, at: str) -> None:
    rent.ec2.ends_after_s = 0.1

    def press(line: str) -> None:
        if line.startswith(at):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rent.provider.launch(rent.request(), press)
    rent.assert_nothing_is_left()


def test_ctrl_c_again_and_again_leaves_nothing_behind(rent: Rent) -> None:
    def press(line: str) -> None:
        if line.startswith(("node001: c5", "Terminating")):
            raise KeyboardInterrupt

    presses = iter(range(2))

    def press_twice(line: str) -> None:
        if line.startswith(("node001: c5", "Terminating")) and next(presses, None) is not None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rent.provider.launch(rent.request(), press_twice)
    rent.assert_nothing_is_left()
    with pytest.raises(CloudError, match="The removal was interrupted") as raised:
        rent.provider.launch(rent.request(), press)
    assert "mscourse cluster terminate lab" in str(raised.value)


def test_a_reader_who_has_gone_leaves_nothing_behind(rent: Rent) -> None:
    def write(line: str) -> None:
        if "runs" in line or "Terminating" in line:
            raise BrokenPipeError("nobody reads this")

    with pytest.raises(BrokenPipeError):
        rent.provider.launch(rent.request(), write)
    rent.assert_nothing_is_left()


@pytest.mark.parametrize("action", ["RunInstances", "CreateSecurityGroup", "CreateVolume"])
def test_ctrl_c_during_a_call_leaves_nothing_behind(
    ec2: FakeEc2, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    """The machine is started, but nobody is left to hear its name."""
    monkeypatch.setattr(ec2launch, "SETTLES_WITHIN_S", 10.0)  # as long as this computer is busy
    pressed = []

    def press(call: Any) -> None:
        if call.action == action and not pressed:
            pressed.append(call)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)  # while the client has turned to other things

    ec2.on_call = press
    with Rent(ec2, volumes=(Volume("results", "/data", size_gb=20),)) as rent:
        with pytest.raises(KeyboardInterrupt):
            rent.launch()
        time.sleep(0.3)
        assert action in ec2.actions()
        rent.assert_nothing_is_left()


def test_what_cannot_be_removed_is_told_with_the_commands(rent: Rent) -> None:
    rent.ec2.fail("TerminateInstances", "UnauthorizedOperation", message="No.")
    rent.ec2.fail("RunInstances", "InvalidSomething", containing="node001", message="Odd.")
    with pytest.raises(CloudError) as raised:
        rent.launch()
    error = str(raised.value)
    (left,) = rent.ec2.alive().values()
    group = ec2network.find_group(rent.provider._session, "lab")
    assert group is not None
    assert "InvalidSomething: Odd." in error
    assert "Not all that was started could be removed. AWS refused TerminateInstances" in error
    assert "mscourse cluster terminate lab" in error
    assert f"aws ec2 terminate-instances --region us-east-1 --instance-ids {left.id}" in error
    assert f"delete-security-group --region us-east-1 --group-id {group['GroupId']}" in error


# Stopping and ending


def test_stopped_nodes_start_again_and_spot_nodes_are_gone(rent: Rent) -> None:
    rent.ec2.ends_after_s = 0.1
    before = rent.launch(spot_bid=0.2)
    rent.provider.stop(before, rent.lines.append)
    (master,) = rent.provider.nodes("lab")
    assert (master.state, master.host) == ("stopped", None)
    assert master.id == before[0].id
    assert "Spot instances cannot be stopped: node001, node002 are terminated." in rent.told()
    (again,) = rent.provider.start([master], rent.lines.append)
    assert (again.state, again.id) == ("running", master.id)
    assert again.host is not None


def test_a_node_that_shuts_itself_down_is_stopped_or_gone(rent: Rent) -> None:
    master, node = rent.launch(2, spot_bid=0.2)
    rent.ec2.shut_down(master.id)
    rent.ec2.shut_down(node.id)
    assert [(each.name, each.state) for each in rent.provider.nodes()] == [("master", "stopped")]


def test_the_address_is_let_in_when_a_cluster_starts_again(
    rent: Rent, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = rent.launch(1)
    rent.provider.stop(nodes, rent.lines.append)
    monkeypatch.setenv("MSCOURSE_MY_ADDRESS", "192.0.2.9")
    rent.provider.start(rent.provider.nodes("lab"), rent.lines.append)
    assert ("tcp", 22, 22, "192.0.2.9/32") in _rules(rent)


def test_a_stopped_master_without_room_is_an_error_and_another_node_a_line(rent: Rent) -> None:
    nodes = rent.launch(2)
    rent.provider.stop(nodes, rent.lines.append)
    master, node = rent.provider.nodes("lab")
    rent.ec2.fail("StartInstances", "InsufficientInstanceCapacity", containing=node.id)
    (started,) = rent.provider.start([node, master], rent.lines.append)
    assert started.is_master
    assert "node001 (i-" in rent.told()
    assert "does not start: InsufficientInstanceCapacity" in rent.told()
    rent.provider.stop([started], rent.lines.append)
    rent.ec2.fail("StartInstances", "InsufficientInstanceCapacity", containing=master.id)
    with pytest.raises(CloudError, match="can start in its own zone only"):
        rent.provider.start([master], rent.lines.append)


def test_terminating_what_has_ended_is_no_error(rent: Rent) -> None:
    nodes = rent.launch(2)
    rent.provider.terminate(nodes, rent.lines.append)
    rent.provider.terminate(nodes, rent.lines.append)
    stranger = dataclasses.replace(nodes[0], id="i-0123456789abcdef0")
    rent.provider.terminate([stranger, nodes[1]], rent.lines.append)
    rent.provider.terminate([], rent.lines.append)
    assert rent.provider.nodes() == []


def test_machines_that_do_not_end_are_told_in_time(ec2: FakeEc2) -> None:
    with Rent(ec2, start_timeout_s=1) as rent:
        nodes = rent.launch(1)
        ec2.ends_after_s = 60
        with pytest.raises(CloudError, match=r"Not terminated after 1 s: i-.* is shutting-down"):
            rent.provider.terminate(nodes, rent.lines.append)


def test_cleaning_up_leaves_nothing_of_the_cluster(rent: Rent) -> None:
    rent.ec2.ends_after_s = 0.3
    nodes = rent.launch(2)
    rent.provider.clean_up("lab", rent.lines.append)
    assert "lab still has master, node001" in rent.told()
    # Not waited for, as when somebody has done it by hand.
    rent.provider._session.call("terminate_instances", InstanceIds=[node.id for node in nodes])
    rent.provider.clean_up("lab", rent.lines.append)
    assert rent.ec2.actions().count("DeleteSecurityGroup") > 1  # it was in use at first
    rent.assert_nothing_is_left()
    rent.provider.clean_up("lab", rent.lines.append)


def test_a_group_that_stays_in_use_is_told_in_time(ec2: FakeEc2) -> None:
    with Rent(ec2, start_timeout_s=1) as rent:
        nodes = rent.launch(1)
        rent.provider.terminate(nodes, rent.lines.append)
        ec2.fail("DeleteSecurityGroup", "DependencyViolation", message="has a dependent object")
        with pytest.raises(CloudError, match=r"still in use after 1 s.*has a dependent object"):
            rent.provider.clean_up("lab", rent.lines.append)


def test_a_spot_instance_that_is_taken_back_is_gone(rent: Rent) -> None:
    notices: list[str] = []
    ended: list[str] = []
    rent.ec2.on_notice = lambda instance_id, when: notices.append(instance_id)
    rent.ec2.on_ended = ended.append
    _, node, _ = rent.launch(spot_bid=0.2)
    rent.ec2.interrupt(node.id, after_s=0.2)
    wait_until(lambda: ended == [node.id])
    assert notices == [node.id]
    assert rent.names() == ["master", "node002"]
    reason = ec2instances.find_by_id(rent.provider._session, [node.id])[node.id]["StateReason"]
    assert reason["Code"] == "Server.SpotInstanceTermination"


# Volumes


def test_a_new_volume_is_of_the_master_and_outlives_the_cluster(ec2: FakeEc2) -> None:
    volume = Volume("results", "/data", size_gb=20)
    with Rent(ec2, volumes=(volume,)) as rent:
        master, node = rent.launch(2)
        (attached,) = rent.provider.attached_volumes(master)
        assert (attached.device, attached.volume, attached.is_of_cluster) == (
            "/dev/sdf",
            volume,
            True,
        )
        serial = attached.id.replace("-", "")
        assert attached.paths[0] == f"/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_{serial}"
        assert attached.paths[1:] == ("/dev/xvdf", "/dev/sdf")
        assert rent.provider.attached_volumes(node) == ()
        made = ec2._backend.volumes[attached.id]
        assert made.encrypted
        tags = {each["key"]: each["value"] for each in made.get_tags()}
        assert tags["mscourse:cluster"] == "lab"
        assert tags["mscourse:volume"] == "results"
        assert tags["Name"] == "lab-results"
        # More nodes can be added while the master has it.
        rent.provider.launch(Request("lab", rent.settings, ["node002"]), rent.lines.append)
        rent.provider.terminate(rent.provider.nodes("lab"), rent.lines.append)
        rent.provider.clean_up("lab", rent.lines.append)
        assert list(ec2._backend.volumes) == [attached.id]
        assert f"The volume {attached.id} (20 GB) of lab stays" in rent.told()
        # The next cluster of the name has it again, in its zone.
        ec2.fail("RunInstances", "InsufficientInstanceCapacity", containing="c5.xlarge")
        master, _ = rent.launch(2)
        assert rent.provider.attached_volumes(master)[0].id == attached.id
        assert (master.zone, master.instance_type) == ("us-east-1a", "c5a.xlarge")


def test_a_volume_given_by_its_id_decides_the_zone_and_is_not_changed(ec2: FakeEc2) -> None:
    theirs = ec2._backend.create_volume(size=50, zone_name="us-east-1c")
    volume = Volume("mine", "/data", volume_id=theirs.id)
    with Rent(ec2, volumes=(volume,)) as rent:
        master, node = rent.launch(2, spot_bid=0.2)
        assert master.zone == "us-east-1c"
        assert node.zone == "us-east-1a"  # the cheapest
        (attached,) = rent.provider.attached_volumes(master)
        assert (attached.id, attached.volume, attached.is_of_cluster) == (theirs.id, volume, False)
        with pytest.raises(CloudError, match=f"{theirs.id}.* is in-use, by {master.id}"):
            rent.provider.plan(Request("other", rent.settings, [MASTER]))
        rent.provider.terminate(rent.provider.nodes(), rent.lines.append)
        rent.provider.clean_up("lab", rent.lines.append)
    assert theirs.status == "available"
    assert theirs.get_tags() == []


def test_volumes_that_cannot_be_had_are_told_first(ec2: FakeEc2) -> None:
    volumes = [ec2._backend.create_volume(size=8, zone_name=f"us-east-1{zone}") for zone in "ab"]
    named = [Volume(f"v{n}", f"/v{n}", volume_id=each.id) for n, each in enumerate(volumes)]
    missing = Volume("gone", "/x", volume_id="vol-0123456789abcdef0")
    cases: list[tuple[dict[str, Any], str]] = [
        ({"volumes": tuple(named)}, "v0 is in us-east-1a, v1 is in us-east-1b"),
        (
            {"volumes": (named[0],), "availability_zones": ("us-east-1c",)},
            "The volume of the master is in us-east-1a",
        ),
        ({"volumes": (missing,)}, "there is no such volume"),
    ]
    for changes, says in cases:
        with Rent(ec2, **changes) as rent, pytest.raises(CloudError, match=says):
            rent.launch()
    assert not _changes(ec2)


def test_a_volume_that_cannot_be_attached_leaves_nothing_behind(ec2: FakeEc2) -> None:
    ec2.fail("AttachVolume", "InvalidParameterValue", message="Not so.")
    with Rent(ec2, volumes=(Volume("results", "/data", size_gb=20),)) as rent:
        assert "Not so." in rent.refused()


# Keys, credentials, secrets


def test_a_key_is_written_once_and_for_its_owner_only(rent: Rent, tmp_path: Path) -> None:
    path = tmp_path / "keys" / "new.pem"
    assert rent.provider.create_key("new", path) == Key("new", path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text()
    assert text.startswith("-----BEGIN OPENSSH PRIVATE KEY-----")
    assert subprocess.run(["ssh-keygen", "-y", "-f", path], capture_output=True).returncode == 0
    with pytest.raises(CloudError, match="is not overwritten"):
        rent.provider.create_key("newer", path)
    assert path.read_text() == text
    other = tmp_path / "other.pem"
    with pytest.raises(CloudError, match="There is a key pair new in us-east-1 already"):
        rent.provider.create_key("new", other)
    assert not other.exists()
    rent.provider.remove_key("new")
    assert list(rent.ec2._backend.key_pairs) == ["course"]
    rent.ec2.fail("CreateKeyPair", "UnauthorizedOperation")
    with pytest.raises(CloudError, match="not allowed"):
        rent.provider.create_key("third", other)
    assert not other.exists()


def test_no_credentials_and_no_profile_and_no_region_are_told(
    ec2: FakeEc2, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Config(Path("cluster.ini"))
    profile = dataclasses.replace(config, aws=AwsInfo(profile="nobody"))
    with pytest.raises(CloudError, match=r"nobody.*Correct AWS_PROFILE"):
        Ec2Provider(profile)
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    with pytest.raises(CloudError, match=r"No region is named. Set REGION"):
        Ec2Provider(config)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    provider = Ec2Provider(dataclasses.replace(config, aws=AwsInfo(region_name="us-west-2")))
    assert provider.region == "us-west-2"
    with pytest.raises(CloudError, match=r"there are no credentials.*aws configure"):
        provider.nodes()
    provider.close()


def test_no_network_is_told(ec2: FakeEc2, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with Rent(ec2) as rent, pytest.raises(CloudError, match=r"no answer came.*Check the network"):
        rent.provider.nodes()


def test_secrets_do_not_show(ec2: FakeEc2, monkeypatch: pytest.MonkeyPatch) -> None:
    token = "session-token-that-nobody-may-see"
    aws = AwsInfo(
        region_name="us-east-1",
        access_key_id=Secret("AKIAOTHEROTHEROTHER0"),
        secret_access_key=Secret("other-secret-of-the-file"),
        session_token=Secret(token),
    )
    provider = Ec2Provider(Config(Path("cluster.ini"), aws=aws))
    ec2.fail(
        "DescribeInstances",
        "SignatureDoesNotMatch",
        message=f"The Canonical String should have been x-amz-security-token:{token}",
        times=1,
    )
    ec2.fail("DescribeInstances", "Odd", message=f"other-secret-of-the-file {token}")
    for says in ("AWS does not know these credentials", r"Odd: \*\*\* \*\*\*"):
        with pytest.raises(CloudError, match=says) as raised:
            provider.nodes()
        shown = f"{raised.value!r} {raised.value} {vars(raised.value)} {provider!r}"
        assert token not in shown
        assert "other-secret" not in shown
        assert "Canonical" not in shown  # that is the whole request
        assert raised.value.__suppress_context__
    assert repr(provider) == "Ec2Provider('us-east-1')"
    assert "other-secret" not in repr(provider._session)
    provider.close()


def test_boto3_is_imported_only_where_it_is_needed() -> None:
    code = (
        "import sys, mscourse, mscourse.cluster.nodes, mscourse.cluster.ec2, "
        "mscourse.cluster.prices; assert not {'boto3', 'botocore'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_boto3_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(CloudError, match=r"pip install 'mscourse\[cluster\]'"):
        Ec2Provider(Config(Path("cluster.ini")))


# The templates that nodes were started from


def test_a_node_whose_template_is_gone_is_still_one(rent: Rent) -> None:
    rent.launch(1)
    keys = {"course": Key("course", Path("/elsewhere"))}
    for known in ({}, keys):
        provider = Ec2Provider(Config(Path("cluster.ini"), keys=known), rent.settings)
        (node,) = provider.nodes("lab")
        assert node.template == "small"
        assert node.host is not None
        assert node.host.user == "ipuser"
        assert node.key == known.get("course")
        assert provider.attached_volumes(node) == ()
        provider.close()


def test_the_default_template_tells_the_region(ec2: FakeEc2) -> None:
    template = dataclasses.replace(SETTINGS, region="eu-west-1")
    provider = Ec2Provider(Config(Path("cluster.ini"), templates={"small": template}))
    assert provider.region == "eu-west-1"
    provider.close()


def test_hooks_tell_when_machines_come_and_go(rent: Rent) -> None:
    came: list[str] = []
    went: list[str] = []
    rent.ec2.on_running = lambda instance: came.append(instance["InstanceId"])
    rent.ec2.on_ended = went.append
    (node,) = rent.launch(1)
    wait_until(lambda: came == [node.id])
    rent.provider.stop([node], rent.lines.append)
    wait_until(lambda: went == [node.id])
    rent.provider.start([node], rent.lines.append)
    wait_until(lambda: came == [node.id] * 2)
    rent.provider.terminate([node], rent.lines.append)
    wait_until(lambda: went == [node.id] * 2)
