"""A provider that rents machines of the pretend EC2, and what tests ask of both.

Its fixtures, `ec2` and `rent`, are for modules that name it in ``pytest_plugins``.
PYTEST_DONT_REWRITE: they import `Rent` before pytest imports the plugin.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mscourse.cluster import ec2instances, ec2launch, ec2network, ec2session, ec2volumes
from mscourse.cluster.ec2 import Ec2Provider
from mscourse.cluster.ec2session import AwsSession
from mscourse.cluster.nodes import MASTER, Node, Request
from mscourse.cluster.settings import ClusterSettings, Config, GlobalSettings, Key
from mscourse.errors import CloudError
from rig.ec2 import SECRET, FakeEc2

KEY = Key("course", Path(__file__))  # any file will do: nobody logs in
SETTINGS = ClusterSettings("small", key=KEY, start_timeout_s=30)

# How the calls begin that change something.
_CHANGES = (
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

    def rules(self) -> set[tuple[Any, ...]]:
        """What the security group lets in: protocol, ports, and from where."""
        group = ec2network.find_group(self.provider._session, "lab")
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


def changes(ec2: FakeEc2) -> list[str]:
    """The calls that were made and that change something."""
    return [action for action in ec2.actions() if action.startswith(_CHANGES)]


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
