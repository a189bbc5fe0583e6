"""Who may reach machines of EC2: the network of an account, and the security group of a cluster."""

from __future__ import annotations

from ipaddress import IPv4Network

import pytest
from rig.ec2 import FakeEc2
from rig.rent import Rent

from mscourse.cluster import ec2network
from mscourse.cluster.nodes import Request
from mscourse.cluster.settings import Permission
from mscourse.errors import CloudError

# Where `ec2` and `rent` come from.
pytest_plugins = ["rig.rent"]


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


def test_the_security_group_lets_in_what_it_should_and_nothing_else(ec2: FakeEc2) -> None:
    permissions = (
        Permission("notebook", 8888, 8889),
        Permission("web", 443, 443, cidr_ip=IPv4Network("198.51.100.0/24")),
        Permission("ping", 8, -1, "icmp"),
    )
    with Rent(ec2, permissions=permissions) as rent:
        rent.launch(1)
        assert rent.rules() == {
            ("-1", None, None, "itself"),
            ("tcp", 22, 22, "203.0.113.7/32"),
            ("tcp", 8888, 8889, "203.0.113.7/32"),
            ("tcp", 443, 443, "198.51.100.0/24"),
            ("icmp", 8, -1, "203.0.113.7/32"),
        }


def test_a_changed_address_is_let_in_instead_of_the_old_one(
    ec2: FakeEc2, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Rent(ec2, permissions=(Permission("notebook", 8888, 8888),)) as rent:
        rent.launch(1)
        before = rent.rules()
        rent.provider.allow_me("lab")
        assert rent.rules() == before
        monkeypatch.setenv("MSCOURSE_MY_ADDRESS", "192.0.2.9")
        rent.provider.allow_me("lab")
        assert rent.rules() == {
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


def test_the_address_is_let_in_when_a_cluster_starts_again(
    rent: Rent, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = rent.launch(1)
    rent.provider.stop(nodes, rent.lines.append)
    monkeypatch.setenv("MSCOURSE_MY_ADDRESS", "192.0.2.9")
    rent.provider.start(rent.provider.nodes("lab"), rent.lines.append)
    assert ("tcp", 22, 22, "192.0.2.9/32") in rent.rules()


def test_a_group_that_stays_in_use_is_told_in_time(ec2: FakeEc2) -> None:
    with Rent(ec2, start_timeout_s=1) as rent:
        nodes = rent.launch(1)
        rent.provider.terminate(nodes, rent.lines.append)
        ec2.fail("DeleteSecurityGroup", "DependencyViolation", message="has a dependent object")
        with pytest.raises(CloudError, match=r"still in use after 1 s.*has a dependent object"):
            rent.provider.clean_up("lab", rent.lines.append)


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
