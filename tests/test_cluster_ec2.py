"""Machines of EC2, rented from a pretend one over HTTP: how they begin and end, and what fails."""

from __future__ import annotations

import dataclasses
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers import wait_until
from rig.ec2 import FakeEc2
from rig.rent import KEY, SETTINGS, Rent

from mscourse.cluster import ec2instances, ec2launch, ec2network
from mscourse.cluster.ec2 import Ec2Provider
from mscourse.cluster.manager import Manager
from mscourse.cluster.nodes import Node, Provider, Request
from mscourse.cluster.settings import AwsInfo, Config, Host, Key, Secret, Volume
from mscourse.errors import CloudError, ClusterError, MissingPackageError

# Where `ec2` and `rent` come from.
pytest_plugins = ["rig.rent"]


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
    extra_usd = 30 * 0.08 / 730 + 0.005  # its disk and its address
    assert master.usd_per_hour == pytest.approx(0.17 + extra_usd, abs=1e-4)
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
    assert wait_until(lambda: bool(seen))
    assert node.host is not None
    assert node.host.user == "ada"
    assert seen[0]["InstanceId"] == node.id
    assert seen[0]["KeyName"] == "course"
    data = seen[0]["UserData"]
    assert data.startswith("#cloud-config\n")
    content = yaml.safe_load(data)
    assert content["user"]["name"] == "ada"
    assert content["user"]["lock_passwd"] is True
    assert content["packages"] == ["zsh"]
    assert content["runcmd"][-1][0] == "sh"  # the account changes to it


@pytest.mark.parametrize(("user", "said"), [("root", False), ("ada", None)])
def test_root_can_log_in_where_it_is_wanted(ec2: FakeEc2, user: str, said: bool | None) -> None:
    """By itself, cloud-init has root's key say only to log in as somebody else."""
    seen: list[dict[str, Any]] = []
    ec2.on_running = seen.append
    with Rent(ec2, cluster_user=user) as rent:
        rent.launch(1)
    assert wait_until(lambda: bool(seen))
    assert yaml.safe_load(seen[0]["UserData"]).get("disable_root") is said


