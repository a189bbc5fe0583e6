"""What EC2 refuses, or answers late or never: what is said, and what is tried again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rig.ec2 import FakeEc2
from rig.rent import KEY, Rent, changes

from mscourse.cluster import ec2launch, ec2session
from mscourse.cluster.settings import Key
from mscourse.errors import CloudError

# Where `ec2` and `rent` come from.
pytest_plugins = ["rig.rent"]


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


def test_a_limit_of_cores_leaves_room_for_a_smaller_type(ec2: FakeEc2) -> None:
    types = ("c5.4xlarge", "c5.2xlarge", "c5.xlarge")
    with Rent(ec2, node_instance_type=types, availability_zones=("us-east-1a",)) as rent:
        for each in types[:2]:
            ec2.fail("RunInstances", "VcpuLimitExceeded", containing=each)
        assert [node.instance_type for node in rent.launch(2)] == ["c5.xlarge"] * 2
        # What is too large once is not asked for again.
        assert [call.parameters["InstanceType"] for call in rent.runs()] == [*types, "c5.xlarge"]
        assert "master: not c5.4xlarge" in rent.told()


def test_a_limit_that_nothing_fits_in_is_told_as_such(ec2: FakeEc2) -> None:
    with Rent(ec2, node_instance_type=("c5.2xlarge", "c5.xlarge")) as rent:
        ec2.fail("RunInstances", "VcpuLimitExceeded")
        assert "Service Quotas" in rent.refused(1)
        # The other zones have the same limit.
        types = [call.parameters["InstanceType"] for call in rent.runs()]
        assert types == ["c5.2xlarge", "c5.xlarge"]


def test_a_key_that_ec2_does_not_have_is_told_first(ec2: FakeEc2) -> None:
    with Rent(ec2, key=Key("other", KEY.key_location)) as rent:
        error = rent.refused()
    assert "AWS refused DescribeKeyPairs in us-east-1: there is no such key pair" in error
    assert "InvalidKeyPair.NotFound" in error
    assert "mscourse cluster createkey" in error
    assert not changes(ec2)


def test_a_key_that_is_not_on_this_machine_is_told_first(ec2: FakeEc2, tmp_path: Path) -> None:
    """As when the configuration was copied from another one: nobody could log in."""
    with Rent(ec2, key=Key("course", tmp_path / "course.pem")) as rent:
        error = rent.refused()
    assert f"{tmp_path / 'course.pem'}: There is no such file" in error
    assert "Copy it" in error
    assert not changes(ec2)


def test_a_type_that_does_not_exist_is_told_first(ec2: FakeEc2) -> None:
    with Rent(ec2, node_instance_type=("c5.enormous",)) as rent:
        error = rent.refused()
    assert "there is no such instance type" in error
    assert "c5.enormous" in error
    assert not changes(ec2)


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
