"""The disks of a cluster on EC2 that outlive it."""

from __future__ import annotations

from typing import Any

import pytest
from rig.ec2 import FakeEc2
from rig.rent import Rent, changes

from mscourse.cluster.ec2volumes import AttachedVolume
from mscourse.cluster.nodes import MASTER, Node, Request
from mscourse.cluster.settings import Volume
from mscourse.errors import CloudError

# Where `ec2` and `rent` come from.
pytest_plugins = ["rig.rent"]


def volumes_of(rent: Rent, master: Node) -> tuple[AttachedVolume, ...]:
    """List the volumes that a master has when it is set up."""
    return rent.provider.attach_volumes(master, rent.lines.append)


def test_a_new_volume_is_of_the_master_and_outlives_the_cluster(ec2: FakeEc2) -> None:
    volume = Volume("results", "/data", size_gb=20)
    with Rent(ec2, volumes=(volume,)) as rent:
        master, _ = rent.launch(2)
        (attached,) = volumes_of(rent, master)
        assert (attached.device, attached.volume, attached.is_of_cluster) == (
            "/dev/sdf",
            volume,
            True,
        )
        serial = attached.id.replace("-", "")
        assert attached.paths[0] == f"/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_{serial}"
        assert attached.paths[1:] == ("/dev/xvdf", "/dev/sdf")
        made = ec2._backend.volumes[attached.id]
        assert made.attachment.instance.id == master.id
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
        assert volumes_of(rent, master)[0].id == attached.id
        assert (master.zone, master.instance_type) == ("us-east-1a", "c5a.xlarge")


def test_a_volume_given_by_its_id_decides_the_zone_and_is_not_changed(ec2: FakeEc2) -> None:
    theirs = ec2._backend.create_volume(size=50, zone_name="us-east-1c")
    volume = Volume("mine", "/data", volume_id=theirs.id)
    with Rent(ec2, volumes=(volume,)) as rent:
        master, node = rent.launch(2, spot_bid=0.2)
        assert master.zone == "us-east-1c"
        assert node.zone == "us-east-1a"  # the cheapest
        (attached,) = volumes_of(rent, master)
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
    for settings, says in cases:
        with Rent(ec2, **settings) as rent, pytest.raises(CloudError, match=says):
            rent.launch()
    assert not changes(ec2)


def test_a_volume_that_cannot_be_attached_leaves_nothing_behind(ec2: FakeEc2) -> None:
    ec2.fail("AttachVolume", "InvalidParameterValue", message="Not so.")
    with Rent(ec2, volumes=(Volume("results", "/data", size_gb=20),)) as rent:
        assert "Not so." in rent.refused()


def test_a_volume_that_was_detached_is_attached_when_its_master_is_set_up(ec2: FakeEc2) -> None:
    volumes = Volume("results", "/data", size_gb=20), Volume("more", "/more", size_gb=8)
    with Rent(ec2, volumes=volumes) as rent:
        (master,) = rent.launch(1)
        had = volumes_of(rent, master)
        assert "again." not in rent.told()
        ec2._backend.detach_volume(had[0].id, master.id, had[0].device)
        assert volumes_of(rent, master) == had
        assert f"The master has the volume results ({had[0].id}) again." in rent.told()
        # One that is nowhere is told: what is written to its folder would be lost.
        ec2._backend.detach_volume(had[1].id, master.id, had[1].device)
        ec2._backend.delete_volume(had[1].id)
        assert volumes_of(rent, master) == had[:1]
        assert "does not have the volume more: There is no such volume any more" in rent.told()
        assert "/more now is on the master's own disk, and is lost" in rent.told()
