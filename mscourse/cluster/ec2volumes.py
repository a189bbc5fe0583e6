"""Volumes: disks of their own, which the master has and which outlive the cluster."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mscourse.cluster.ec2errors import AwsError
from mscourse.cluster.ec2instances import (
    CLUSTER_TAG,
    VOLUME_TAG,
    tag_filter,
    tag_list,
    tags_of,
)
from mscourse.cluster.ec2session import AwsSession
from mscourse.cluster.nodes import Node, Progress
from mscourse.cluster.settings import Volume
from mscourse.errors import CloudError

# The names that EC2 recommends for disks beside the first one.
_DEVICES = tuple(f"/dev/sd{letter}" for letter in "fghijklmnop")

_LONGEST_PAUSE_S = 5.0
FIRST_PAUSE_S = 0.2


@dataclass(frozen=True)
class AttachedVolume:
    """A volume that a node has.

    Attributes
    ----------
    id : str
    device : str
        The name that it was attached under.
    volume : Volume or None
        What the template says of it, and where it is to be mounted; None if it says nothing.
    is_of_cluster : bool
        Whether it was made for the cluster, so that it is empty the first time.
    """

    id: str
    device: str
    volume: Volume | None
    is_of_cluster: bool

    @property
    def paths(self) -> tuple[str, ...]:
        """Where the node may have it, the likeliest first: its own system names disks as well."""
        serial = self.id.replace("-", "")
        return (
            f"/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_{serial}",
            self.device.replace("/dev/sd", "/dev/xvd"),
            self.device,
        )


@dataclass(frozen=True)
class WantedVolume:
    """A volume that the master is to have.

    Attributes
    ----------
    volume : Volume
    id : str or None
        None if it has to be made.
    zone : str or None
        Where it is; None if it can be made anywhere.
    device : str
    """

    volume: Volume
    id: str | None
    zone: str | None
    device: str


def find_volumes(
    session: AwsSession, cluster: str, volumes: Sequence[Volume]
) -> tuple[WantedVolume, ...]:
    """Look for the volumes of a template: those given by id, and those made for the cluster before.

    Raises
    ------
    CloudError
        One is not there, is in use, or they are not in one zone.
    """
    if len(volumes) > len(_DEVICES):
        raise CloudError(f"VOLUMES names {len(volumes)}; a master has at most {len(_DEVICES)}.")
    wanted = []
    for volume, device in zip(volumes, _DEVICES, strict=False):
        found = _find(session, cluster, volume)
        if found is None:
            wanted.append(WantedVolume(volume, None, None, device))
            continue
        id_, zone, state = found["VolumeId"], found["AvailabilityZone"], found["State"]
        if state != "available":
            users = ", ".join(each["InstanceId"] for each in found.get("Attachments", ()))
            raise CloudError(
                f"The volume {volume.name} ({id_}) is {state}"
                + (f", by {users}" if users else "")
                + ". It can be had by one machine at a time: wait, or terminate that one."
            )
        wanted.append(WantedVolume(volume, id_, zone, device))
    zones = {each.zone: each for each in wanted if each.zone is not None}
    if len(zones) > 1:
        places = ", ".join(f"{each.volume.name} is in {zone}" for zone, each in zones.items())
        raise CloudError(
            f"A machine has volumes of its own zone only, but {places}. Name volumes of one zone "
            "in VOLUMES, or copy one there by a snapshot."
        )
    return tuple(wanted)


def _find(session: AwsSession, cluster: str, volume: Volume) -> Mapping[str, Any] | None:
    if volume.volume_id is not None:
        found = session.listing("describe_volumes", "Volumes", VolumeIds=[volume.volume_id])
        if not found:
            raise CloudError(f"There is no volume {volume.volume_id} in {session.region}.")
        return found[0]
    made = made_volumes(session, cluster)
    return next((each for each in made if tags_of(each)[VOLUME_TAG] == volume.name), None)


def made_volumes(session: AwsSession, cluster: str) -> list[Mapping[str, Any]]:
    """List the volumes that were made for a cluster."""
    found = session.listing(
        "describe_volumes",
        "Volumes",
        Filters=[tag_filter(CLUSTER_TAG, cluster), {"Name": "tag-key", "Values": [VOLUME_TAG]}],
    )
    return [each for each in found if each["State"] not in ("deleting", "deleted")]


def make_volume(
    session: AwsSession, volume: Volume, zone: str, tags: Mapping[str, str], token: str
) -> str:
    """Make a volume, encrypted, and give its id; it is there a little later."""
    named = {
        **tags,
        "Name": f"{tags[CLUSTER_TAG]}-{volume.name}",
        VOLUME_TAG: volume.name,
    }
    answer = session.call(
        "create_volume",
        AvailabilityZone=zone,
        Size=volume.size_gb,
        VolumeType="gp3",
        Encrypted=True,
        ClientToken=token,
        TagSpecifications=[{"ResourceType": "volume", "Tags": tag_list(named)}],
    )
    return str(answer["VolumeId"])


def attach_volume(
    session: AwsSession, volume_id: str, instance_id: str, device: str, *, timeout_s: float
) -> None:
    """Attach a volume to an instance that runs, and wait until it is."""
    deadline_s = time.monotonic() + timeout_s
    _await_state(session, volume_id, ("available", "in-use"), deadline_s)
    try:
        session.call("attach_volume", VolumeId=volume_id, InstanceId=instance_id, Device=device)
    except AwsError as error:
        # Perhaps this call did it, and the answer was lost.
        if error.code != "VolumeInUse" or instance_id not in _users(session, volume_id):
            raise
    _await_state(session, volume_id, ("in-use",), deadline_s)


def attach_missing(
    session: AwsSession,
    master: Node,
    volumes: Sequence[Volume],
    progress: Progress,
    *,
    timeout_s: float,
) -> None:
    """Attach the volumes of a template that a master does not have, as after a stop by hand.

    Of one that cannot be attached, `progress` tells: what is meant for it would be lost.

    Parameters
    ----------
    session : AwsSession
    master : Node
        It runs.
    volumes : sequence of Volume
        All of the template.
    progress : callable
    timeout_s : float
    """
    attached = attached_volumes(session, master.id, volumes)
    has = {each.volume for each in attached}
    used = {each.device for each in attached}
    free = [device for device in _DEVICES if device not in used]
    for volume, device in zip([each for each in volumes if each not in has], free, strict=False):
        try:
            (wanted,) = find_volumes(session, master.cluster, [volume])
            if wanted.id is None:
                raise CloudError("There is no such volume any more.")
            attach_volume(session, wanted.id, master.id, device, timeout_s=timeout_s)
        except CloudError as error:
            progress(
                f"The master does not have the volume {volume.name}: {error} What is written to "
                f"{volume.mount_path} now is on the master's own disk, and is lost when the "
                "cluster is terminated."
            )
        else:
            progress(f"The master has the volume {volume.name} ({wanted.id}) again.")


def _users(session: AwsSession, volume_id: str) -> list[str]:
    found = session.listing("describe_volumes", "Volumes", VolumeIds=[volume_id])
    return [each["InstanceId"] for volume in found for each in volume.get("Attachments", ())]


def _await_state(
    session: AwsSession, volume_id: str, states: Sequence[str], deadline_s: float
) -> None:
    pause_s = FIRST_PAUSE_S
    while True:
        # Not by its id, which EC2 may not know for some seconds.
        found = session.listing(
            "describe_volumes", "Volumes", Filters=[{"Name": "volume-id", "Values": [volume_id]}]
        )
        state = found[0]["State"] if found else "not known"
        attachments = found[0].get("Attachments", ()) if found else ()
        is_settled = state != "in-use" or all(
            each.get("State", "attached") == "attached" for each in attachments
        )
        if state in states and is_settled:
            return
        if state in ("error", "deleting", "deleted") or time.monotonic() > deadline_s:
            raise CloudError(f"The volume {volume_id} is {state}, not {' or '.join(states)}.")
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def attached_volumes(
    session: AwsSession, instance_id: str, volumes: Iterable[Volume]
) -> tuple[AttachedVolume, ...]:
    """List the volumes that an instance has beside its own disk.

    Parameters
    ----------
    session : AwsSession
    instance_id : str
    volumes : iterable of Volume
        Those of the template.
    """
    by_id = {each.volume_id: each for each in volumes if each.volume_id is not None}
    by_name = {each.name: each for each in volumes if each.volume_id is None}
    found = session.listing(
        "describe_volumes",
        "Volumes",
        Filters=[{"Name": "attachment.instance-id", "Values": [instance_id]}],
    )
    attached = []
    for each in found:
        device = next(a["Device"] for a in each["Attachments"] if a["InstanceId"] == instance_id)
        name = tags_of(each).get(VOLUME_TAG)
        if device in _DEVICES:
            volume = by_id.get(each["VolumeId"]) or (by_name.get(name) if name else None)
            attached.append(AttachedVolume(each["VolumeId"], device, volume, name is not None))
    return tuple(sorted(attached, key=lambda each: each.device))