def test_a_machine_that_nobody_looks_after_switches_itself_off(
    ec2: FakeEc2, tmp_path: Path
) -> None:
    """As when the computer that starts it loses power, or its agent is killed."""
    seen: list[dict[str, Any]] = []
    ec2.on_running = seen.append
    with Rent(ec2, start_timeout_s=600) as rent:
        rent.launch(1)
    assert wait_until(lambda: bool(seen))
    content = yaml.safe_load(seen[0]["UserData"])
    files = {Path(each["path"]).name: each for each in content["write_files"]}
    assert ["systemctl", "enable", "--now", "mscourse-guard.timer"] in content["runcmd"]
    assert "OnUnitActiveSec=2min" in files["mscourse-guard.timer"]["content"]
    guard = files["mscourse-guard"]
    assert guard["permissions"] == "0755"
    assert f"ExecStart={guard['path']}" in files["mscourse-guard.service"]["content"]
    assert "-mmin +40" in guard["content"]  # a start may take ten minutes

    # Run it here, with commands that only note what they are called for.
    mark, off, agent = (tmp_path / name for name in ("mark", "off", "agent"))
    for name, lines in {"shutdown": f'echo "$@" >{off}', "pgrep": f"test -e {agent}"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{lines}\n")
        (tmp_path / name).chmod(0o700)
    script = guard["content"].replace("/run/mscourse-guard", str(mark))

    def look(minutes_later: float) -> bool:
        if mark.exists():
            then_s = mark.stat().st_mtime - 60 * minutes_later
            os.utime(mark, (then_s, then_s))
        path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
        subprocess.run(["sh", "-c", script], check=True, env={"PATH": path})
        return off.exists()

    assert not look(0)  # just booted
    assert not look(39)
    agent.touch()
    assert not look(39)
    assert not look(600)  # as long as an agent is there
    agent.unlink()
    assert not look(39)
    assert look(3)
    assert off.read_text() == "-h now\n"


def test_machines_that_have_not_come_up_are_stopped_when_they_have(rent: Rent) -> None:
    """AWS would refuse to stop any of them."""
    nodes = rent.launch(2)
    stops: list[str] = []
    session = rent.provider._session
    call = session.call

    def noted(name: str, **arguments: Any) -> Any:
        stops.append(name)
        return call(name, **arguments)

    session.call = noted  # type: ignore[method-assign]
    pending = [dataclasses.replace(each, state="pending") for each in nodes]
    rent.provider.stop(pending, rent.lines.append)
    assert "describe_instances" in stops[: stops.index("stop_instances")]
    assert {each.state for each in rent.provider.nodes("lab")} == {"stopped"}


# Machines that do not come


def test_machines_that_were_listed_as_stopped_and_start_are_waited_for(
    rent: Rent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when Ctrl-C comes while they start: EC2 does not stop what is pending."""
    rent.launch(3)
    rent.provider.stop(rent.provider.nodes(), rent.lines.append)
    listed = rent.provider.nodes()
    ids = [node.id for node in listed]
    rent.ec2.boots_after_s = 1.0
    rent.provider._session.call("start_instances", InstanceIds=ids)
    rent.ec2.alive()["node002"].terminate()  # by somebody else: it cannot be stopped, either
    states: list[str] = []

    def look(call: Any) -> None:
        if call.action == "StopInstances":
            asked = [value for key, value in call.parameters.items() if "InstanceId" in key]
            states.extend(i.state for i in rent.ec2.alive().values() if i.id in asked)

    rent.ec2.on_call = look
    rent.provider.stop(listed, rent.lines.append)
    assert states == ["running", "running"]
    assert {each.state for each in rent.ec2.alive().values()} == {"stopped"}


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


def test_a_spot_instance_that_is_taken_back_is_gone(rent: Rent) -> None:
    notices: list[str] = []
    ended: list[str] = []
    rent.ec2.on_notice = lambda instance_id, when: notices.append(instance_id)
    rent.ec2.on_ended = ended.append
    _, node, _ = rent.launch(spot_bid=0.2)
    rent.ec2.interrupt(node.id, after_s=0.2)
    assert wait_until(lambda: ended == [node.id])
    assert notices == [node.id]
    assert rent.names() == ["master", "node002"]
    reason = ec2instances.find_by_id(rent.provider._session, [node.id])[node.id]["StateReason"]
    assert reason["Code"] == "Server.SpotInstanceTermination"


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
    with pytest.raises(MissingPackageError, match=r"pip install 'mscourse\[cluster\]'"):
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
        assert provider.attach_volumes(node, print) == ()
        provider.close()


def test_the_default_template_tells_the_region(ec2: FakeEc2) -> None:
    template = dataclasses.replace(SETTINGS, region="eu-west-1")
    provider = Ec2Provider(Config(Path("cluster.ini"), templates={"small": template}))
    assert provider.region == "eu-west-1"
    provider.close()


def test_a_cluster_in_a_region_that_no_template_names_is_found_and_ended(
    rent: Rent, monkeypatch: pytest.MonkeyPatch
) -> None:
    rent.launch(1)
    elsewhere = dataclasses.replace(SETTINGS, region="us-west-2")
    manager = Manager(Config(Path("cluster.ini"), templates={"small": elsewhere}), print)
    try:
        with pytest.raises(ClusterError, match="list --all-regions"):
            manager.members("lab")
        manager.look_in_all_regions()
        (node,) = manager.members("lab")
        assert node.zone == "us-east-1a"

        def is_closed(_: str | None) -> list[Node]:
            raise CloudError("This account may not.")

        closed = manager._elsewhere["eu-west-1"]
        monkeypatch.setattr(closed, "nodes", is_closed)
        assert manager.nodes() == [node]
        assert manager.silent() == ["eu-west-1 could not be looked into. This account may not."]
        manager.terminate("lab")
        assert rent.provider.nodes() == []
    finally:
        for each in manager._providers.values():
            each.close()


def test_hooks_tell_when_machines_come_and_go(rent: Rent) -> None:
    came: list[str] = []
    went: list[str] = []
    rent.ec2.on_running = lambda instance: came.append(instance["InstanceId"])
    rent.ec2.on_ended = went.append
    (node,) = rent.launch(1)
    assert wait_until(lambda: came == [node.id])
    rent.provider.stop([node], rent.lines.append)
    assert wait_until(lambda: went == [node.id])
    rent.provider.start([node], rent.lines.append)
    assert wait_until(lambda: came == [node.id] * 2)
    rent.provider.terminate([node], rent.lines.append)
    assert wait_until(lambda: went == [node.id] * 2)
